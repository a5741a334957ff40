"""Image files in, classes out, with what the file of the network says of its images."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import harp.runtime
from harp.runtime import Preprocessing, Session
from harp.runtime.format import write
from harp.runtime.graph import Graph, Node

POOL = Node("adaptive_avg_pool", (0,), {"size": (1, 1)})
BY_COLOUR = Graph((3, 4, 4), (POOL, Node("flatten", (1,))))
"""Its three logits are the mean red, green and blue of an image."""
COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}
CARD = {"classes": list(COLOURS), "preprocessing": Preprocessing((4, 4)).to_json()}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, (name, colour) in enumerate(COLOURS.items()):
        for suffix in ("png", "bmp"):
            folder = tmp_path / "photos" / "deeper" if suffix == "bmp" else tmp_path / "photos"
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (7 + number, 5), colour).save(folder / f"{name}.{suffix}")
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    (tmp_path / "photos" / "._red.png").write_text("hidden, and not an image")
    return tmp_path / "photos"


def session(card: dict | None = None, graph: Graph = BY_COLOUR) -> Session:
    return Session(graph, card=CARD if card is None else card, threads=2, autotune=False)


def test_every_image_of_a_directory_gets_its_class_in_the_order_of_the_names(photos: Path):
    found = session().classify(photos, batch=2)
    assert [one.path for one in found] == sorted(str(path) for path in photos.rglob("[rgb]*.*"))
    assert [one.name for one in found] == [Path(one.path).stem for one in found]
    assert [list(COLOURS)[one.label] for one in found] == [one.name for one in found]
    assert found[0].logits.tolist() == pytest.approx([0, 0, 250 / 255])


def test_files_are_taken_in_the_order_in_which_they_are_named(photos: Path):
    paths = [photos / "red.png", str(photos / "blue.png"), photos / "red.png"]
    assert [one.name for one in session().classify(paths)] == ["red", "blue", "red"]
    assert [one.path for one in session().classify(photos / "red.png")] == [str(photos / "red.png")]
    assert session().classify([]) == []


def test_a_file_without_class_names_gives_numbers(photos: Path):
    (found,) = session({"preprocessing": CARD["preprocessing"]}).classify([photos / "green.png"])
    assert (found.label, found.name) == (1, None)


def test_a_file_that_does_not_say_how_its_images_were_made_asks_for_it(photos: Path):
    bare = session({})
    assert (bare.preprocessing, bare.classes) == (None, None)
    with pytest.raises(ValueError, match=r"preprocessing=None.*harp\.runtime\.Preprocessing\(size=\(4, 4\)\)"):
        bare.classify([photos / "red.png"])
    assert bare.classify([photos / "red.png"], preprocessing=Preprocessing((4, 4)))[0].label == 0


@pytest.mark.parametrize("change", [{"mode": "L"}, {"size": "4"}, {"filter": "new"}])
def test_a_description_of_another_kind_is_refused_not_approximated(photos: Path, change):
    described = {**Preprocessing((4, 4)).to_json(), **change}
    with pytest.raises(ValueError, match=r"preprocessing.*(another version of harp|takes images of 3 channels)"):
        session({"preprocessing": described}).classify([photos / "red.png"])


def test_names_that_do_not_fit_the_network_are_refused(photos: Path):
    with pytest.raises(ValueError, match="names 2 classes and its network has 3"):
        session({**CARD, "classes": ["a", "b"]}).classify([photos / "red.png"])


def test_a_network_that_gives_a_map_cannot_classify(photos: Path):
    with pytest.raises(ValueError, match=r"gives \(3, 4, 4\) for an image"):
        session(graph=Graph((3, 4, 4), (Node("relu", (0,)),))).classify([photos / "red.png"])


def test_what_is_no_image_is_named(photos: Path, tmp_path: Path):
    for wrong in (photos / "notes.txt", photos / "gone.png"):
        with pytest.raises(ValueError, match=f"cannot read the image {wrong}"):
            session().classify([photos / "red.png", wrong])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no images: expected files ending in \.jpg"):
        session().classify(tmp_path / "empty")
    with pytest.raises(ValueError, match="batch=0: expected 1 or more"):
        session().classify(photos, batch=0)


WITHOUT = """
import sys

for name in {missing!r}:
    sys.modules[name] = None  # whoever asks for it fails
from harp.cli import main

sys.exit(main(sys.argv[1:]))
"""
TRAIN = ["torch", "tyro", "rich", "torchvision", "jaxtyping", "scipy", "sklearn", "safetensors", "lightning_fabric"]


def base_installation(*words: str, missing: list[str]) -> subprocess.CompletedProcess[str]:
    program = WITHOUT.format(missing=missing)
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=60)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    weight = np.zeros((3, 3), np.float32)
    np.fill_diagonal(weight, 1)
    nodes = (*BY_COLOUR.nodes, Node("linear", (2,), {}, {"weight": weight}))
    evaluations = [
        {"attack": "clean", "norm": None, "eps": None, "images": 40, "correct": 30},
        {"attack": "autoattack", "norm": "linf", "eps": 8 / 255, "images": 40, "correct": 20},
    ]
    card = {**CARD, "name": "HARP 33 %", "method": "harp", "model": "by_colour", "evaluations": evaluations}
    write(tmp_path / "net.harp", Graph(BY_COLOUR.input, nodes), card=card)
    return tmp_path / "net.harp"


def test_classify_works_in_a_base_installation(net: Path, photos: Path):
    done = base_installation("classify", str(net), str(photos), "--threads", "1", "--batch", "4", missing=TRAIN)
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(line.split("\t") for line in done.stdout.splitlines())
    assert found == {str(path): path.stem for path in photos.rglob("[rgb]*.*")}


def test_info_says_in_a_base_installation_what_a_file_holds(net: Path):
    done = base_installation("info", str(net), missing=[*TRAIN, "PIL"])
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "net.harp: HARP 33 %", "3 × 4 × 4", "3 of 9 (33.33%)", "3: red, green, blue", "1 linear",
        "upright (EXIF), RGB, the central part at 4 × 4 pixels (mean or bilinear)", "by_colour",
        "30/40", "autoattack, linf 0.03137",
    ):  # fmt: skip
        assert said in done.stdout, said


def test_a_base_installation_says_how_to_get_the_rest(net: Path, photos: Path):
    done = base_installation("prune", "runs/dense", missing=TRAIN)
    assert (done.returncode, done.stderr) == (
        2, "harp prune: tyro is not installed: pip install '.[train]' in a checkout of harp\n",
    )  # fmt: skip
    done = base_installation("classify", str(net), str(photos), missing=[*TRAIN, "PIL"])
    assert (done.returncode, done.stderr) == (
        2, "harp classify: reading image files needs Pillow: pip install pillow\n",
    )  # fmt: skip
    done = base_installation("info", str(photos), missing=TRAIN)
    assert done.returncode == 2
    assert "has no card.json: it is no run directory" in done.stderr
    done = base_installation("info", str(photos / "red.png"), missing=TRAIN)
    assert done.returncode == 2
    assert "red.png is not a network that this harp can run" in done.stderr
    assert "harp classify net.harp photos/" in base_installation("--help", missing=TRAIN).stdout


def test_running_arrays_needs_no_pillow(net: Path):
    program = f"""
import sys
sys.modules["PIL"] = None
import numpy as np, harp.runtime
print(harp.runtime.load({str(net)!r})(np.ones((1, 3, 4, 4), np.float32)).tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[[1.0, 1.0, 1.0]]\n", done.stderr
    assert harp.runtime.load(net, threads=1).classes == tuple(COLOURS)
