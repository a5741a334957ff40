#!/usr/bin/env bash
# On a CPU, autocast leaves log_softmax and softmax of bfloat16 logits in bfloat16; on CUDA both are on the float32 list.
#
# torch 2.13.0. Expected: the same list of operations in float32 on both devices, since a loss in bfloat16 is of no use. Seen: log_softmax returns
# bfloat16, and the Kullback-Leibler divergence of two equal-looking distributions, which cannot be negative, is below zero for
# some images. cross_entropy is right, it returns float32. Losses on logits have to call .float() themselves.
# Exits with 1 if that is no longer so. Everything stays in a temporary folder that is deleted at the end.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

torch.manual_seed(0)
logits = torch.randn(256, 10).bfloat16()
near = logits + 0.01 * torch.randn(256, 10).bfloat16()
with torch.autocast("cpu", dtype=torch.bfloat16):
    types = log_softmax(logits, 1).dtype, softmax(logits, 1).dtype, cross_entropy(logits, logits.argmax(1)).dtype
    divergence = kl_div(log_softmax(near, 1), softmax(logits, 1), reduction="none").sum(1)
print(f"log_softmax {types[0]}, softmax {types[1]}, cross_entropy {types[2]}; smallest divergence {divergence.min():.1e}")
sys.exit(not (types == (torch.bfloat16, torch.bfloat16, torch.float32) and divergence.min() < -1e-4))
PYTHON
