"""Moves keep every tensor whole and save bytes; orders are the best there are."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from perfmodel.mcu.access import Moves, Window, overwritten, windows
from perfmodel.mcu.allocate import overlap
from perfmodel.mcu.build import Builder
from perfmodel.mcu.fuse import fuse, stream_inputs
from perfmodel.mcu.layout import NOTHING, best_layout, lay_out
from perfmodel.mcu.network import Network, Op, Tensor
from perfmodel.mcu.networks import built_in
from perfmodel.mcu.order import reorder
from tests.mcu.graphs import random_network, run

TINY = ("resnet8", "ds-cnn", "mobilenet-v1-0.25-96", "autoencoder")
ALL = Moves(depthwise=True)


@pytest.mark.parametrize("moves", [NOTHING, Moves(fuse=False, stream=False), ALL])
def test_nothing_is_overwritten_too_early(moves):
    """The schedule run on real bytes reads whole tensors, in random graphs under any moves."""
    for seed in range(60):
        layout = lay_out(random_network(seed), moves, align=4)
        assert overlap(layout.buffers, layout.allocation.offsets) is None
        run(layout)


@pytest.mark.parametrize("name", [*TINY, "deit-t", "mcuformer", "mcuformer:rank=0,head_dim=0"])
def test_built_in_networks_run(name):
    """The same for the built-in networks, each move added in turn; no move costs bytes."""
    network = built_in(name)
    stages = best_layout(network, ALL, align=16)
    peaks = [layout.peak_bytes for _, layout in stages]

    for _, layout in stages:
        run(layout)
        assert layout.network.macs == network.macs
        assert layout.allocation.optimal
    assert peaks == sorted(peaks, reverse=True)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("resnet8", 3 * 32 * 32 * 16),
        ("ds-cnn", 2 * 25 * 5 * 64),
        ("mobilenet-v1-0.25-96", 48 * 48 * 8 + 48 * 48 * 16),
        ("autoencoder", 640 + 128),
    ],
)
def test_tiny_networks_without_moves(name, peak):
    """The arena of each MLPerf Tiny network is the most that lives at one step, by hand.

    ResNet8: the block's input, its two convolutions' outputs meet at the sum. DS-CNN: input and
    output of a layer. MobileNet: the first pointwise layer. AutoEncoder: its ends.
    """
    layout = lay_out(built_in(name), NOTHING)

    assert layout.peak_bytes == layout.allocation.live_bytes == peak


def orders(network):
    """Every order in which the operators can run."""
    for order in itertools.permutations(network.ops):
        ready = {t.name for t in network.of_kind("input")}
        for op in order:
            if not ready.issuperset(op.inputs):
                break
            ready.update(op.outputs)
        else:
            yield order


def test_order_equals_brute_force():
    """For small graphs the order found has the least peak of all orders."""
    seen = 0
    for seed in range(120):
        network = random_network(seed, most_tensors=8)
        found = reorder(network, NOTHING)
        least = min(max(network.live_bytes(order)) for order in orders(network))
        assert found.optimal
        assert found.live_bytes == max(network.live_bytes(found.ops)) == least
        seen += least < max(network.live_bytes())
    assert seen > 5


def test_states_keep_their_order():
    """What reads a state before it is written keeps doing so, however much another order saves."""
    x = Tensor(name="x", shape=(8,), dtype="int8", kind="input")
    state = Tensor(name="s", shape=(8,), dtype="int8", kind="state")
    rest = [Tensor(name=n, shape=(8,), dtype="int8") for n in "ab"]
    result = Tensor(name="y", shape=(8,), dtype="int8", kind="output")
    steps = [("read", "s", "a"), ("make", "x", "b"), ("write", "b", "s"), ("sum", "as", "y")]
    made = tuple(
        Op(name=n, kind="slice", inputs=tuple(ins), outputs=(out,)) for n, ins, out in steps
    )
    network = Network(name="n", tensors=(x, state, *rest, result), ops=made)
    order = [op.name for op in reorder(network, NOTHING).ops]

    assert order.index("read") < order.index("write") < order.index("sum")


def test_greedy_order_never_worse(monkeypatch):
    """Where the exact search gives up, the order is valid and no worse than the given one."""
    monkeypatch.setattr("perfmodel.mcu.order.STATES", 1)
    better = 0
    for seed in range(60):
        network = random_network(seed)
        found = reorder(network, NOTHING)
        network.check_order(found.ops)
        assert found.live_bytes == max(network.live_bytes(found.ops))
        assert found.live_bytes <= max(network.live_bytes())
        better += found.live_bytes < max(network.live_bytes())
    assert better > 5


def chain():
    b = Builder("chain")
    x = b.conv(b.input(1, 16, 16, 4), 8, (1, 1))
    x = b.conv(x, 8, (3, 3), (2, 2), depthwise=True)
    return b.network(b.conv(x, 4, (1, 1)))


def test_fused_pair_by_hand():
    """Conv, depthwise 3 x 3 and conv as one: three rows of 16 x 8 and one row of 8 x 8 inside.

    Whole: 16 x 16 x 4 in and 16 x 16 x 8 out at the first step, 3,072 bytes. Fused: the input's
    1,024, the result's 8 x 8 x 4 = 256 and 3 x 16 x 8 + 8 x 8 = 448 of windows.
    """
    fused, names = fuse(chain(), Moves())

    assert max(chain().live_bytes()) == 3072
    assert fused.live_bytes() == [1024 + 256 + 448]
    assert fused.macs == chain().macs
    assert names == ("conv_0+depthwise_1+conv_2",)


def test_streamed_input_by_hand():
    """The fused chain reads three rows of its input for each row, two rows further each time."""
    fused, _ = fuse(chain(), Moves())
    streamed, cut = stream_inputs(fused)

    assert windows(fused.ops[0], "input", fused) == {1: Window(axis=1, size=3, stride=2)}
    assert cut == ("input",)
    assert streamed.tensor("input").shape == (1, 3, 16, 4)


def test_more_rows_need_more_bytes():
    """Slices computed at a time widen every window."""
    peaks = [lay_out(chain(), Moves(rows=n)).peak_bytes for n in (1, 2, 4)]

    assert peaks == sorted(peaks)
    assert peaks[0] < peaks[-1]


def test_attention_rows_by_hand():
    """Scores, softmax and mixing run row by row of the queries: one row of scores of each head.

    4 heads, 10 tokens, width 8: 40 bytes of scores, and no 10 x 10 matrix anywhere.
    """
    b = Builder("attention")
    q, k, v = b.dense(b.input(10, 8), 8, 8, 8)
    network = b.network(b.attention(q, k, v, 4))
    attention = fuse(network, Moves())[0].ops[-1]

    assert attention.attributes["members"] == ("scores_1", "softmax_2", "mix_3")
    assert attention.scratch_bytes == 40 + 40
    assert windows(attention, "dense_0.0", network) == {0: Window(axis=0)}
    assert windows(attention, "dense_0.1", network) == {}


def layer(kind, **more):
    b = Builder("layer")
    x = b.input(1, 8, 8, 4)
    if kind == "relu":
        return b.network(b.activation(x, "relu"))
    return b.network(b.conv(x, 4, more.pop("kernel", (3, 3)), more.pop("stride", (1, 1)), **more))


@pytest.mark.parametrize(
    ("network", "moves", "scratch"),
    [
        (layer("relu"), Moves(), 0),
        (layer("relu"), Moves(inplace=False, overwrite=False), None),
        (layer("conv", kernel=(1, 1)), Moves(), 8 * 4),
        (layer("conv", kernel=(1, 1)), Moves(overwrite=False), None),
        (layer("conv"), Moves(depthwise=True), None),
        (layer("conv", depthwise=True), Moves(), None),
        (layer("conv", depthwise=True), Moves(depthwise=True), 8 * 8),
    ],
)
def test_what_may_be_overwritten(network, moves, scratch):
    """Activations in place; 1 x 1 convolutions with a row, depthwise with a plane aside."""
    found = overwritten(network.ops[0], network, lambda _: True, moves)

    assert found == (None if scratch is None else ("input", scratch))
    assert overwritten(network.ops[0], network, lambda _: False, moves) is None


def test_a_tensor_that_is_read_again_stays():
    """The residual of a sum is not overwritten by the branch that leaves it."""
    b = Builder("residual")
    x = b.activation(b.input(4, 8), "relu")
    network = b.network(b.add(b.activation(x, "gelu"), x))
    layout = lay_out(network, replace(ALL, fuse=False, stream=False))

    run(layout)
    assert layout.peak_bytes == 2 * 4 * 8
