"""Build a network from its name: ours, torchvision's, or the user's own."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from harp.importing import import_factory
from harp.models.normalise import MeanStd, Normalize, Normalized
from harp.models.resnet import resnet18, resnet50
from harp.models.shape import Shape
from harp.models.small import resnet_small, vgg_medium, vgg_small, vgg_tiny
from harp.models.vgg import vgg16_bn, vgg16_bn_linear
from harp.models.wide_resnet import wrn28_4

MODELS: dict[str, Callable[[Shape, int], nn.Module]] = {
    "vgg_tiny": vgg_tiny,
    "vgg_small": vgg_small,
    "resnet_small": resnet_small,
    "vgg_medium": vgg_medium,
    "vgg16_bn": vgg16_bn,
    "vgg16_bn_linear": vgg16_bn_linear,
    "resnet18": resnet18,
    "wrn28_4": wrn28_4,
    "resnet50": resnet50,
}


def build_model(name: str, *, shape: Shape, classes: int, mean_std: MeanStd | None = None) -> nn.Module:
    """A fresh network for images of `shape` (channels, height, width), with `classes` outputs.

    `name` is one of MODELS, `tv:NAME` (or `torchvision:NAME`), `timm:NAME`, or `package.module:factory`, which is called with whichever of `shape`,
    `classes` and `num_classes` are its parameters. With `mean_std`, the network's first layer normalises: the layer
    `normalize` of our own models, and a wrapper around all others. Raises ValueError for a network that cannot take
    such images, or answers with anything but one logit a class.
    """
    if mean_std is not None and len(mean_std[0]) != shape[0]:
        raise ValueError(f"mean_std={mean_std}: expected {shape[0]} values each, as many as the images have channels")
    normalize = None if mean_std is None else Normalize(*mean_std)
    place, colon, factory = name.partition(":")
    if not colon:
        if name not in MODELS:
            raise ValueError(
                f"name={name!r}: {_nearest(name, list(MODELS))}; torchvision's are tv:NAME, timm's timm:NAME, your own "
                "are "
                "package.module:factory"
            )
        model = MODELS[name](shape, classes)
        if normalize is not None:
            model.normalize = normalize
        return model
    if place in ("tv", "torchvision"):
        model = _from_torchvision(name, factory, classes)
    elif place == "timm":
        model = _from_timm(factory, shape, classes)
    else:
        model = _from_factory(name, shape, classes)
    _try_out(name, model, shape, classes)
    return model if normalize is None else Normalized(normalize, model)


def _from_torchvision(given: str, name: str, classes: int) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ValueError(f"name={given!r}: {_nearest(name, known)}")
    return torchvision.models.get_model(name, weights=None, num_classes=classes)


def _from_timm(name: str, shape: Shape, classes: int) -> nn.Module:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ValueError(f"name='timm:{name}' needs timm, which is not installed: pip install timm") from error
    if not timm.is_model(name):
        raise ValueError(f"name='timm:{name}': {_nearest(name, timm.list_models(), 'timm.list_models()')}")
    return timm.create_model(name, pretrained=False, num_classes=classes, in_chans=shape[0])


def _from_factory(name: str, shape: Shape, classes: int) -> nn.Module:
    factory = import_factory(name)
    given = _arguments(factory, shape, classes)
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        raise TypeError(
            f"name={name!r}: {error}. It is called with whichever of shape, classes and num_classes are its parameters; "
            "give all others a default"
        ) from error
    model = factory(**given)
    if not isinstance(model, nn.Module):
        raise TypeError(f"name={name!r} returned {type(model).__name__}: expected an nn.Module")
    return model


def _arguments(factory: Callable[..., object], shape: Shape, classes: int) -> dict[str, Any]:
    parameters = inspect.signature(factory).parameters
    offered = {"shape": shape, "classes": classes, "num_classes": classes}
    return {name: value for name, value in offered.items() if name in parameters}


def _try_out(name: str, model: nn.Module, shape: Shape, classes: int) -> None:
    """Two blank images through the network, in eval and in training mode, which leave no trace in its buffers."""
    was_training, kept = model.training, {}
    for training in (False, True):  # eval first: it gives lazy layers their shapes, and their buffers
        mode = "training" if training else "eval"
        try:
            with torch.no_grad():
                answer = model.train(training)(torch.zeros(2, *shape))
        except Exception as error:  # a stranger's network may raise anything
            raise ValueError(
                f"name={name!r} cannot take images of shape {shape} (channels, height, width) in {mode} mode: {error}. "
                "Resize them (--task.image-size), or name a network that is made for them"
            ) from error
        if not isinstance(answer, Tensor) or answer.shape != (2, classes):
            got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise ValueError(
                f"name={name!r} answers two images with {got} in {mode} mode: expected the logits alone, {(2, classes)}, "
                f"for {classes} classes; a factory is told their number when it has the parameter `classes`"
            )
        for buffer, before in kept.items():
            buffer.copy_(before)
        kept = {buffer: buffer.clone() for buffer in model.buffers()}
    model.train(was_training)


def _nearest(name: str, known: list[str], all_of_them: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    return (
        f"no such model; did you mean {' or '.join(near)}?"
        if near
        else f"no such model; known are {all_of_them or ', '.join(known)}"
    )
