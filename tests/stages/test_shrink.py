"""From a channel-pruned run to a run of a smaller network, and everything that reads one."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harp.recipes import Compute, Evaluating, Pruning, Recipe, Task, Training
from harp.report import write_report
from harp.runs.images import open_data
from harp.runs.network import load_network
from harp.runs.opening import open_run
from harp.runtime.format import read
from harp.stages import shrink as shrinking
from harp.stages import train as stages
from harp.stages.evaluate import evaluate_run
from harp.stages.export import export_run
from harp.stages.shrink import shrink_run


@pytest.fixture
def recipe() -> Recipe:
    quick = {"batch_size": 20, "objective": "n-fgsm"}
    return Recipe(
        task=Task(data="tiny:data", model="tiny:network", eps=0.1, validation=0.2),
        pretrain=Training(epochs=1, **quick),
        prune=Pruning(epochs=2, keep=0.5, granularity="channel", **quick),
        finetune=Training(epochs=1, lr=0.01, **quick),
        compute=Compute(device="cpu"),
    )


@pytest.fixture
def final(tiny: Path, recipe: Recipe) -> Path:
    stages.pretrain(recipe, Path("dense"))
    stages.prune(recipe, Path("dense"), Path("pruned"))
    stages.finetune(recipe, Path("pruned"), Path("final"))
    return Path("final")


def card(path: Path) -> dict:
    return json.loads((path / "card.json").read_text())


def test_the_smaller_run_says_what_the_larger_says_and_is_understood_by_all(final: Path, recipe: Recipe):
    data = open_data(recipe)
    shrink_run(final, Path("small"))
    x, _ = next(iter(data.test.batches(torch.arange(24), 24)))
    large, small = load_network(open_run(final), data).eval(), load_network(open_run(Path("small")), data).eval()
    assert float((large(x) - small(x)).detach().abs().max()) <= 1e-5
    sizes = card(Path("small"))["shrunk"]
    assert sizes["after"]["macs"] == card(final)["channels"]["macs"]["kept"] <= 0.5 * sizes["before"]["macs"]
    assert sizes["after"]["parameters"] == sum(p.numel() for p in small.parameters())
    assert min(size["latency_s"] for size in sizes.values()) > 0
    settings = Evaluating(attack="pgd", images=12, steps=2)
    a, b = (evaluate_run(path, settings, recipe.compute) for path in (final, Path("small")))
    assert [found.correct for found in a] == [found.correct for found in b]
    stages.finetune(recipe, Path("small"), Path("later"))
    assert card(Path("later"))["kept"] == card(final)["kept"]
    load_network(open_run(Path("later")), data)
    write_report([Path("dense"), final, Path("small"), Path("later")], Path("report.html"))


def test_a_card_of_channels_counts_what_removal_leaves(final: Path):
    found = card(final)
    counts = {name: group["kept"] for name, group in found["channels"]["groups"].items()}
    assert counts == {"1": 4}
    assert found["layers"] == {"1.weight": {"kept": 36, "total": 72}, "5.weight": {"kept": 48, "total": 96}}
    assert found["channels"]["macs"] == {"kept": 4 * 9 * 4 + 4 * 4 * 3, "total": 8 * 9 * 4 + 32 * 3}


def test_masks_that_are_not_the_cards_are_noticed(final: Path, recipe: Recipe):
    told = card(final)
    told["channels"]["groups"]["1"]["kept"] = 3
    (final / "card.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="other channels than"):
        load_network(open_run(final), open_data(recipe))


def test_widths_that_do_not_fit_are_refused(final: Path, recipe: Recipe):
    shrink_run(final, Path("small"))
    widths = json.loads(Path("small/widths.json").read_text())
    widths["1"]["weight"][0] = 10**9
    Path("small/widths.json").write_text(json.dumps(widths))
    with pytest.raises(ValueError, match=r"1\.weight"):
        load_network(open_run(Path("small")), open_data(recipe))


@pytest.mark.parametrize(("path", "message"), [("dense", "has no masks on channels"), ("small", "shrunk already")])
def test_only_masks_on_channels_can_be_shrunk_and_once(final: Path, path: str, message: str):
    shrink_run(final, Path("small"))
    with pytest.raises(ValueError, match=message):
        shrink_run(Path(path), Path("other"))


def test_a_smaller_run_is_not_pruned_again(final: Path, recipe: Recipe):
    shrink_run(final, Path("small"))
    with pytest.raises(ValueError, match="pruned already"):
        stages.prune(recipe, Path("small"), Path("other"))


def test_shrinking_again_leaves_what_is_there(final: Path, monkeypatch: pytest.MonkeyPatch):
    shrink_run(final, Path("small"))
    monkeypatch.setattr(shrinking, "shrink", None)
    assert shrink_run(final, Path("small")).path == Path("small")


def test_robust_admm_prunes_channels_and_shrinks_exactly(tiny: Path, recipe: Recipe):
    recipe = replace(recipe, prune=replace(recipe.prune, method="r-admm", admm_rounds=2))
    stages.pretrain(recipe, Path("dense"))
    stages.prune(recipe, Path("dense"), Path("pruned"))
    shrink_run(Path("pruned"), Path("small"))
    assert card(Path("small"))["shrunk"]["after"]["macs"] <= 0.5 * card(Path("small"))["shrunk"]["before"]["macs"]


def test_an_exported_run_leaves_out_the_channels_that_were_pruned_shrunk_before_or_not(final: Path):
    shrink_run(final, Path("small"))
    (a, told), (b, same) = (read(export_run(path, Path(f"{path}.harp")).path) for path in (final, Path("small")))
    shapes = [{name: tensor.shape for name, tensor in node.tensors.items()} for node in a.nodes]
    assert shapes == [{name: tensor.shape for name, tensor in node.tensors.items()} for node in b.nodes]
    assert shapes[0]["weight"] == (4, 1, 3, 3)
    assert told["parameters"] == same["parameters"] == card(Path("small"))["parameters"]


def test_the_smaller_network_exports_to_onnx_with_the_same_outputs(final: Path, recipe: Recipe):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    shrink_run(final, Path("small"))
    export_run(Path("small"), Path("net.onnx"), format="onnx")
    data = open_data(recipe)
    x, _ = next(iter(data.test.batches(torch.arange(24), 24)))
    session = runtime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    ours = load_network(open_run(Path("small")), data).eval()(x).detach()
    assert float((torch.from_numpy(theirs) - ours).abs().max()) <= 1e-5


def test_the_example_runs():
    example = Path(__file__).parents[2] / "examples" / "channel_pruning.py"
    done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "of the multiplications" in done.stdout
