"""Network files: the Tiny topologies from the file alone; damage ends in one clear error."""

from __future__ import annotations

import random
import struct
import sys
import tracemalloc

import numpy as np
import onnx
import pytest

from perfmodel.errors import BadValue, MalformedFile, MissingExtra, MissingFile
from perfmodel.mcu import onnx as onnx_reader
from perfmodel.mcu import tflite as tflite_reader
from perfmodel.mcu.access import Moves
from perfmodel.mcu.layout import NOTHING, best_layout, lay_out
from perfmodel.mcu.networks import built_in
from perfmodel.mcu.reading import MAX_FILE_BYTES, MAX_OPS, Names, read_network
from tests.mcu.files import to_onnx, to_tflite, with_variable
from tests.mcu.graphs import run

TINY = {
    "resnet8": 12_501_632,
    "ds-cnn": 2_656_768,
    "mobilenet-v1-0.25-96": 7_489_664,
    "autoencoder": 264_192,
}
helper = onnx.helper


def read(tmp_path, data, name):
    path = tmp_path / name
    path.write_bytes(data)
    return read_network(path)


@pytest.mark.parametrize("name", TINY)
def test_tflite_file_alone(tmp_path, name):
    """A .tflite file gives the network's multiply-accumulates, weights and arena, move by move."""
    known = built_in(name)
    found = read(tmp_path, to_tflite(known), f"{name}.tflite")

    assert found.name == name
    assert found.macs == TINY[name]
    assert found.weight_bytes == known.weight_bytes
    assert [t.shape for t in found.of_kind("input")] == [t.shape for t in known.of_kind("input")]
    assert peaks(found) == peaks(known)
    run(lay_out(found, Moves()))


@pytest.mark.parametrize("name", TINY)
def test_onnx_file_alone(tmp_path, name):
    """An .onnx file does too: four bytes an element in float, one where it is quantised."""
    known = built_in(name)
    real = read(tmp_path, to_onnx(known), f"{name}.onnx")
    whole = read(tmp_path, to_onnx(known, integers=True), f"{name}.onnx")

    assert real.macs == whole.macs == TINY[name]
    assert lay_out(real, NOTHING).peak_bytes == 4 * lay_out(known, NOTHING).peak_bytes
    assert peaks(whole) == peaks(known)
    assert {t.dtype for t in whole.arena_tensors} == {"int8"}
    run(lay_out(whole, Moves()))


def test_variables_are_states():
    """A variable is a state of the size that is read from it, alive throughout, beside the rest.

    Four bytes each of input, variable, what was read and the sum; the sum takes the input's.
    """
    found = tflite_reader.network_from_bytes(with_variable(), "v", "v")
    layout = lay_out(found, Moves(fuse=False))

    assert [(t.name, t.bytes) for t in found.of_kind("state")] == [("v", 4)]
    assert [op.name for op in found.ops] == ["read_variable", "add", "assign_variable"]
    assert lay_out(found, NOTHING).peak_bytes == 16
    assert layout.peak_bytes == 12
    assert layout.holds["v"] == ("v",)


def peaks(network):
    return [(move, layout.peak_bytes) for move, layout in best_layout(network, Moves(), align=16)]


def damaged(data, number):
    """``number`` damaged copies: cut, with bytes changed, numbers made huge, pieces missing."""
    marked = [i for i, byte in enumerate(data) if byte]
    for i in range(number):
        rng = random.Random(i)
        copy = bytearray(data)
        if i % 4 == 0:
            del copy[rng.randrange(len(copy)) :]
        elif i % 4 == 1:
            for _ in range(rng.randint(1, 4)):
                copy[rng.choice(marked)] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        elif i % 4 == 2:
            at = min(rng.choice(marked), len(copy) - 4)
            huge = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80")
            copy[at : at + 4] = rng.choice(huge)
        else:
            at = rng.choice(marked)
            del copy[at : at + rng.randrange(1, 200)]
        yield bytes(copy)


@pytest.mark.parametrize(
    ("parser", "data"),
    [
        (tflite_reader, to_tflite(built_in("resnet8"))),
        (onnx_reader, to_onnx(built_in("resnet8"))),
        (onnx_reader, to_onnx(built_in("resnet8"), integers=True)),
    ],
    ids=["tflite", "onnx", "onnx-quantised"],
)
def test_damaged_files(parser, data):
    """Of 200 damaged copies each is refused with one line, or still describes a network."""
    refusals = []
    for copy in damaged(data, 200):
        try:
            network = parser.network_from_bytes(copy, "copy", "copy.bin")
        except MalformedFile as error:
            refusals.append(error)
        else:
            run(lay_out(network, Moves()))

    assert len(refusals) > 80
    assert all("copy.bin" in e.message and e.fix for e in refusals)
    assert all("\n" not in str(e) and len(str(e)) < 400 for e in refusals)


def huge_vectors(data):
    """Copies with every 4-byte word of the file's structure, one at a time, made enormous."""
    for at in range(8, len(data) - 4, 4):
        if any(data[at : at + 4]):
            yield data[:at] + struct.pack("<I", 0x7FFFFFFF) + data[at + 4 :]


def test_enormous_claims_cost_nothing():
    """A file that claims enormous vectors is refused before memory is spent on them."""
    data = to_tflite(built_in("autoencoder"))
    tracemalloc.start()
    for copy in huge_vectors(data):
        try:
            tflite_reader.network_from_bytes(copy, "copy", "copy")
        except MalformedFile:
            continue
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 16 * 2**20


def model(nodes, inputs, outputs, constants=(), **more):
    graph = helper.make_graph(
        nodes,
        "g",
        [value(*i) for i in inputs],
        [value(*o) for o in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, **more).SerializeToString()


def value(name, shape):
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def relu(x="x", y="y", **more):
    return helper.make_node("Relu", [x], [y], **more)


def external():
    built = onnx.load_model_from_string(
        model(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            [("x", [1, 4])],
            [("y", [1, 4])],
            [("w", np.zeros((4, 4), np.float32))],
        )
    )
    constant = built.graph.initializer[0]
    constant.ClearField("raw_data")
    constant.data_location = onnx.TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="../secrets.bin")
    return built.SerializeToString()


def recursive():
    function = helper.make_function(
        "own", "f", ["x"], ["y"], [helper.make_node("f", ["x"], ["y"], domain="own")],
        [helper.make_opsetid("own", 1)],
    )  # fmt: skip
    return model([relu()], [("x", [1])], [("y", [1])], functions=[function])


def branching():
    body = helper.make_graph([relu()], "b", [], [value("y", [1])])
    node = helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    return model([node], [("x", [1])], [("y", [1])])


HOSTILE = {
    "empty": b"",
    "no graph": onnx.ModelProto().SerializeToString(),
    "cycle": model([relu("a", "b"), relu("b", "a")], [("x", [1])], [("b", [1])]),
    "self-loop": model([relu("a", "a")], [("x", [1])], [("a", [1])]),
    "written twice": model([relu(), relu()], [("x", [1])], [("y", [1])]),
    "written to an input": model([relu("x", "x")], [("x", [1])], [("x", [1])]),
    "absurd shape": model([relu()], [("x", [1, 2**40])], [("y", [1, 2**40])]),
    "negative shape": model([relu()], [("x", [1, -5])], [("y", [1, -5])]),
    "unknown size": model([relu()], [("x", [1, "n"])], [("y", [1, "n"])]),
    "overflowing shape": model([relu()], [("x", [2**31] * 8)], [("y", [2**31] * 8)]),
    "many dimensions": model([relu()], [("x", [1] * 99)], [("y", [1] * 99)]),
    "many nodes": model(
        [relu(f"t{i}", f"t{i + 1}") for i in range(MAX_OPS + 1)],
        [("t0", [1])],
        [(f"t{MAX_OPS + 1}", [1])],
    ),
    "constants elsewhere": external(),
    "recursive function": recursive(),
    "control flow": branching(),
    "escape codes": model([relu(name="\x1b[2J")], [("x", [1])], [("y", [1])]),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_onnx(case):
    """Cycles, absurd sizes, other files, functions and control flow are refused, each in a line."""
    with pytest.raises(MalformedFile) as refusal:
        onnx_reader.network_from_bytes(HOSTILE[case], "model", "model.onnx")

    assert "model.onnx" in refusal.value.message
    assert refusal.value.fix


def test_wide_and_long_graphs_end():
    """Graphs as large as the limits allow, side by side and in a chain, are planned."""
    count = 600
    apart = [relu("x", f"a{i}") for i in range(count)]
    sums = [helper.make_node("Sum", [f"a{i}" for i in range(200)], ["y"])]
    wide = onnx_reader.network_from_bytes(
        model(apart + sums, [("x", [1, 64])], [("y", [1, 64])]), "wide", "wide"
    )
    chain = [relu(f"t{i}", f"t{i + 1}") for i in range(MAX_OPS)]
    long = onnx_reader.network_from_bytes(
        model(chain, [("t0", [1, 64])], [(f"t{MAX_OPS}", [1, 64])]), "long", "long"
    )

    assert lay_out(wide, NOTHING).allocation.optimal
    assert lay_out(long, Moves()).peak_bytes <= 2 * 256


def test_batch_of_unknown_size_is_one():
    """A symbolic batch becomes one, and the answer says so."""
    data = model([relu()], [("x", ["n", 8])], [("y", ["n", 8])])
    found = onnx_reader.network_from_bytes(data, "m", "m")

    assert found.tensor("y").shape == (1, 8)
    assert "a batch of one" in found.assumptions


def test_uncounted_operators_are_named():
    """An operator that nobody counts is planned for, and the answer says which."""
    node = helper.make_node("CumSum", ["x", "axis"], ["y"])
    data = model([node], [("x", [1, 8])], [("y", [1, 8])], [("axis", np.array(1, np.int64))])
    found = onnx_reader.network_from_bytes(data, "m", "m")

    assert found.ops[0].kind == "other"
    assert any("CumSum" in note for note in found.assumptions)


@pytest.mark.parametrize(
    ("node", "x", "w", "y", "macs"),
    [
        (
            {"op_type": "Conv", "strides": [2, 1], "pads": [1, 0, 0, 1], "dilations": [1, 2]},
            [1, 3, 9, 9], (8, 3, 3, 2), [1, 8, 4, 8], 4 * 8 * 8 * 18,
        ),
        ({"op_type": "Conv", "group": 2}, [1, 4, 6, 6], (6, 2, 1, 1), [1, 6, 6, 6], 36 * 6 * 2),
        ({"op_type": "Conv"}, [1, 4, 10], (6, 4, 3), [1, 6, 8], 8 * 6 * 12),
        ({"op_type": "ConvTranspose"}, [1, 4, 5, 5], (4, 6, 2, 2), [1, 6, 6, 6], 25 * 4 * 6 * 4),
        ({"op_type": "Gemm", "transB": 1}, [2, 8], (5, 8), [2, 5], 2 * 5 * 8),
        ({"op_type": "Gemm", "transA": 1}, [8, 2], (8, 5), [2, 5], 2 * 5 * 8),
        ({"op_type": "MatMul"}, [3, 2, 8], (3, 8, 5), [3, 2, 5], 3 * 2 * 5 * 8),
    ],
    ids=["strided", "grouped", "one-dimensional", "transposed", "gemm", "gemm-a", "batched"],
)  # fmt: skip
def test_counts_by_hand(node, x, w, y, macs):
    """Multiply-accumulates of odd products: outputs times taps, whatever the padding."""
    attributes = dict(node)
    made = helper.make_node(attributes.pop("op_type"), ["x", "w"], ["y"], **attributes)
    data = model([made], [("x", x)], [("y", y)], [("w", np.zeros(w, np.float32))])

    assert onnx_reader.network_from_bytes(data, "m", "m").macs == macs


def test_other_endings_and_absent_files(tmp_path):
    """A wrong ending, a missing file and a file too large are said as what they are."""
    large = tmp_path / "large.tflite"
    with large.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)

    with pytest.raises(BadValue, match="must end in"):
        read_network("model.pt")
    with pytest.raises(MissingFile):
        read_network(tmp_path / "absent.onnx")
    with pytest.raises(MalformedFile, match="larger than"):
        read_network(large)


@pytest.mark.parametrize("package", ["tflite", "onnx"])
def test_missing_parser(monkeypatch, tmp_path, package):
    """Without the parser the error says what to install."""
    monkeypatch.setitem(sys.modules, package, None)
    path = tmp_path / f"model.{package}"
    path.write_bytes(b"")

    with pytest.raises(MissingExtra) as refusal:
        read_network(path)
    assert refusal.value.fix == "pip install 'perfmodel[edge]'"


def test_names_occur_once():
    """Names that a file repeats, leaves empty or fills with control codes are made usable."""
    names = Names()

    assert [names.of(n, "t") for n in ("a", "a", "", "", "\x1b[2J")] == [
        "a", "a#2", "t", "t#2", "?[2J",
    ]  # fmt: skip
