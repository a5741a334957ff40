"""Devices: what a machine does not have is refused by name, and one process leads."""

import platform
import sys

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from harp.recipes import Compute
from harp.training.distributed import (
    alone,
    average_gradients,
    averaged_buffers,
    keep_freed_memory,
    launch,
    leads,
    make_fabric,
    place,
)


def test_the_default_is_one_process_in_full_precision():
    fabric = launch(make_fabric(Compute(device="cpu")), Compute(device="cpu"))
    assert (fabric.world_size, fabric.device.type, fabric.is_global_zero) == (1, "cpu", True)
    with fabric.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_mixed_precision_works_on_a_cpu():
    with make_fabric(Compute(device="cpu", precision="bf16-mixed")).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (Compute(device="cuda"), r"device='cuda' is not available here; this machine offers \['cpu', 'auto'\]"),
        (Compute(device="mps"), r"device='mps' is not available here"),
        (Compute(device="cpu", precision="16-mixed"), r"precision='16-mixed' needs a CUDA device; 'bf16-mixed'"),
        (Compute(precision="16-mixed"), r"precision='16-mixed' needs a CUDA device"),
    ],
)
def test_what_this_machine_does_not_have_is_refused(compute, said, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=said):
        make_fabric(compute)


def test_more_gpus_than_there_are_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cuda", "auto"):
        with pytest.raises(ValueError, match="devices=3 but this machine has 2 CUDA devices"):
            make_fabric(Compute(device=device, devices=3))


def test_several_nodes_that_nobody_starts_are_refused_instead_of_waited_for(monkeypatch):
    monkeypatch.delenv("NODE_RANK", raising=False)
    compute = Compute(device="cpu", num_nodes=2)
    with pytest.raises(ValueError, match="num_nodes=2 needs torchrun or srun"):
        launch(make_fabric(compute), compute)


@pytest.mark.parametrize(
    "environment", [{"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4"}, {"SLURM_STEP_NUM_TASKS": "4"}]
)
def test_processes_that_know_of_no_others_do_not_write_one_run_together(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    compute = Compute(device="cpu")
    with pytest.raises(ValueError, match="devices=1 times num_nodes=1 is not 4, the processes that torchrun or srun"):
        launch(make_fabric(compute), compute)


TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "1,3"}


@pytest.mark.parametrize(
    ("environment", "compute", "said"),
    [
        (
            TORCHRUN,
            Compute(device="cpu", num_nodes=2),
            "devices=1, but torchrun or srun has started 2 of its 2 processes",
        ),
        (SRUN, Compute(device="cpu", devices=2, num_nodes=2), "devices=2, but torchrun or srun has started 1 of its 4"),
        (
            SRUN | {"SLURM_STEP_TASKS_PER_NODE": "1(x4)"},
            Compute(device="cpu", devices=2, num_nodes=2),
            "--compute.devices 1 with as many nodes as make 4, or start 2 on each",
        ),
    ],
)
def test_as_many_processes_as_asked_for_but_not_on_each_node_are_refused(environment, compute, said, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=said):
        launch(make_fabric(compute), compute)


def test_the_number_of_threads_is_the_one_asked_for():
    before = torch.get_num_threads()
    try:
        compute = Compute(device="cpu", threads=before + 1)
        launch(make_fabric(compute), compute)
        assert torch.get_num_threads() == before + 1
        launch(make_fabric(Compute(device="cpu")), Compute(device="cpu"))
        assert torch.get_num_threads() == before + 1  # None leaves them
    finally:
        torch.set_num_threads(before)


def test_alone_is_the_same_device_once():
    compute = Compute(device="cpu", devices=4, num_nodes=2, threads=3)
    assert alone(compute) == Compute(device="cpu", threads=3)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"RANK": "4", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "3"}, False),
    ],
)
def test_the_first_of_all_processes_leads(environment, expected, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert leads() is expected


@pytest.mark.parametrize(("channels_last", "layout"), [(True, torch.channels_last), (False, torch.contiguous_format)])
def test_a_model_is_placed_in_the_layout_asked_for_with_its_values(channels_last, layout):
    model = nn.Conv2d(3, 4, 3)
    before = model.weight.detach().clone()
    assert place(model, torch.device("cpu"), channels_last=channels_last) is model
    assert model.weight.is_contiguous(memory_format=layout)
    assert torch.equal(model.weight, before)


def test_with_one_process_there_is_nothing_to_average():
    fabric = Fabric(accelerator="cpu")
    model = nn.BatchNorm1d(2)
    with averaged_buffers(fabric, model):
        model(torch.rand(4, 2)).sum().backward()
        before = [t.clone() for t in (model.weight.grad, model.running_mean)]
        average_gradients(fabric, model)
    assert torch.equal(before[0], model.weight.grad)
    assert torch.equal(before[1], model.running_mean)


class Three(Fabric):
    """Stands for three ranks that all have the same: the mean is then the same up to rounding."""

    world_size = 3

    def all_reduce(self, values: torch.Tensor, group: None = None, reduce_op: str = "mean") -> torch.Tensor:
        assert reduce_op == "mean"
        return (values + values + values) / 3


def test_buffers_that_no_pass_changes_keep_their_bits_on_three_ranks():
    model = nn.Module()
    constants = torch.cat([torch.linspace(0.1, 1, 1000), torch.tensor([torch.inf, -torch.inf])])
    model.register_buffer("constants", constants.clone())
    model.register_buffer("statistics", torch.zeros(1))
    three = Three(accelerator="cpu")
    assert not torch.equal(three.all_reduce(constants), constants)
    with averaged_buffers(three, model):
        model.statistics.fill_(0.3)
    assert torch.equal(model.constants, constants)
    assert model.statistics.item() == pytest.approx(0.3)


def test_freed_memory_is_kept_where_glibc_is():
    assert keep_freed_memory() == (sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc")


def test_elsewhere_memory_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
