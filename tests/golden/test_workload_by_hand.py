"""Operations, bytes and hours of a stage, worked out by hand."""

import pytest

from harp.cost.workload import Machine, batch_seconds, exchange_seconds, predicted_hours, scaled_hours, workload
from harp.recipes import Training

MACHINE = Machine(macs_per_s=1e9, bytes_per_s=1e9, link_bytes_per_s=1e6)


def work(objective: str = "pgd-at", *, macs: float = 1e6, activations: float = 1000.0):
    settings = Training(epochs=3, batch_size=10, objective=objective, attack_steps=4, replays=2)
    return workload(settings, images=95, macs=macs, activations=activations, weights=500.0)


def test_pgd_of_four_steps():
    """F = B = 5, W = 1; 95 images make 10 batches, three times over."""
    w = work()
    assert (w.forward, w.backward, w.weight_backward, w.updates, w.batches) == (5, 5, 1, 1, 30)
    assert w.batch_macs == 10 * 1e6 * 11
    # 4 bytes · (2 · 1000 numbers · 10 images · 10 passes + 500 weights · (10 + 6))
    assert w.batch_bytes == 4 * (200_000 + 8_000)


def test_free_at_goes_over_each_batch_twice():
    w = work("free-at")
    assert (w.forward, w.backward, w.weight_backward, w.updates, w.batches) == (2, 2, 2, 2, 30)
    assert w.batch_macs == 10 * 1e6 * 6
    assert w.batch_bytes == 4 * (2 * 1000 * 10 * 4 + 500 * (4 + 12))


def test_trades_ends_two_passes_an_image_at_the_weights():
    assert (work("trades").forward, work("trades").backward, work("trades").weight_backward) == (7, 6, 2)


def test_the_exchange_is_a_ring():
    """2 · 3/4 · 500 weights · 4 bytes over 10⁶ bytes per second, at each of two updates."""
    assert exchange_seconds(work("free-at"), 1e6, 4) == pytest.approx(2 * 0.75 * 2000 * 2 / 1e6)
    assert exchange_seconds(work(), 1e6, 1) == 0


def test_hours_follow_the_slower_of_operations_and_memory():
    """1.1·10⁸ MACs take 0.11 s; the bytes 0.8 ms. With 10⁶ numbers a pass they take 0.8 s."""
    assert batch_seconds(work(), MACHINE, 1) == pytest.approx(0.11)
    assert batch_seconds(work(activations=1e6), MACHINE, 1) == pytest.approx(0.800032)
    assert predicted_hours(work(), MACHINE, 1) == pytest.approx(30 * 0.11 / 3600)
    assert predicted_hours(work(), MACHINE, 2) == pytest.approx(30 * (0.055 + 0.002) / 3600)


def test_hours_from_a_measured_batch():
    assert scaled_hours(work(), 4.0, 1e6, 1) == pytest.approx(30 * 4.0 / 3600)
    assert scaled_hours(work(), 4.0, 1e6, 4) == pytest.approx(30 * (1.0 + 0.003) / 3600)
