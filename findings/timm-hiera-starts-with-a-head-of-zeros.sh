#!/usr/bin/env bash
# A new timm Hiera or HieraDet answers exactly 0 to every image, and its loss has no gradient at the pixels.
#
# timm 1.0.31. Expected: an untrained network has small random weights in its classifier, so that outputs differ from image to
# image. Seen: weight and bias of the classifier are exactly 0. Whoever checks an export, a pruning or an attack on random
# weights compares 0 with 0 there: every result "agrees", and a gradient attack stays where it started. A Swin of the
# same library starts with a random classifier.
# Exits with 1 if that is no longer so. Everything stays in a temporary folder that is deleted at the end.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet timm==1.0.31 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import timm
import torch
import torch.nn.functional as F

seen = {}
for name in ("hiera_tiny_224", "hieradet_small", "swin_tiny_patch4_window7_224"):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10).eval()
    images = torch.rand(2, *model.pretrained_cfg["input_size"], requires_grad=True)
    logits = model(images)
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()
    head = max(float(p.detach().abs().max()) for p in model.get_classifier().parameters())
    seen[name] = [value == 0 for value in (head, float(logits.detach().abs().max()), float(images.grad.abs().max()))]
print("exactly 0 (classifier, logits, gradient at the pixels):", seen)
sys.exit([*seen.values()] != [[True] * 3, [True] * 3, [False] * 3])
PYTHON
