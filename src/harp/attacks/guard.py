"""The guard in front of every attack, loss and evaluation: what images, labels and a model must be, and how it is asked.

Each of them begins with `as_images`, asks the model by `logits_of` and takes labels from `as_labels`. Attacks run inside
`attacking`.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from weakref import WeakSet

import torch
from torch import Tensor, nn

_trained: WeakSet[nn.Module] = WeakSet()
"""Models in training mode on a GPU whose first images were looked at."""


def as_images(model: nn.Module, x: Tensor) -> Tensor:
    """The images as a normal tensor, which gradients can pass. Raises what `check_images` does.

    To look at pixels on a GPU stops the processor until the GPU is idle, so a training step there looks at the model's
    first batch only: images of the wrong scale are wrong from the start. In eval mode, and on a CPU, each batch is looked at.
    """
    check_module(model)
    if not (_is_on_gpu(x) and _trains(model)):
        check_images(x)
    elif model not in _trained:
        check_images(x)
        _trained.add(model)
    return _normal(x)


def check_images(x: Tensor) -> None:
    """Raises ValueError unless x holds one image or more with pixels in [0, 1]: elsewhere eps and clipping mean nothing."""
    if not isinstance(x, Tensor):
        raise TypeError(f"images x are a {type(x).__name__}, expected a tensor: torch.as_tensor(x)")
    if not x.is_floating_point():
        raise ValueError(f"images x are {x.dtype}, expected floats in [0, 1]: x.float() / 255 for bytes")
    if x.dim() < 2 or not x.numel():
        raise ValueError(f"images x have the shape {tuple(x.shape)}, expected (batch, ...) with one image or more")
    low, high = x.detach().aminmax()
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise ValueError(
            f"images x must lie in [0, 1], got values from {low.item():.4g} to {high.item():.4g}; "
            "divide bytes by 255, and make normalisation the first layer of the model"
        )


def as_labels(y: Tensor, batch: int, classes: int | None = None) -> Tensor:
    """Labels of any integer type as int64, one for each image of a batch.

    Raises ValueError for labels that are no class numbers or none of the model's classes, if these are known (on a GPU,
    which looking would hold up, the range is not checked).
    """
    if not isinstance(y, Tensor):
        raise TypeError(f"labels y are a {type(y).__name__}, expected a tensor: torch.as_tensor(y)")
    if y.shape != (batch,):
        one_hot = y.dim() == 2 and y.shape[1] > 1
        fix = "y.argmax(1) for one-hot labels" if one_hot else "one class number for each image"
        raise ValueError(f"labels y have the shape {tuple(y.shape)}, expected ({batch},): {fix}")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise ValueError(f"labels y are {y.dtype}, expected integers, the numbers of the classes: y.long()")
    y = _normal(y.long())
    if classes is not None and y.device.type == "cpu" and len(y) and not (y.min() >= 0 and y.max() < classes):
        raise ValueError(
            f"labels y run from {y.min().item()} to {y.max().item()}, and the model has {classes} classes, numbered from 0; "
            "correct the labels, or give the model an output for every class"
        )
    return y


def as_targets(y: Tensor, batch: int, classes: int | None = None) -> Tensor:
    """Labels as :func:`as_labels` takes them, or a probability for each class and image, as they are.

    Raises ValueError for rows that are no probabilities (on a GPU, which looking would hold up, they are not looked at).
    """
    if not (isinstance(y, Tensor) and y.dim() == 2 and y.is_floating_point()):
        return as_labels(y, batch, classes)
    if len(y) != batch or classes not in (None, y.shape[1]):
        raise ValueError(f"targets y have the shape {tuple(y.shape)}, expected ({batch}, {classes or 'classes'})")
    if y.device.type == "cpu" and not (y.min() >= 0 and torch.allclose(y.sum(1), y.new_ones(()), atol=1e-3)):
        raise ValueError(
            "targets y are no probabilities: every row must be 0 or more, and sum to 1; class numbers are int64"
        )
    return y


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """The model's answer to images, in float32 or more. Images are turned into the type in which the model computes.

    Half-precision logits, as autocast makes them, are too coarse to take a loss of: a KL divergence of two close answers
    comes out negative, and the sign of a gradient is that of chance. Raises ValueError for an answer that is no logits.
    """
    dtype = dtype_of(model)
    answer = model(x if dtype is None else x.to(dtype))
    if not isinstance(answer, Tensor) or answer.dim() != 2 or len(answer) != len(x) or answer.shape[1] < 2:
        shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(
            f"the model answers {len(x)} images with {shape}, expected (batch, classes >= 2); "
            "wrap it in a module whose forward returns the logits alone"
        )
    return single(answer)


def single(tensor: Tensor) -> Tensor:
    """The tensor in single precision, if it is in less."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """The type of the model's first floating-point parameter, or buffer if it has none; None if it has neither."""
    for tensors in (model.parameters(), model.buffers()):
        for tensor in tensors:
            if tensor.is_floating_point():
                return tensor.dtype
    return None


@contextmanager
def attacking(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradient for any parameter, as long as an attack takes; then everything is as it was before.

    What an attack wants is the gradient of the image: a masked weight need not be traced then, and an attack that calls
    ``backward()`` leaves nothing behind. Inside ``torch.inference_mode`` gradients are made possible meanwhile.
    """
    training, learning = _what_to_restore(model)
    try:
        _to_eval_mode(model)
        for parameter in learning:
            parameter.requires_grad_(False)
        with _outside_inference_mode():
            yield
    finally:
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)


def _what_to_restore(model: nn.Module) -> tuple[list[nn.Module], list[nn.Parameter]]:
    """The modules in training mode and the parameters that learn. Raises ValueError for weights no gradient can pass."""
    check_module(model)
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(
            "the model's weights were made inside torch.inference_mode, and no gradient can pass them: "
            "build the model, or load it, outside"
        )
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [module for module in model.modules() if _trains(module)], learning


def _trains(module: nn.Module) -> bool:
    return getattr(module, "training", False)  # a program of torch.jit.freeze has no modes


def _to_eval_mode(model: nn.Module) -> None:
    try:
        model.eval()
    except NotImplementedError as error:
        raise TypeError(
            f"model is a {type(model).__name__} that has no eval mode, as programs of torch.export are: "
            "give the module that it was made from"
        ) from error


def check_module(model: nn.Module) -> None:
    """Raises TypeError for what is no module: a function, say."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, expected a torch.nn.Module that returns logits")


@contextmanager
def _outside_inference_mode() -> Iterator[None]:
    gradients = torch.is_grad_enabled()  # inference_mode(False) would switch them on
    inside = torch.is_inference_mode_enabled()
    with torch.inference_mode(False) if inside else nullcontext(), torch.set_grad_enabled(gradients):
        yield


def _normal(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that autograd may keep if it was made inside ``torch.inference_mode``."""
    if not tensor.is_inference():
        return tensor
    with _outside_inference_mode():
        return tensor.clone()


def _is_on_gpu(x: Tensor) -> bool:
    return isinstance(x, Tensor) and x.device.type != "cpu"
