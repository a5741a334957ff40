"""Values that are needed at the same time never share memory, and what is not needed any more is given away."""

import math

import pytest

from harp.cfile.arena import IMAGE, RESULT, plan
from harp.cfile.network import convolved, network_of
from harp.runtime.lowering import Layer


def layer(kind: str, *inputs: int, residual: int = -1) -> Layer:
    return Layer(kind, inputs, source=1, channels=1, residual=residual)


def test_a_chain_needs_two_places():
    chain = [layer("max_pool", value) for value in range(6)]
    arena = plan(chain, [100] * 7, {})
    assert arena.size == 200
    assert arena.places[0] == IMAGE
    assert arena.places[-1] == RESULT


def test_a_sum_is_written_over_a_term_that_nobody_needs_any_more():
    layers = [layer("max_pool", 0), layer("max_pool", 1), layer("add", 2, 1), layer("max_pool", 3)]
    arena = plan(layers, [10] * 5, {})
    assert arena.places[3] == arena.places[2]
    assert arena.size == 20


def test_a_sum_is_not_written_over_a_term_that_is_read_later():
    layers = [layer("max_pool", 0), layer("activation", 1), layer("add", 2, 1), layer("max_pool", 3)]
    arena = plan(layers, [10] * 5, {})
    assert arena.places[2] != arena.places[1]


def test_a_convolution_is_written_over_its_residual_and_never_over_its_input():
    layers = [
        layer("conv", 0),
        layer("conv", 1),
        layer("conv", 2, residual=1),
        layer("conv", 3, residual=3),
        layer("conv", 4),
    ]
    arena = plan(layers, [10] * 6, {})
    assert arena.places[3] == arena.places[1] != arena.places[2]
    assert arena.places[4] != arena.places[3]
    assert arena.size == 20


def test_a_flattened_map_lies_where_the_map_does():
    arena = plan([layer("conv", 0), layer("flatten", 1), layer("conv", 2)], [8, 8, 8, 2], {})
    assert arena.places[2] == arena.places[1]
    assert arena.size == 8


def test_a_channel_that_is_halved_has_room_of_its_own():
    arena = plan([layer("conv", 0), layer("conv", 1), layer("conv", 2)], [64, 16, 16, 4], {0: 64, 1: 16})
    assert arena.size == 80
    assert arena.scratch[0] + 64 <= arena.places[1] or arena.places[1] + 16 <= arena.scratch[0]


@pytest.mark.parametrize("seed", range(60))
def test_no_two_values_of_any_network_meet(draw_graph, seed: int):
    """Each value lies where no other that is still to be read lies, unless a layer may write over it."""
    network = network_of(draw_graph(seed, 0.3, 9), "f32")
    places, sizes = network.arena.places, [math.prod(size) for size in network.sizes]
    last = {value: place for place, each in enumerate(network.layers) for value in (*each.inputs, each.residual)}
    for place in range(len(network.layers)):
        live = [v for v in range(1, place + 1) if last.get(v, -1) > place and places[v] >= 0]
        written = [(places[place + 1], sizes[place + 1])] if places[place + 1] >= 0 else []
        if place in network.arena.scratch:
            channel = convolved(network.layers[place], network.sizes[network.layers[place].inputs[0]])
            written.append((network.arena.scratch[place], math.prod(channel)))
        for begin, size in written:
            assert begin + size <= network.arena.size
            for value in live:
                same = network.layers[place].kind == "flatten" and places[value] == begin
                assert same or begin + size <= places[value] or places[value] + sizes[value] <= begin
