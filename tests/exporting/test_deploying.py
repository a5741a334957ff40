"""The example for a target: it classifies a folder of images, without torch."""

import io
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import harp
from harp.runtime import Preprocessing, load

EXAMPLE = Path(__file__).parents[2] / "examples" / "deploy.py"
SERVER = EXAMPLE.with_name("serve.py")
WITHOUT_TORCH = """
import runpy, sys

sys.modules["torch"] = None  # whoever asks for it fails
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def deploy(*arguments: str) -> list[str]:
    call = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, str(EXAMPLE), *arguments]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_example_classifies_a_folder_as_the_model_does(channels, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3)).eval()
    classes = ["cat", "dog", "eel"]
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, channels), dtype=np.uint8)
    how = Preprocessing((8, 8), "L" if channels == 1 else "RGB").to_json()
    card = {"classes": classes, "preprocessing": how}
    harp.export(model, torch.rand(4, channels, 8, 8), tmp_path / "net.harp", card=card)
    for number, image in enumerate(pixels):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(image.squeeze()).save(tmp_path / "photos" / f"{number}.png")
    said = deploy(str(tmp_path / "net.harp"), str(tmp_path / "photos"), "--threads", "1", "--batch", "2")
    with torch.no_grad():
        expected = model(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).argmax(1)
    assert [line.split("\t")[1] for line in said[:-1]] == [classes[label] for label in expected]
    assert re.fullmatch(r"5 images, [\d,]+ per second on 1 threads, decoding included", said[-1])


def test_the_example_is_short():
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 50


@pytest.fixture
def net(tmp_path) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3)).eval()
    card = {"classes": ["cat", "dog", "eel"], "preprocessing": Preprocessing((8, 8)).to_json()}
    return harp.export(model, torch.rand(4, 3, 8, 8), tmp_path / "net.harp", card=card).path


@pytest.fixture
def address(net: Path) -> Iterator[str]:
    call = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, str(SERVER), str(net), "--port", "0"]
    server = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.communicate(timeout=30)


def post(address: str, content: bytes) -> dict:
    with urllib.request.urlopen(address, content, timeout=60) as answer:
        return json.loads(answer.read())


def test_a_server_answers_sixteen_threads_with_what_each_image_gets_alone(net, address, tmp_path):
    files = []
    for number in range(48):
        file = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 256, (9 + number % 5, 11, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        files.append(file.getvalue())
        (tmp_path / f"{number:02}.png").write_bytes(file.getvalue())
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda content: post(address, content), files))
    paths = [tmp_path / f"{number:02}.png" for number in range(48)]
    alone = [load(net, threads=1, autotune=False).classify([path])[0] for path in paths]
    assert [answer["name"] for answer in answers] == [found.name for found in alone]
    assert [answer["logits"] for answer in answers] == [found.logits.tolist() for found in alone]


def test_what_is_no_image_gets_an_answer_and_the_server_goes_on(address):
    for content, status in ((b"no image", 400), (b"", 413)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(address, content)
        assert refused.value.code == status
        assert "error" in json.loads(refused.value.read())
        refused.value.close()
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    assert post(address, file.getvalue())["name"] in ("cat", "dog", "eel")
