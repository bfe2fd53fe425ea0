"""Networks: lifetimes by hand, valid orders, exact counts of the built-in ones."""

from __future__ import annotations

import pytest

from perfmodel import ops
from perfmodel.errors import BadValue, UnknownName
from perfmodel.mcu.build import Builder
from perfmodel.mcu.network import Lifetime, Network, Op, Tensor
from perfmodel.mcu.networks import BUILT_IN, alternatives, built_in


def tensor(name, kind="activation", shape=(4,), dtype="int8"):
    return Tensor(name=name, shape=shape, dtype=dtype, kind=kind)


def op(name, inputs, outputs):
    return Op(name=name, kind="elementwise", inputs=tuple(inputs), outputs=tuple(outputs))


def diamond():
    tensors = (
        tensor("x", "input"), tensor("a"), tensor("b", shape=(8,)), tensor("y", "output"),
        tensor("w", "weight", (100,)), tensor("s", "state", (2,)),
    )  # fmt: skip
    made = (op("1", "x", "a"), op("2", "xw", "b"), op("3", "ab", "y"), op("4", "s", "s"))
    return Network(name="diamond", tensors=tensors, ops=made)


def test_lifetimes_by_hand():
    """From the step that writes to the last that reads; outputs and states to the end."""
    found = diamond().lifetimes()

    assert found == {
        "x": Lifetime(first=0, last=1),
        "a": Lifetime(first=0, last=2),
        "b": Lifetime(first=1, last=2),
        "y": Lifetime(first=2, last=3),
        "s": Lifetime(first=0, last=3),
    }
    assert diamond().live_bytes() == [4 + 4 + 2, 4 + 4 + 8 + 2, 4 + 8 + 4 + 2, 4 + 2]
    assert diamond().weight_bytes == 100


@pytest.mark.parametrize(
    ("tensors", "made", "what"),
    [
        (["x", "a"], [op("1", "a", "a")], "before anything has written"),
        (["x", "a", "b"], [op("1", "b", "a"), op("2", "a", "b")], "before anything has written"),
        (["x", "a"], [op("1", "x", "a"), op("2", "x", "a")], "there already"),
        (["x", "a"], [op("1", "x", "a"), op("1", "x", "a")], "two are called"),
        (["x", "a"], [], "no operator writes"),
        (["x", "x"], [], "two are called"),
    ],
)
def test_impossible_networks(tensors, made, what):
    """Cycles, two writers, two of a name and what nobody writes are refused."""
    made_of = tuple(tensor(n, "input" if n == "x" else "activation") for n in tensors)

    with pytest.raises(BadValue, match=what):
        Network(name="n", tensors=made_of, ops=tuple(made))


def test_unknown_tensor():
    """An operator cannot read what is not there."""
    with pytest.raises(UnknownName):
        Network(name="n", tensors=(tensor("x", "input"),), ops=(op("1", "z", "x"),))


@pytest.mark.parametrize("field", [{"shape": (0,)}, {"shape": (-1, 4)}, {"dtype": "int7"}])
def test_impossible_tensors(field):
    """A tensor has sizes of at least one and a known type."""
    with pytest.raises((BadValue, UnknownName)):
        Tensor(**({"name": "t", "shape": (1,), "dtype": "int8"} | field))


@pytest.mark.parametrize(("dtype", "size"), [("int4", 3), ("int8", 5), ("fp16", 10), ("int64", 40)])
def test_bytes(dtype, size):
    """Five elements: half bytes are rounded up as a whole."""
    assert tensor("t", shape=(5,), dtype=dtype).bytes == size


@pytest.mark.parametrize(
    ("name", "macs", "weights"),
    [
        ("resnet8", 12_501_632, 77_360),
        ("ds-cnn", 2_656_768, 22_016),
        ("mobilenet-v1-0.25-96", 7_489_664, 208_112),
        ("autoencoder", 264_192, 264_192),
    ],
)
def test_tiny_networks(name, macs, weights):
    """The four of MLPerf Tiny: multiply-accumulates and weights as in their reference files."""
    network = built_in(name)
    matrices = [t for t in network.of_kind("weight") if t.name.endswith(".weight")]

    assert network.macs == macs
    assert sum(t.elements for t in matrices) == weights


def test_macs_come_from_ops():
    """An operator's multiply-accumulates are half the FLOPs that perfmodel.ops counts."""
    (first, *_) = built_in("resnet8").ops

    assert first.macs == ops.count(first.workloads[0]).flops_total / 2 == 32 * 32 * 16 * 27


def test_deit_t_by_hand():
    """DeiT-T: 5,717,416 parameters (timm's count), the products of 12 layers and their ends.

    Multiply-accumulates: patches 196 x 768 x 192; a layer 197 x 12 x 192^2 in matrices and
    2 x 197^2 x 192 in attention; the classifier 192 x 1000.
    """
    network = built_in("deit-t")
    tokens, width = 197, 192
    layer = tokens * 12 * width**2 + 2 * tokens**2 * width

    assert network.macs == 196 * 768 * width + 12 * layer + width * 1000
    assert sum(t.elements for t in network.of_kind("weight")) == 5_717_416


def test_mcuformer_ranks_by_hand():
    """A factored matrix is k x r, r x r, r x n with r = floor(rank * width), the last with bias.

    width 216, 4 heads of 64, rank 0.5: r = 108; queries, keys and values 216 x r + r^2 + r x 768.
    """
    network = built_in("mcuformer:rank=0.5,depth=1")
    sizes = [t.elements for t in network.of_kind("weight") if t.name.endswith(".weight")]

    assert sizes[1:4] == [216 * 108, 108 * 108, 108 * 768]


@pytest.mark.parametrize(
    "text",
    ["mcuformer:patch=0", "mcuformer:dim=1e9", "mcuformer:dim=x", "mcuformer:depth=999",
     "mcuformer:image=100000", "mcuformer:rank=2", "deit-t:patch=500", "mcuformer:heads=-1"],
)  # fmt: skip
def test_absurd_parameters(text):
    """Parameters out of range or of the wrong type are refused by name."""
    with pytest.raises(BadValue) as refusal:
        built_in(text)
    assert refusal.value.field in text


@pytest.mark.parametrize("text", ["resnet", "resnet8:depth=3", "mcuformer:width=3"])
def test_unknown_names(text):
    """Unknown networks and parameters are refused, with what exists."""
    with pytest.raises(UnknownName):
        built_in(text)


def test_alternatives_are_smaller_relatives():
    """Variants change one parameter towards less memory; networks without parameters have none."""
    found = dict(alternatives("mcuformer"))

    assert "patch 32 instead of 16" in found
    assert "dim 168 instead of 216" in found
    assert alternatives("resnet8") == ()
    assert set(BUILT_IN) >= {"resnet8", "ds-cnn", "autoencoder", "deit-t", "mcuformer"}


def test_several_outputs_of_one_product():
    """Queries, keys and values are one product with three results."""
    b = Builder("b")
    q, k, v = b.dense(b.input(4, 8), 2, 3, 5)
    (made,) = b.ops

    assert made.outputs == (q, k, v)
    assert made.macs == 4 * 8 * 10
