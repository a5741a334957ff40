"""Seconds of a training step on a GPU: a plain loop, masks as they are usually written, and harp's own steps.

All in turns, the least of several rounds. `plain` is adversarial training as it is usually written, without harp; `naive` sorts
the scores at every forward pass, as the published code does; `dense`, `prune` and `finetune` are harp's. Each with the attack passes
compiled (`+compiled`) and not; `naive` is not compiled. `floor` is what a dense step cannot go below: as many forward and backward
passes of the compiled network as the step has, and nothing else. bf16 and channels_last on a GPU, 32 bits on a CPU.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import parametrize

import harp
from harp.data import InMemory
from harp.models import build_model
from harp.recipes import Pruning, Training
from harp.stages.compiled import Compiled
from harp.training.distributed import place
from harp.training.loop import Course, train_step
from harp.training.optimizer import make_optimizer

EPS, STEP_SIZE, KEEP = 8 / 255, 2 / 255, 0.01
SLOTS = {True: 5.0, False: 200.0}
"""Seconds that a network and batch may take, by --quick: less is not begun."""
Step = Callable[[], object]


def measure(network: str, batch: int, device: torch.device, *, quick: bool) -> dict[str, object]:
    """The least seconds of each variant, and what they are relative to the plain loop."""
    attack_steps, rounds, warm = (2, 2, 1) if quick else (10, 10, 3)
    x = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(
        device, memory_format=torch.channels_last
    )
    y = (torch.arange(batch) % 10).to(device)
    compiles = (False, True) if device.type == "cuda" else (False,)
    steps: dict[str, Step] = {}
    for compiled in compiles:
        mark = "+compiled" if compiled else ""
        steps[f"plain{mark}"] = plain_step(new(network, device), x, y, attack_steps, compiled=compiled)
        for kind in ("dense", "prune", "finetune"):
            steps[f"{kind}{mark}"] = our_step(kind, new(network, device), x, y, attack_steps, compiled=compiled)
    steps["naive"] = plain_step(with_naive_masks(new(network, device)), x, y, attack_steps, compiled=False)
    steps["floor"] = floor_step(new(network, device), x, y, attack_steps, compiled=device.type == "cuda")
    seconds = {name: [seconds_of(step, device) for _ in range(warm)][:0] for name, step in steps.items()}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(seconds_of(step, device))
    least = {name: min(each) for name, each in seconds.items()}
    ratios = {name: value / least["plain" + "+compiled" * name.endswith("+compiled")] for name, value in least.items()}
    return {"attack_steps": attack_steps, "rounds": rounds, "least_s": least, "of_plain": ratios, "all_s": seconds}


def new(network: str, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return place(build_model(network, shape=(3, 32, 32), classes=10), device, channels_last=True).train()


def seconds_of(step: Step, device: torch.device) -> float:
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def image_gradient(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    x = x.detach().requires_grad_(True)
    with autocast(x.device):
        loss = F.cross_entropy(model(x).float(), y)
    return torch.autograd.grad(loss, x)[0]


def plain_step(model: nn.Module, x: Tensor, y: Tensor, attack_steps: int, *, compiled: bool) -> Step:
    """Adversarial training as it is usually written; the weights' gradients are off while images are attacked, as in harp."""
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.01, momentum=0.9, weight_decay=5e-4)
    asked = torch.compile(model, dynamic=False) if compiled else model

    def step() -> float:
        model.eval()
        for parameter in learning:
            parameter.requires_grad_(False)
        x_adv = (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1)
        for _ in range(attack_steps):
            x_adv = x_adv.detach() + STEP_SIZE * image_gradient(asked, x_adv, y).sign()
            x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0, 1)
        model.train()
        for parameter in learning:
            parameter.requires_grad_(True)
        with autocast(x.device):
            loss = F.cross_entropy(model(x_adv).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def floor_step(model: nn.Module, x: Tensor, y: Tensor, attack_steps: int, *, compiled: bool) -> Step:
    """The passes of a step and nothing else: those of the attack in eval mode, and one with the gradients of the weights."""
    asked = torch.compile(model, dynamic=False) if compiled else model
    learning = list(model.parameters())

    def step() -> None:
        model.eval().requires_grad_(False)
        for _ in range(attack_steps):
            image_gradient(asked, x, y)
        model.train().requires_grad_(True)
        with autocast(x.device):
            loss = F.cross_entropy(asked(x).float(), y)
        torch.autograd.grad(loss, learning)

    return step


class Naive(nn.Module):
    """weight ⊙ mask of the largest scores, found anew at every forward pass; straight through to the scores."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.scores = nn.Parameter(weight.detach().abs().clone())

    def forward(self, weight: Tensor) -> Tensor:
        size = self.scores.abs()
        kept = size.flatten().sort(descending=True).indices[: max(1, round(KEEP * size.numel()))]
        mask = torch.zeros_like(size).flatten().index_fill(0, kept, 1.0).view_as(size)
        return weight.detach() * (mask + size - size.detach())


def with_naive_masks(model: nn.Module) -> nn.Module:
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            parametrize.register_parametrization(module, "weight", Naive(module.weight))
            module.parametrizations["weight"].original.requires_grad_(False)
    return model


def our_step(kind: str, model: nn.Module, x: Tensor, y: Tensor, attack_steps: int, *, compiled: bool) -> Step:
    """The step of harp's stages."""
    rule, settings = None, Pruning(lr=0.01) if kind == "prune" else Training(lr=0.01)
    if kind != "dense":
        budget = harp.weight_budget(model, keep=KEEP)
        harp.attach_masks(model, budget, harp.methods.HARP if kind == "prune" else harp.methods.LWM)
        rule = harp.Descent(model, budget, steps=1000) if kind == "prune" else None
        if kind == "finetune":
            harp.freeze_masks(model)
    precision = "bf16-mixed" if x.device.type == "cuda" else "32-true"
    fabric = Fabric(accelerator=x.device.type, devices=1, precision=precision)
    optimizer = fabric.setup_optimizers(make_optimizer(model, settings, rule=rule))
    attack = harp.PGD(harp.Threat("linf", EPS), steps=attack_steps, step_size=STEP_SIZE)
    images = InMemory(x.cpu().contiguous(), y.cpu())
    course = Course(
        *("gpu", settings, harp.pgd_at(attack), images, lambda model: (0.0, 0.0), 0),
        rule=rule,
        attacked=Compiled() if compiled else None,
    )
    return lambda: train_step(model, course, fabric, optimizer, x, y).item()
