"""Classify a folder of images with an exported network, and say how fast. Needs numpy, Pillow and harp; no torch.

python examples/deploy.py net.harp photos/ --threads 1
"""

import argparse
import sys
import time
from pathlib import Path

import harp.runtime

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("net", type=Path, help="a file that `harp export` wrote")
parser.add_argument("folder", type=Path, help="where the images are")
parser.add_argument("--threads", type=int, help="CPUs to use; all by default")
parser.add_argument("--batch", type=int, default=64, help="images at once")
asked = parser.parse_args()
session = harp.runtime.load(asked.net, threads=asked.threads)
begin = time.perf_counter()
try:
    found = session.classify(asked.folder, batch=asked.batch)  # reads images as the training did
except ValueError as error:
    sys.exit(f"deploy.py: {error}")
elapsed_s = time.perf_counter() - begin
for image in found:
    print(f"{image.path}\t{image.label if image.name is None else image.name}")
print(
    f"{len(found):,} images, {len(found) / elapsed_s:,.0f} per second on {session.threads} threads, decoding included"
)
