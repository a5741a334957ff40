#!/usr/bin/env bash
# A step of a fused SGD or AdamW changes a parameter and leaves its version counter as it was.
#
# torch 2.13.0. Expected: `_version`, which autograd uses to notice that a saved tensor was changed in place, goes up with
# every in-place change; with foreach=True and in the plain loop it does. Seen: after a step with fused=True the values
# differ and the counter does not. A cache keyed on the counter goes stale, and a backward pass through the old value
# raises nothing. Fused is what AdamW(fused=True) asks for on a CPU, too.
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


def raised(kind: type[torch.optim.Optimizer], **how: bool) -> int:
    """By how much a step that changes a parameter raises its version counter."""
    parameter = torch.nn.Parameter(torch.ones(4))
    optimizer = kind([parameter], lr=0.1, **how)
    parameter.square().sum().backward()
    values, version = parameter.detach().clone(), parameter._version
    optimizer.step()
    assert not torch.equal(parameter, values), "the step changed nothing"
    return parameter._version - version


def complains(**how: bool) -> bool:
    """Whether a backward pass through a value that a step has changed meanwhile is refused."""
    parameter = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.SGD([parameter], lr=0.1, **how)
    parameter.grad = torch.ones(4)
    loss = parameter.square().sum()
    optimizer.step()
    try:
        loss.backward()
    except RuntimeError:
        return True
    return False


ways = {"plain loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
found = {(kind.__name__, name): raised(kind, **how) for kind in (torch.optim.SGD, torch.optim.AdamW) for name, how in ways.items()}
for (kind, name), by in found.items():
    print(f"{kind}, {name}: the counter rises by {by}")
noticed = {name: complains(**how) for name, how in ways.items()}
print(f"backward through the changed value is refused: {noticed}")
stale = all((by == 0) == (name == "fused") for (_, name), by in found.items())
sys.exit(not (stale and noticed == {"plain loop": True, "foreach": True, "fused": False}))
PYTHON
