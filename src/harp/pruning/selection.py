"""Which entries are the largest: a threshold is selected, nothing is sorted, and ties go by index."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def top(scores: Float[Tensor, "*entries"], count: int | Int[Tensor, ""]) -> Bool[Tensor, "*entries"]:
    """True at the ``count`` entries of largest |score|, in the memory layout of the scores; of equals, the first.

    A ``count`` that lies on the scores' device stays there: on a GPU nothing waits for it.
    """
    size = scores.detach().abs()
    return _on_cpu(size, int(count)) if size.device.type == "cpu" else _on_gpu(size, count)


def _on_cpu(size: Tensor, count: int) -> Tensor:
    if count >= size.numel():
        return torch.ones_like(size, dtype=torch.bool)
    threshold = _kth_largest(size, count)
    stays = size >= threshold
    return stays if int(stays.count_nonzero()) == count else _first_of_equals(size, threshold, count)


def _kth_largest(size: Tensor, count: int) -> Tensor:
    """By the partition of the array that a CPU tensor is: torch's own kthvalue takes 16 times as long, its topk 10."""
    flat = _in_memory_order(size)
    if torch.compiler.is_compiling():  # which cannot look into numpy
        return flat.kthvalue(flat.numel() - count + 1).values
    flat = flat.float() if flat.dtype == torch.bfloat16 else flat.clone()  # numpy has no bfloat16
    place = flat.numel() - count
    flat.numpy().partition(place)
    return flat[place].to(size.dtype)


def _on_gpu(size: Tensor, count: int | Tensor) -> Tensor:
    # kthvalue works with a single block there, whatever the length of the row, and is slower than to sort.
    largest_first = _in_memory_order(size).sort(descending=True).values
    if isinstance(count, int):  # a tensor made of it would be copied there, and waited for
        place = min(max(count, 1), size.numel()) - 1
        return _first_of_equals(size, largest_first[place : place + 1], count)
    place = count.clamp(1, size.numel()) - 1
    return _first_of_equals(size, largest_first.index_select(0, place.view(1)), count)


def _first_of_equals(size: Tensor, threshold: Tensor, count: int | Tensor) -> Tensor:
    above, equal = size > threshold, size == threshold
    rank = equal.flatten().cumsum(0).view(size.shape)
    return above | (equal & (rank <= count - above.count_nonzero()))


def _in_memory_order(size: Tensor) -> Tensor:
    """A fresh tensor's entries as they lie; to flatten one in channels_last would copy it into another order."""
    return size.as_strided((size.numel(),), (1,))
