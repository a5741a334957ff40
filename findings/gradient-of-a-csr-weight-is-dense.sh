#!/usr/bin/env bash
# The gradient that torch computes for a sparse CSR weight is dense.
#
# torch 2.13.0. Expected: a weight kept as CSR with 1 % of its entries gets a gradient on those entries. Seen: weight.grad is a strided
# tensor of the full shape, a hundred times the numbers that the weight holds, and an SGD step on it raises or makes the weight
# dense. Sparse storage saves nothing while a network trains.
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

torch.manual_seed(0)
dense = torch.randn(256, 256) * (torch.rand(256, 256) < 0.01)
weight = dense.to_sparse_csr().requires_grad_()
(weight @ torch.randn(256, 3)).sum().backward()
gradient = weight.grad
print(f"the weight holds {weight.values().numel()} numbers, its gradient is {gradient.layout} with {gradient.numel()}")
sys.exit(not (gradient.layout == torch.strided and gradient.numel() == dense.numel()))
PYTHON
