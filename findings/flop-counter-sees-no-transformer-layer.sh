#!/usr/bin/env bash
# torch's FlopCounterMode counts 0 operations for an nn.TransformerEncoderLayer in eval mode, and for an nn.LSTM.
#
# torch 2.13.0 on a CPU. Expected: the counter sees every product of a forward pass, whatever mode the module is in. Seen: the layer
# takes a fused path in eval mode without gradients, of which the counter knows nothing: 0, against 20,480 in train mode. An
# LSTM is 0 in either mode, a GRU of the same size is counted. torch.backends.mha.set_fastpath_enabled(False) and
# torch.backends.mkldnn.flags(enabled=False) bring the numbers back.
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
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count(module: nn.Module, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    return counter.get_total_flops()


layer, tokens = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), torch.rand(1, 5, 16)
seen = {"layer, train": count(layer.train(), tokens), "layer, eval": count(layer.eval(), tokens)}
torch.backends.mha.set_fastpath_enabled(False)
seen["layer, eval, without the fast path"] = count(layer, tokens)
lstm, gru, series = nn.LSTM(8, 16), nn.GRU(8, 16), torch.rand(5, 1, 8)
seen |= {"LSTM": count(lstm, series), "GRU": count(gru, series)}
with torch.backends.mkldnn.flags(enabled=False):
    seen["LSTM, without oneDNN"] = count(lstm, series)
print(seen)
sys.exit([*seen.values()] != [20480, 0, 20480, 0, 11520, 15360])
PYTHON
