"""ONNX files: the graph's nodes, read through the ``onnx`` package, nothing run.

Constants are folded away as every exporter's consumer does: a node that reads constants alone is a
constant. Quantise and dequantise nodes around an operator say that it runs on integers: they vanish
and the integer tensors remain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perfmodel.errors import MalformedFile
from perfmodel.mcu.network import Network, Op, OpKind, Tensor, TensorKind
from perfmodel.mcu.reading import (
    MAX_OPERANDS,
    MAX_OPS,
    MAX_TENSORS,
    Names,
    checked_shape,
    limited,
    make_op,
    missing_extra,
    refusing,
)

DTYPES = {
    "FLOAT": "fp32", "UINT8": "uint8", "INT8": "int8", "UINT16": "uint16", "INT16": "int16",
    "INT32": "int32", "INT64": "int64", "BOOL": "bool", "FLOAT16": "fp16", "DOUBLE": "fp64",
    "UINT32": "uint32", "UINT64": "uint64", "BFLOAT16": "bf16", "INT4": "int4", "UINT4": "uint4",
    "FLOAT8E4M3FN": "fp8", "FLOAT8E5M2": "fp8",
}  # fmt: skip

KINDS: dict[str, OpKind] = {
    **dict.fromkeys(
        ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"), "reshape"
    ),
    **dict.fromkeys(("Split", "Slice", "Gather", "GatherElements", "GatherND"), "slice"),
    **dict.fromkeys(("Resize", "Upsample"), "resize"),
    **dict.fromkeys(
        ("ReduceMean", "ReduceSum", "ReduceMax", "GlobalAveragePool", "GlobalMaxPool"), "mean"
    ),
    **dict.fromkeys(
        ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN"), "norm"
    ),
    **dict.fromkeys(("Softmax", "LogSoftmax"), "softmax"),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), "pool"),
    **dict.fromkeys(("Conv", "QLinearConv", "ConvInteger"), "conv"),
    **dict.fromkeys(("Gemm", "MatMul", "QLinearMatMul", "MatMulInteger"), "matmul"),
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Relu", "LeakyRelu", "PRelu", "Clip", "Min", "Max", "Abs",
         "Neg", "BatchNormalization", "HardSigmoid", "HardSwish", "QuantizeLinear", "Ceil",
         "DequantizeLinear", "Cast", "Where", "Equal", "Less", "Greater", "And", "Or", "Not",
         "Floor", "Round", "Sign", "QLinearAdd", "Sigmoid", "Tanh", "Gelu", "Elu", "Selu", "Exp",
         "Log", "Sqrt", "Erf", "Softplus", "Pow", "Reciprocal", "Sin", "Cos"),
        "elementwise",
    ),
    "ConvTranspose": "conv_transpose",
    "Transpose": "transpose",
    "Concat": "concat",
    "Pad": "pad",
}  # fmt: skip
SPECIAL = {"Sigmoid", "Tanh", "Gelu", "Elu", "Selu", "Exp", "Log", "Sqrt", "Erf", "Softplus",
           "Pow", "Reciprocal", "Sin", "Cos"}  # fmt: skip
OPERANDS = {"QLinearConv": (0, 3, 8), "QLinearMatMul": (0, 3), "QLinearAdd": (0, 3),
            "ConvInteger": (0, 1), "MatMulInteger": (0, 1)}  # fmt: skip
"""Which inputs of quantised operators are tensors; the others are scales and zero points."""
SUBGRAPHS = {"If", "Loop", "Scan", "SequenceMap"}


def network_from_bytes(data: bytes, name: str, where: str) -> Network:
    """The graph of an ONNX model with fixed shapes; raises MalformedFile, MissingExtra."""
    try:
        import onnx
    except ImportError:
        raise missing_extra(".onnx", "onnx") from None
    from google.protobuf.message import DecodeError, EncodeError
    from onnx.shape_inference import InferenceError

    with refusing(where, "ONNX"):
        try:
            model = onnx.load_model_from_string(data)
            _check(onnx, model)
            notes = _fix_batch(model.graph)
            model = onnx.shape_inference.infer_shapes(model)
        except (DecodeError, EncodeError, InferenceError, RuntimeError) as error:
            raise ValueError(str(error)) from None
        return _Reader(onnx, model.graph, notes).network(name)


def _check(onnx: Any, model: Any) -> None:
    """Limits, and what nobody could plan for: other files, functions, control flow."""
    graph = model.graph
    if not graph.node:
        msg = "holds no graph"
        raise MalformedFile(msg, fix="a model with at least one node")
    limited(len(graph.node), MAX_OPS, "nodes")
    limited(len(graph.initializer) + len(graph.value_info), MAX_TENSORS, "tensors")
    if model.functions:
        msg = f"defines functions of its own ({model.functions[0].name[:40]!r})"
        raise MalformedFile(msg, fix="inline them: onnx.inliner.inline_local_functions")
    if graph.sparse_initializer:
        msg = "holds sparse constants"
        raise MalformedFile(msg, fix="dense constants")
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    texts = [v.name for v in values]
    for node in graph.node:
        texts += [node.name, node.op_type, *node.input, *node.output]
        limited(len(node.input) + len(node.output), MAX_OPERANDS, f"operands of {node.op_type}")
        if node.op_type in SUBGRAPHS or any(a.HasField("g") or a.graphs for a in node.attribute):
            msg = f"the node {node.op_type[:40]} runs other graphs, which cannot be planned"
            raise MalformedFile(msg, fix="a model without control flow")
    # Bytes where they are no UTF-8; control characters would reach the reader's terminal.
    if not all(isinstance(text, str) and text.isprintable() for text in texts):
        msg = "holds names that are no text"
        raise MalformedFile(msg, fix="check that the file is complete")
    held = (a.t for node in graph.node for a in node.attribute if a.HasField("t"))
    for tensor in (*graph.initializer, *held):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            msg = f"tensor {tensor.name[:60]!r} lies in another file, which is not read"
            raise MalformedFile(msg, fix="onnx.save_model(..., save_as_external_data=False)")


def _fix_batch(graph: Any) -> list[str]:
    """Give a batch of unknown size the size 1; other unknown sizes are refused later."""
    constants = {t.name for t in graph.initializer}
    symbols = set()
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in constants and dims and not dims[0].HasField("dim_value"):
            symbols.add(dims[0].dim_param)
            dims[0].dim_value = 1
    for value in (*graph.value_info, *graph.output):
        for position, dim in enumerate(value.type.tensor_type.shape.dim):
            named = dim.HasField("dim_param") and dim.dim_param in symbols
            unknown = symbols and position == 0 and not dim.HasField("dim_value")
            if named or unknown:
                dim.dim_value = 1
    return ["a batch of one"] if symbols else []


class _Reader:
    def __init__(self, onnx: Any, graph: Any, notes: list[str]) -> None:
        self.onnx, self.graph, self.notes = onnx, graph, notes
        self.shapes: dict[str, tuple[Sequence[int], int]] = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            t = value.type.tensor_type
            dims = [d.dim_value if d.HasField("dim_value") else 0 for d in t.shape.dim]
            if t.HasField("shape"):
                self.shapes[value.name] = (dims, t.elem_type)
        self.constants = {t.name for t in graph.initializer}
        for t in graph.initializer:
            self.shapes[t.name] = (list(t.dims), t.data_type)
        self.alias: dict[str, str] = {}
        self.tensors: dict[str, Tensor] = {}

    def network(self, name: str) -> Network:
        """The whole graph."""
        nodes = self._without_quantisers(self._without_constants())
        outputs = {self._real(v.name) for v in self.graph.output}
        inputs = {v.name for v in self.graph.input} - self.constants
        self._check_constants()
        names = Names()
        ops = tuple(self._op(node, names, inputs, outputs) for node in nodes)
        for unread in inputs - self.tensors.keys():
            self._tensor(unread, inputs, outputs)
        return Network(
            name=name,
            tensors=tuple(self.tensors.values()),
            ops=ops,
            assumptions=tuple(dict.fromkeys(self.notes)),
        )

    def _check_constants(self) -> None:
        """Constants hold as many bytes as their shapes say, where they hold raw bytes."""
        for t in self.graph.initializer:
            shape = checked_shape([max(d, 1) for d in t.dims], t.name[:60])
            dtype = self._dtype(t.data_type, t.name)
            size = Tensor(name=t.name, shape=shape, dtype=dtype).bytes
            if t.HasField("raw_data") and len(t.raw_data) != size and 0 not in t.dims:
                msg = f"tensor {t.name[:60]!r} holds {len(t.raw_data)} bytes instead of {size}"
                raise MalformedFile(msg, fix="check that the file is complete")

    def _without_constants(self) -> list[Any]:
        """Nodes that read more than constants; the outputs of the others are constants."""
        left = []
        for node in self.graph.node:
            reads = [n for n in node.input if n]
            if (
                node.op_type == "Constant"
                or (
                    all(n in self.constants for n in reads)
                    and (reads or node.op_type != "Constant")
                )
                or node.op_type == "Shape"
            ):
                self.constants.update(node.output)
            else:
                left.append(node)
        return left

    def _without_quantisers(self, nodes: list[Any]) -> list[Any]:
        """Nodes without those that only say where integers begin and end."""
        reads: dict[str, int] = {}
        for node in nodes:
            for n in node.input:
                reads[n] = reads.get(n, 0) + 1
        written = {n for node in nodes for n in node.output}
        results = {v.name for v in self.graph.output}
        scaled = {
            node.input[0]: node.output[0]
            for node in nodes
            if node.op_type == "QuantizeLinear"
            and reads[node.input[0]] == 1
            and node.input[0] in written
            and node.input[0] not in results
        }
        back = {n.output[0]: n for n in nodes if n.op_type == "DequantizeLinear"}
        left = []
        for node in nodes:
            if node.op_type == "DequantizeLinear" and node.output[0] not in results:
                self.alias[node.output[0]] = node.input[0]
            elif node.op_type == "QuantizeLinear" and node.input[0] in scaled:
                source = back.get(node.input[0])
                if source is not None:
                    self.alias[node.output[0]] = source.input[0]
                else:
                    self.alias[node.input[0]] = node.output[0]
            else:
                left.append(node)
        self._dequantised_constants()
        if len(left) < len(nodes):
            self.notes.append("quantise and dequantise nodes run inside integer kernels")
        return left

    def _dequantised_constants(self) -> None:
        """A constant that is only read dequantised is stored as the integers it came from."""
        for node in self.graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] in self.constants:
                self.alias[node.output[0]] = node.input[0]

    def _real(self, name: str) -> str:
        """The tensor that stands for ``name`` once quantisers are gone."""
        seen = set()
        while name in self.alias and name not in seen:
            seen.add(name)
            name = self.alias[name]
        return name

    def _op(self, node: Any, names: Names, inputs: set[str], outputs: set[str]) -> Op:
        word = node.op_type[:40]
        kind = KINDS.get(word, "other")
        if kind == "other":
            self.notes.append(f"operators {word} are planned for but not counted")
        which = OPERANDS.get(word)
        reads = [n for i, n in enumerate(node.input) if n and (which is None or i in which)]
        ins = [self._tensor(self._real(n), inputs, outputs) for n in reads]
        outs = [self._tensor(self._real(n), inputs, outputs) for n in node.output if n]
        if kind == "matmul" and len(ins) > 1 and ins[1].kind == "weight":
            kind = "dense"
        attributes = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        make = _ATTRIBUTES.get(kind)
        given = make(attributes, ins, outs) if make else {}
        if kind == "conv" and given["groups"] == ins[0].shape[1] > 1:
            kind = "depthwise"
        if kind in ("softmax", "norm", "concat"):
            given["axis"] = int(attributes.get("axis", -1))
        if word in SPECIAL:
            given["special"] = 1.0
        return make_op(names.of(node.name, word.lower()), kind, ins, outs, given)

    def _tensor(self, name: str, inputs: set[str], outputs: set[str]) -> Tensor:
        if name in self.tensors:
            return self.tensors[name]
        kind: TensorKind = "activation"
        if name in self.constants:
            kind = "weight"
        elif name in inputs:
            kind = "input"
        elif name in outputs:
            kind = "output"
        dims, number = self.shapes.get(name, ([1] if kind == "weight" else [0], 1))
        if kind == "weight":
            dims = [max(d, 1) for d in dims]
        shape = checked_shape(dims, name[:60])
        made = Tensor(name=name, shape=shape, dtype=self._dtype(number, name), kind=kind)
        self.tensors[name] = made
        return made

    def _dtype(self, number: int, name: str) -> str:
        word = next(
            (k for k, v in self.onnx.TensorProto.DataType.items() if v == number), str(number)
        )
        if word not in DTYPES:
            msg = f"tensor {name[:60]!r} has a type that no microcontroller holds ({word})"
            raise MalformedFile(msg, fix="numbers of fixed size")
        return DTYPES[word]


def _sides(given: Mapping[str, Any], rank: int, key: str) -> tuple[int, int]:
    """An attribute of one or two spatial sizes; 1-D convolutions are one column wide."""
    values = [int(v) for v in given.get(key, [1] * (rank - 2))]
    if len(values) != rank - 2 or min(values, default=1) < 1 or rank not in (3, 4):
        msg = f"{key} of {values} does not suit an image of {rank} dimensions"
        raise MalformedFile(msg, fix="images of (batch, channels, height, width)")
    return (values[0], 1) if rank == 3 else (values[0], values[1])


def _conv(
    given: Mapping[str, Any], ins: Sequence[Tensor], outs: Sequence[Tensor]
) -> dict[str, Any]:
    x, filters = ins[0], ins[1].shape
    rank = len(x.shape)
    kernel = (*filters[2:], 1)
    return {
        "kernel": (kernel[0], kernel[1]),
        "stride": _sides(given, rank, "strides"),
        "dilation": _sides(given, rank, "dilations"),
        "axes": (2, 3)[: rank - 2],
        "groups": int(given.get("group", 1)),
    }


def _pool(
    given: Mapping[str, Any], ins: Sequence[Tensor], outs: Sequence[Tensor]
) -> dict[str, Any]:
    rank = len(ins[0].shape)
    return {
        "kernel": _sides(given, rank, "kernel_shape"),
        "stride": _sides(given, rank, "strides"),
        "axes": (2, 3)[: rank - 2],
    }


def _product(
    given: Mapping[str, Any], ins: Sequence[Tensor], outs: Sequence[Tensor]
) -> dict[str, Any]:
    a, out = ins[0].shape, outs[0].shape
    first = bool(given.get("transA", 0))
    n = out[-1]
    constant = ins[1].kind == "weight" and len(ins[1].shape) == 2
    rows = out[-2] if len(out) > 1 else 1
    batch = 1 if constant else max(outs[0].elements // (rows * n), 1)
    return {"n": n, "k": a[-2 if first else -1], "batch": batch, "transpose_first": first}


def _transposed(
    given: Mapping[str, Any], ins: Sequence[Tensor], outs: Sequence[Tensor]
) -> dict[str, Any]:
    x, filters = ins[0], ins[1].shape
    taps = ins[1].elements // (filters[0] * filters[1])
    groups = max(int(given.get("group", 1)), 1)
    k = x.shape[1]
    return {"n": filters[1] * taps, "k": k, "m": x.elements // k // groups * groups}


_ATTRIBUTES: Mapping[str, Callable[..., dict[str, Any]]] = {
    "conv": _conv,
    "pool": _pool,
    "dense": _product,
    "matmul": _product,
    "conv_transpose": _transposed,
}
