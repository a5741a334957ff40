#!/usr/bin/env bash
# Four counters of multiply-adds charge a transposed convolution for its output size, stride squared too much.
#
# thop 0.1.1.post2209072238, torchinfo 1.8.0, torchprofile 0.1.0, torch-pruning 1.6.1, torch 2.13.0. Expected: a transposed convolution
# multiplies every input pixel with every tap: 25 pixels * 4 * 6 channels * 4 taps = 2,400. Seen: 9,600 in all four, as if every output
# pixel took all taps; torch's own FlopCounterMode and fvcore 0.1.5.post20221221 say 2,400. A budget of multiply-adds on a decoder follows the counter.
# Exits with 1 if that is no longer so. Everything stays in a temporary folder that is deleted at the end.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet thop==0.1.1.post2209072238 torchinfo==1.8.0 torchprofile==0.1.0 torch-pruning==1.6.1 fvcore==0.1.5.post20221221 torch==2.13.0 torchvision==0.28.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import copy
import sys

import torch
import torch_pruning
from fvcore.nn import FlopCountAnalysis
from thop import profile
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchinfo import summary
from torchprofile import profile_macs

layer, x = nn.ConvTranspose2d(4, 6, 2, stride=2, bias=False), torch.rand(1, 4, 5, 5)
with FlopCounterMode(display=False) as counter:
    layer(x)
right = {"FlopCounterMode": counter.get_total_flops() // 2, "fvcore": FlopCountAnalysis(layer, x).total()}
wrong = {
    "thop": profile(copy.deepcopy(layer), (x,), verbose=False)[0],
    "torchinfo": summary(copy.deepcopy(layer), input_data=x, verbose=0).total_mult_adds,
    "torchprofile": profile_macs(copy.deepcopy(layer), x),
    "torch-pruning": torch_pruning.utils.count_ops_and_params(copy.deepcopy(layer), x)[0],
}
print(right, wrong)
sys.exit(not ({*map(int, right.values())} == {2400} and {*map(int, wrong.values())} == {9600}))
PYTHON
