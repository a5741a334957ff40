#!/usr/bin/env bash
# torchinfo counts the multiplications of a linear layer once, however many tokens it is applied to.
#
# torchinfo 1.8.0, torch 2.13.0. Expected: nn.Linear(16, 8) on 7 tokens takes 7 * 16 * 8 = 896 multiply-adds. Seen: 128, for 7 tokens as
# for 700. So the linear layers of a vision transformer, which are nearly all of it, are counted 197 times too low, while a 1x1
# convolution of the same arithmetic is counted right.
# Exits with 1 if that is no longer so. Everything stays in a temporary folder that is deleted at the end.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet torchinfo==1.8.0 torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torch import nn
from torchinfo import summary

linear = [summary(nn.Linear(16, 8, bias=False), input_data=torch.rand(1, n, 16), verbose=0).total_mult_adds for n in (7, 700)]
convolution = summary(nn.Conv1d(16, 8, 1, bias=False), input_data=torch.rand(1, 16, 7), verbose=0).total_mult_adds
print(f"linear layer on 7 tokens {linear[0]}, on 700 {linear[1]}; the same as a convolution over 7 places {convolution}")
sys.exit(not (linear == [128, 128] and convolution == 896))
PYTHON
