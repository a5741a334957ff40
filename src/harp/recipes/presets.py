"""Recipes by name. Paper settings: Zhao and Wressnegger, ICLR 2023, section 4 and appendix; the method 'harp' among them
comes down to the budget by harp's own descent, 'harp-published' by the paper's rule."""

from typing import Any

from harp.recipes.settings import Compute, Evaluating, Recipe, Task
from harp.recipes.training import Pruning, Training


def _presets() -> dict[str, tuple[str, Recipe]]:
    presets = {
        "digits": ("1,797 digits of 8x8 pixels, embedded; a few minutes on a laptop", _digits()),
        "fashion-mnist": ("70,000 garments of 28x28 pixels, a small network, for a CPU", _fashion_mnist()),
        "folder-cpu": ("any folder of 32x32 images, half a million weights, N-FGSM; for a CPU", _folder_cpu()),
    }
    names = {"vgg16": "vgg16_bn", "resnet18": "resnet18", "wrn28-4": "wrn28_4"}
    for data, title in (("cifar10", "CIFAR-10"), ("svhn", "SVHN")):
        for short, model in names.items():
            presets[f"{data}-{short}"] = (
                f"the paper's settings for {title} and {model}, but harp's descent; a GPU",
                _paper(data, model),
            )
    presets["cifar10-resnet18-flying-bird"] = (
        "Flying Bird at 20 % with the schedule of its paper, nearly from scratch; a GPU",
        _flying_bird(),
    )
    presets["imagenet-resnet50"] = (
        "the paper's settings for ImageNet and ResNet-50, Free-AT, but harp's descent; GPUs",
        _imagenet(),
    )
    return presets


def _paper(data: str, model: str) -> Recipe:
    """Section 4 of the paper: PGD-10, 100 + 20 + 100 epochs, eps 8/255."""
    attack: dict[str, Any] = {"attack_steps": 10, "attack_step_size": 2 / 255}
    return Recipe(
        task=Task(data=data, model=model, eps=8 / 255),
        pretrain=Training(epochs=100, **attack),
        prune=Pruning(epochs=20, **attack),
        finetune=Training(epochs=100, lr=0.01, **attack),
        test=Evaluating(images=None),
    )


def _flying_bird() -> Recipe:
    """Chen et al. 2022: 200 epochs of PGD-10 that begin sparse. Here a parent comes first, so an epoch makes one."""
    attack: dict[str, Any] = {"attack_steps": 10, "attack_step_size": 2 / 255}
    return Recipe(
        task=Task(data="cifar10", model="resnet18", eps=8 / 255),
        pretrain=Training(epochs=1, **attack),
        prune=Pruning(
            epochs=200, keep=0.2, method="flying-bird", bird_every=900, lr=0.1, schedule="piecewise", **attack
        ),
        finetune=Training(epochs=1, lr=0.001, **attack),
        test=Evaluating(images=None),
    )


def _imagenet() -> Recipe:
    """ImageNet as in the paper: epochs of Free-AT with 4 replays each. Pretraining has 90 / 4 epochs, as in the code of Free-AT."""
    common: dict[str, Any] = {"batch_size": 256, "weight_decay": 1e-4, "objective": "free-at", "replays": 4}
    return Recipe(
        task=Task(
            data="imagenet",
            model="resnet50",
            eps=4 / 255,
            validation=0.02,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        pretrain=Training(epochs=23, **common),
        prune=Pruning(epochs=5, gamma_step=0.1, **common),
        finetune=Training(epochs=25, lr=0.01, **common),
        test=Evaluating(images=5000),
        compute=Compute(workers=8, precision="bf16-mixed"),
    )


def _digits() -> Recipe:
    attack: dict[str, Any] = {"batch_size": 64, "attack_steps": 3}
    return Recipe(
        task=Task(data="digits", model="vgg_small", eps=0.2),
        pretrain=Training(epochs=20, **attack),
        prune=Pruning(epochs=20, **attack),
        finetune=Training(epochs=20, lr=0.05, **attack),
        test=Evaluating(images=200),
        compute=Compute(device="cpu", threads=1),  # on maps this small a second thread costs more than it brings
    )


def _fashion_mnist() -> Recipe:
    attack: dict[str, Any] = {"attack_steps": 5}
    return Recipe(
        task=Task(data="fashion-mnist", model="resnet_small", eps=0.1),
        pretrain=Training(epochs=20, **attack),
        prune=Pruning(epochs=10, **attack),
        finetune=Training(epochs=20, lr=0.05, **attack),
    )


def _folder_cpu() -> Recipe:
    return Recipe(
        task=Task(data="folder", model="vgg_medium", eps=8 / 255),
        # On 600 images the epochs alone would be 24, 16 and 20 steps, and the network would learn nothing.
        pretrain=Training(epochs=6, min_steps=400, objective="n-fgsm"),
        prune=Pruning(epochs=4, min_steps=250, objective="n-fgsm"),
        finetune=Training(epochs=5, min_steps=400, lr=0.1, objective="n-fgsm"),
        compute=Compute(device="cpu"),
    )


PRESETS = _presets()
"""name → (what it is, recipe)."""
