"""What a training costs, as arithmetic: operations and memory traffic of a step, and hours on one device or many."""

from dataclasses import dataclass

from harp.cost.passes import stage_passes, weight_passes
from harp.recipes import Training


@dataclass(frozen=True)
class Workload:
    """One stage in numbers. ``forward``, ``backward`` and ``weight_backward`` are passes for each image of an epoch.

    A backward pass to the image or through the network takes as many multiplications as a forward pass. Those that end
    at the weights, ``weight_backward``, take as many again.
    """

    images: int
    epochs: int
    batch_size: int
    """Over all devices."""
    forward: int | float
    backward: int | float
    weight_backward: int | float
    updates: int
    """Optimiser steps on each batch."""
    macs: int | float
    """Multiplications and additions of one forward pass of one image."""
    activations: int | float
    """Numbers that the layers write in it."""
    weights: int | float
    """Numbers that are learned or multiplied with: all parameters."""
    value_bytes: int = 4

    @property
    def batches(self) -> int:
        return self.epochs * -(-self.images // self.batch_size)

    @property
    def batch_macs(self) -> int | float:
        """macs · batch · (F + B + W)."""
        return self.macs * self.batch_size * (self.forward + self.backward + self.weight_backward)

    @property
    def batch_bytes(self) -> int | float:
        """Each pass reads and writes every activation and reads every weight; an update touches six numbers per weight:
        the gradient, and weight, score and momentum, of which two are written, too."""
        passes = self.forward + self.backward
        touched = 2 * self.activations * self.batch_size * passes + self.weights * (passes + 6 * self.updates)
        return touched * self.value_bytes


@dataclass(frozen=True)
class Machine:
    """A device, and what joins several of them."""

    macs_per_s: float
    """What it reaches in such a network, not what is printed on it."""
    bytes_per_s: float
    """Between its memory and its units."""
    link_bytes_per_s: float
    """From one device to the next, in a ring of all of them."""


def batch_seconds(work: Workload, machine: Machine, devices: int) -> float:
    """max(operations / rate, bytes / bandwidth) / devices, and the exchange of gradients, which nothing overlaps."""
    alone = max(work.batch_macs / machine.macs_per_s, work.batch_bytes / machine.bytes_per_s)
    return alone / devices + exchange_seconds(work, machine.link_bytes_per_s, devices)


def exchange_seconds(work: Workload, link_bytes_per_s: float, devices: int) -> float:
    """A ring all-reduce of all gradients at each update: each device sends and receives 2 · (n − 1) / n of them."""
    return 2 * (devices - 1) / devices * work.weights * work.value_bytes * work.updates / link_bytes_per_s


def predicted_hours(work: Workload, machine: Machine, devices: int) -> float:
    """The whole stage; validation, and waiting for images, are not counted."""
    return work.batches * batch_seconds(work, machine, devices) / 3600


def scaled_hours(work: Workload, batch_s: float, link_bytes_per_s: float, devices: int) -> float:
    """The same from a measured time of one batch on one device, as if its share on each of several took as little."""
    return work.batches * (batch_s / devices + exchange_seconds(work, link_bytes_per_s, devices)) / 3600


def workload(
    settings: Training, *, images: int, macs: int | float, activations: int | float, weights: int | float
) -> Workload:
    """The workload of a stage with these settings, on a network of this size."""
    passes = stage_passes(settings)
    return Workload(
        images=images,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        forward=passes.forward / settings.epochs,
        backward=passes.backward / settings.epochs,
        weight_backward=weight_passes(settings) / settings.epochs,
        updates=settings.steps_per_batch,
        macs=macs,
        activations=activations,
        weights=weights,
    )
