"""What a first user of the Python API gets wrong, each answered by the argument, its value and what to write instead.

In a process of its own: the type checks of the tests would speak first.
"""

import json
import subprocess
import sys

MISTAKES = {
    "harp.weight_budget(model, keep='0.1')": "ValueError: keep='0.1' must lie in (0, 1]",
    "harp.weight_budget(model, keep=0.1, exclude='0.*')": "TypeError: exclude='0.*' must be a sequence",
    "harp.attach_masks(model, 0.1)": "TypeError: budget=0.1 must be a budget of this model, e.g. weight_budget(model",
    "harp.attach_masks(model, budget, 'harp')": "TypeError: method='harp' must be a Method: HARP, HYDRA, …, or METHODS",
    "harp.attach_masks(model, budget, harp.methods.METHODS['r-admm'])": "ValueError: method=METHODS['r-admm'] learns weights, before "
    "there are masks: add the loss of harp.pruning.Admm(model",
    "harp.Descent(model, budget, steps=9)": "ValueError: the model has no mask at ['0.weight', '3.weight']; call attach",
    "harp.freeze_masks(model)": "ValueError: the model has no masks; call attach_masks(model, budget) first",
    "harp.Threat('linf', eps='8/255')": "ValueError: eps='8/255' must lie in [0, 1]",
    "harp.PGD('linf')": "TypeError: threat='linf' must be a Threat, e.g. Threat('linf', eps=8 / 255)",
    "harp.pgd_at(threat)": "TypeError: attack=Threat(norm='linf', eps=0.1) must be an attack, (model, x, y) -> x_adv: PGD(",
    "harp.mart('pgd')": "TypeError: attack='pgd' must be an attack",
    "pgd(model, x * 255, y)": "ValueError: images x must lie in [0, 1], got values from 0 to 255; divide bytes by 255",
    "harp.evaluate(model, x)": "TypeError: data is a Tensor: expected Images, a tuple (images, labels) of tensors, a Dataset or",
    "harp.evaluate(model, (x * 255, y))": "ValueError: images lie in [0, 255]: expected [0, 1]. Divide by 255",
    "harp.evaluate(model, [*zip(x, y)])": "TypeError: data is a list: expected Images, a tuple (images, labels) of tensors",
    "harp.evaluate(model, images, images=9)": "ValueError: images=9 must lie in [1, 8]",
    "harp.evaluate(model, images, 'autoattack')": "TypeError: attack='autoattack' must be an attack",
    **{
        f"{loss}(model, x, y + 2)": "ValueError: labels y run from 2 to 9, and the model has 8 classes, numbered from 0"
        for loss in (
            "pgd",
            "harp.PGD(threat, loss='cw')",
            "harp.natural()",
            "harp.pgd_at(pgd)",
            "harp.trades(threat, steps=1)",
            "harp.mart(pgd)",
            "harp.n_fgsm(threat)",
            "harp.free_at(threat)",
        )
    },
    "harp.natural()(model, x, y - 1)": "ValueError: labels y run from -1 to 6",
}
PROGRAM = """
import json, sys
import torch
from torch import nn
import harp
from harp.data import InMemory

model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8))
x, y = torch.linspace(0, 1, 128).view(8, 1, 4, 4), torch.arange(8)
budget, threat, images = harp.weight_budget(model, keep=0.1), harp.Threat("linf", 0.1), InMemory(x, y)
pgd = harp.PGD(threat, steps=1)
said = []
for call in json.loads(sys.argv[1]):
    try:
        eval(call)
    except Exception as error:
        said.append(f"{type(error).__name__}: {error}")
    else:
        said.append("nothing")
print(json.dumps(said))
"""


def test_a_mistake_is_answered_by_the_argument_its_value_and_what_to_write_instead():
    call = [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(list(MISTAKES))]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for (mistake, expected), said in zip(MISTAKES.items(), json.loads(done.stdout), strict=True):
        assert said.startswith(expected), f"{mistake} says {said}"
