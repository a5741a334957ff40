"""The example for a target: it classifies a folder of images, without torch."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import harp
from harp.runtime import Preprocessing

EXAMPLE = Path(__file__).parents[2] / "examples" / "deploy.py"
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
