"""Exporting a finished run: its network, checked on its validation images, with what its card says."""

import hashlib
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harp import cli
from harp.cards import Evaluation
from harp.checkpoint import save_tensors
from harp.exporting import rebuild
from harp.files import read_json, write_json
from harp.recipes import Pruning, Recipe, Task
from harp.runs.directory import RunDirectory
from harp.runs.images import open_data
from harp.runs.network import build_network, load_network
from harp.runs.opening import open_run
from harp.runtime import load
from harp.runtime.format import read
from harp.stages import train as stages
from harp.stages.export import export_run

EVALUATION = Evaluation("clean", None, None, images=24, correct=16, seed=0, elapsed_s=0.1, right="ff00ff").to_json()


@pytest.fixture
def run(tiny: Path) -> Path:
    """A pruned run of `tiny`, whose test split must not be read."""
    task = Task(data="tiny:sealed_data", model="tiny:network", mean=(0.4,), std=(0.3,))
    recipe = Recipe(task, prune=Pruning(keep=0.25, method="lwm"))
    torch.manual_seed(0)
    save_tensors(Path("start.safetensors"), build_network(recipe, open_data(recipe)).state_dict())
    stages.pretrain(recipe, Path("dense"), weights=Path("start.safetensors"))
    stages.prune(recipe, Path("dense"), Path("pruned"))
    card = RunDirectory(Path("pruned")).card
    write_json(card, {**read_json(card), "evaluations": [EVALUATION]})
    return Path("pruned")


def test_the_file_computes_what_the_run_does_without_a_look_at_test_images(run):
    done = export_run(run, Path("net.harp"))
    x = torch.rand(5, 1, 4, 4)
    model = load_network(open_run(run), importlib.import_module("tiny").data()).eval()
    torch.testing.assert_close(rebuild(read(done.path)[0])(x), model(x))
    assert (done.kept, done.total) == (42, 168)
    assert done.agreement.images == 6  # a tenth of the training images, of each class alike


def test_the_card_of_the_run_travels_in_the_file_without_its_bulk(run):
    done = export_run(run, Path("net.harp"))
    card, own = read(done.path)[1], read_json(run / "card.json")
    for key in ("name", "method", "keep", "kept", "total", "classes", "data", "model", "seed"):
        assert card[key] == own[key]
    assert card["evaluations"] == [{key: value for key, value in EVALUATION.items() if key != "right"}]
    assert card["run"] == "pruned"
    assert card["made_by"]["commit"] == own["environment"]["commit"]
    assert card["model_sha256"] == hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    assert "layers" not in card


def test_the_run_is_left_as_it_is(run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    export_run(run, Path("net.harp"))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "a run of before"])
def test_image_files_get_the_logits_that_the_trained_network_gives_its_own_reading_of_them(tiny, recorded):
    """From a folder of photographs, over training and export, to the files again: the same pixels."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 2)):
        for name in ("cat", "dog"):
            for number in range(count):
                path = Path("photos", part, name, f"{number}.jpg")
                path.parent.mkdir(parents=True, exist_ok=True)
                exif = Image.Exif()
                exif[0x0112] = number % 8 + 1
                Image.fromarray(rng.integers(0, 256, (13 + number, 19, 3), np.uint8)).save(path, exif=exif)
    task = Task(data="folder", root=Path("photos"), image_size=8, model="vgg_tiny", validation=0.2)
    recipe = Recipe(task)
    data = open_data(recipe)
    torch.manual_seed(0)
    save_tensors(Path("start.safetensors"), build_network(recipe, data).state_dict())
    stages.pretrain(recipe, Path("dense"), weights=Path("start.safetensors"))
    card = read_json(Path("dense/card.json"))
    assert data.preprocessing is not None
    assert card["preprocessing"] == data.preprocessing.to_json()
    if not recorded:
        write_json(Path("dense/card.json"), {key: card[key] for key in card if key != "preprocessing"})
    session = load(export_run(Path("dense"), Path("net.harp")).path, threads=1, autotune=False)
    assert (session.classes, session.preprocessing) == (("cat", "dog"), data.preprocessing)
    x, _ = next(data.test.batches(torch.arange(4), 4))
    found = session.classify("photos/test")
    assert [one.path for one in found] == [f"photos/test/{name}/{n}.jpg" for name in ("cat", "dog") for n in (0, 1)]
    assert np.array_equal(np.stack([one.logits for one in found]), session(x.numpy()))
    expected = load_network(open_run(Path("dense")), data).eval()(x).detach().numpy()
    np.testing.assert_allclose(session(x.numpy()), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_data_set_that_does_not_say_how_its_images_were_made_is_exported_without(run):
    assert read(export_run(run, Path("net.harp")).path)[1].get("preprocessing") is None


def test_a_dense_run_can_be_exported_too(run):
    done = export_run(Path("dense"), Path("dense.harp"))
    assert done.kept == done.total == 168
    assert read(done.path)[1]["name"] == "Dense"


def test_a_file_is_replaced_only_when_asked_for(run, capsys):
    Path("net.harp").write_text("mine")
    assert cli.main(["export", str(run), "--out", "net.harp"]) == 2
    assert "net.harp is there already; replace it with --overwrite" in capsys.readouterr().err
    assert Path("net.harp").read_text() == "mine"
    assert cli.main(["export", str(run), "--out", "net.harp", "--overwrite", "--values", "f16"]) == 0
    said = capsys.readouterr().out
    size, dense = Path("net.harp").stat().st_size, 4 * (8 * 9 + 8 + 8 + 32 * 3 + 3)
    assert "42 of 168 weights are not zero" in said
    assert f"{size:,} bytes in net.harp: " in said
    assert f"dense float32 ({dense:,} bytes)" in said
    assert "Checked on 6 validation images: in harp.runtime logits are off by at most 0.0" in said


def test_f16_is_refused_by_its_tolerance(run, capsys):
    assert cli.main(["export", str(run), "--out", "a.harp", "--values", "f16", "--tolerance", "1e-9"]) == 2
    assert "tolerance=1e-09 allows less; nothing was written. Export values='f32'" in capsys.readouterr().err
    assert not Path("a.harp").exists()


def test_what_is_no_finished_run_is_refused(tiny):
    with pytest.raises(ValueError, match="nothing is not a run directory"):
        export_run(Path("nothing"), Path("net.harp"))


@pytest.mark.slow
def test_onnx_is_one_flag_away(run, capsys):
    pytest.importorskip("onnxruntime")
    assert cli.main(["export", str(run), "--out", "net.onnx", "--format", "onnx"]) == 0
    assert "bytes in net.onnx" in capsys.readouterr().out


def test_c_for_a_microcontroller_is_one_flag_away(run, capsys, monkeypatch):
    monkeypatch.setenv("CC", "")
    assert cli.main(["export", "pruned", "--out", "net.c", "--format", "c", "--values", "int8"]) == 0
    said = capsys.readouterr().out
    assert "bytes of constants in net.c" in said
    assert "bytes of static memory for values" in said
    assert "const char* const net_classes[" in Path("net.h").read_text()
    Path("net.c").unlink()
    assert cli.main(["export", "pruned", "--out", "net.c", "--format", "c"]) == 2
    assert "net.h is there already; replace it with --overwrite" in capsys.readouterr().err
