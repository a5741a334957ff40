"""The images of the anchor protocol: 16x16 means of CIFAR-10 (JPEG) photographs, by a fixed list of indices."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from harp.data import Augment, ImageData, InMemory
from harp.evaluation import evaluation_order

SHARED = Path(os.environ.get("HARP_SHARED", Path(__file__).parent.parent.parent / "shared"))
CACHE = Path("runs") / "anchor-images.npz"
SPLITS = {"train": "train", "val": "train", "test": "test"}
"""split → the tree its photographs come from."""


def pretrained(seed: int) -> Path:
    """The weights of the protocol's robust parent; there is one for seeds 0 and 1."""
    return SHARED / "anchor" / f"pretrained_s{seed}.safetensors"


def anchor_images() -> ImageData:
    """10,000 training, 1,000 selection and 2,000 test images, float32 in [0, 1], no augmentation."""
    if not CACHE.exists():
        build(CACHE)
    with np.load(CACHE) as arrays:
        splits = {part: _split(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in SPLITS}
        classes = tuple(arrays["classes"].tolist())
    test = splits["test"]
    # The protocol attacks the first 1,000 test images, and harp those that come first in its own order.
    test = test.subset(evaluation_order(len(test)).argsort())
    return ImageData("anchor", classes, splits["train"], test, splits["val"])


def _split(x: np.ndarray, y: np.ndarray) -> InMemory:
    return InMemory(torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(y), Augment())


def build(out: Path) -> None:
    """Read the photographs in order of class and file name, average blocks of 2x2 pixels, keep the listed rows."""
    source = SHARED / "data" / "cifar10-jpeg.zip"
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; set HARP_SHARED to the folder that holds data/ and anchor/")
    photographs = zipfile.ZipFile(source)
    index = np.load(SHARED / "anchor" / "subset_idx.npz")
    names = sorted(name for name in photographs.namelist() if name.endswith(".jpg"))
    classes = sorted({name.split("/")[1] for name in names})
    arrays: dict[str, np.ndarray] = {"classes": np.array(classes)}
    for part, tree in SPLITS.items():
        of_tree = [name for name in names if name.startswith(f"{tree}/")]
        chosen = [of_tree[i] for i in index[part]]
        pixels = [np.asarray(Image.open(io.BytesIO(photographs.read(name))).convert("RGB")) for name in chosen]
        x = np.stack(pixels).astype(np.float32) / 255
        arrays[f"x_{part}"] = x.reshape(len(x), 16, 2, 16, 2, 3).mean((2, 4), dtype=np.float32)
        arrays[f"y_{part}"] = np.array([classes.index(name.split("/")[1]) for name in chosen], np.int64)
    out.parent.mkdir(parents=True, exist_ok=True)
    mine = out.with_name(f"{out.stem}-{os.getpid()}.npz")  # several processes may build it at once
    np.savez(mine, **arrays)
    mine.replace(out)
