#!/usr/bin/env bash
# FastGradientMethod(minimal=True) of the Adversarial Robustness Toolbox may never try eps itself.
#
# adversarial-robustness-toolbox 1.20.1, torch 2.13.0. Expected: the search for the smallest step up to eps finds whatever the plain attack at eps finds.
# Seen: with eps=0.02 and eps_step=0.002 fewer images fall than without minimal. The radius is a running sum, ten times 0.002 is
# 0.020000000000000004 in floating point, that is above eps, and the last radius is 0.018.
# Exits with 1 if that is no longer so. Everything stays in a temporary folder that is deleted at the end.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet adversarial-robustness-toolbox==1.20.1 packaging==25.0 torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from art.attacks.evasion import FastGradientMethod
from art.estimators.classification import PyTorchClassifier
from torch import nn

torch.manual_seed(0)
net, eps = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False)).eval(), 0.02
x = torch.rand(200, 1, 8, 8) * 0.5 + 0.25
with torch.no_grad():
    logits, slope = net(x), (net[1].weight[0] - net[1].weight[1]).abs().sum()
    y, margins = logits.argmax(1), (logits[:, 0] - logits[:, 1]).abs() / slope
classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 8, 8), 2, clip_values=(0, 1), device_type="cpu")


def left(**settings) -> int:
    found = FastGradientMethod(classifier, eps=eps, **settings).generate(x.numpy(), y.numpy())
    with torch.no_grad():
        return int((net(torch.from_numpy(found)).argmax(1) == y).sum())


seen = {"plain": left(), "minimal": left(minimal=True, eps_step=eps / 10)}
exact = {radius: int((margins > radius).sum()) for radius in (eps, 0.9 * eps)}
print(f"of 200 images stand {seen}; by the closed form {exact[eps]} at eps and {exact[0.9 * eps]} at 0.9 eps")
sys.exit(not (seen["plain"] == exact[eps] and seen["minimal"] == exact[0.9 * eps] > exact[eps]))
PYTHON
