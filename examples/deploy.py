"""Classify a folder of images with an exported network, and say how fast. Needs numpy, Pillow and harp; no torch.

python examples/deploy.py net.harp photos/ --threads 1
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import harp.runtime

KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm")


def pixels(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The central part of an image at the network's size: uint8 (height, width, channels)."""
    channels, height, width = shape
    with Image.open(path) as image:
        fitted = ImageOps.fit(
            image.convert("RGB" if channels == 3 else "L"), (width, height), Image.Resampling.BILINEAR
        )
    return np.asarray(fitted).reshape(height, width, channels)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("net", type=Path, help="a file that `harp export` wrote")
parser.add_argument("folder", type=Path, help="where the images are")
parser.add_argument("--threads", type=int, help="CPUs to use; all by default")
parser.add_argument("--batch", type=int, default=64, help="images at once")
asked = parser.parse_args()
session = harp.runtime.load(asked.net, threads=asked.threads)
classes = session.card.get("classes")
paths = sorted(path for path in asked.folder.rglob("*") if path.suffix.lower() in KINDS)
if not paths:
    parser.error(f"{asked.folder} holds no images: expected files ending in {', '.join(KINDS)}")
elapsed_s = 0.0
for start in range(0, len(paths), asked.batch):
    chosen = paths[start : start + asked.batch]
    images = np.stack([pixels(path, session.input) for path in chosen])
    begin = time.perf_counter()
    logits = session(images)
    elapsed_s += time.perf_counter() - begin
    for path, label in zip(chosen, logits.argmax(1), strict=True):
        print(f"{path}\t{classes[label] if classes else label}")
print(f"{len(paths):,} images, {len(paths) / elapsed_s:,.0f} a second on {session.threads} threads, decoding aside")
