"""TensorFlow Lite files: the flatbuffer's tables, read through the ``tflite`` package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perfmodel.errors import MalformedFile
from perfmodel.mcu.network import Network, Op, OpKind, Tensor, TensorKind
from perfmodel.mcu.reading import (
    MAX_ELEMENTS,
    MAX_OPERANDS,
    MAX_OPS,
    MAX_RANK,
    MAX_TENSORS,
    Names,
    checked_shape,
    limited,
    make_op,
    missing_extra,
    refusing,
)

DTYPES = {
    "FLOAT32": "fp32",
    "FLOAT16": "fp16",
    "INT32": "int32",
    "UINT8": "uint8",
    "INT64": "int64",
    "BOOL": "bool",
    "INT16": "int16",
    "COMPLEX64": "complex64",
    "INT8": "int8",
    "FLOAT64": "fp64",
    "COMPLEX128": "complex128",
    "UINT64": "uint64",
    "UINT32": "uint32",
    "UINT16": "uint16",
    "INT4": "int4",
    "BFLOAT16": "bf16",
}

KINDS: dict[str, OpKind] = {
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), "reshape"),
    **dict.fromkeys(("CONCATENATION", "PACK"), "concat"),
    **dict.fromkeys(
        ("SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE", "GATHER", "UNPACK", "GATHER_ND",
         "READ_VARIABLE", "ASSIGN_VARIABLE"), "slice"
    ),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), "pad"),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), "resize"),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"), "mean"),
    **dict.fromkeys(("L2_NORMALIZATION", "LOCAL_RESPONSE_NORMALIZATION"), "norm"),
    **dict.fromkeys(("SOFTMAX", "LOG_SOFTMAX"), "softmax"),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"), "pool"),
    **dict.fromkeys(
        ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "PRELU", "RELU",
         "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "ABS", "NEG", "SQUARE", "FLOOR",
         "CEIL", "ROUND", "SIGN", "HARD_SWISH", "QUANTIZE", "DEQUANTIZE", "CAST", "SELECT",
         "SELECT_V2", "FAKE_QUANT", "LESS", "GREATER", "EQUAL", "LOGICAL_AND", "LOGICAL_OR"),
        "elementwise",
    ),
    **dict.fromkeys(
        ("LOGISTIC", "TANH", "GELU", "ELU", "EXP", "LOG", "SQRT", "RSQRT", "SIN", "COS", "POW"),
        "elementwise",
    ),
    "CONV_2D": "conv",
    "DEPTHWISE_CONV_2D": "depthwise",
    "TRANSPOSE_CONV": "conv_transpose",
    "FULLY_CONNECTED": "dense",
    "BATCH_MATMUL": "matmul",
    "TRANSPOSE": "transpose",
    "EMBEDDING_LOOKUP": "embedding",
}  # fmt: skip
SPECIAL = {"LOGISTIC", "TANH", "GELU", "ELU", "EXP", "LOG", "SQRT", "RSQRT", "SIN", "COS", "POW"}
SET_UP = {"VAR_HANDLE", "CALL_ONCE"}
"""Operators that run once before the first inference: they name variables and fill them."""

SUBGRAPHS = {"IF", "WHILE", "CALL", "STABLEHLO_WHILE"}
"""Operators that run other graphs of the file, whose memory nobody could state."""


def network_from_bytes(data: bytes, name: str, where: str) -> Network:
    """The first graph of a TensorFlow Lite model; raises MalformedFile, MissingExtra."""
    try:
        import tflite as schema
    except ImportError:
        raise missing_extra(".tflite", "tflite") from None
    with refusing(where, "TensorFlow Lite"):
        if data[4:8] != b"TFL3":
            msg = "does not start as a TensorFlow Lite model does"
            raise MalformedFile(msg, fix="a .tflite file as converters write it")
        return _Reader(schema, data).network(name)


class _Reader:
    def __init__(self, schema: Any, data: bytes) -> None:
        self.schema = schema
        self.model = schema.Model.GetRootAs(data, 0)
        self.size = len(data)
        limited(self.model.SubgraphsLength(), MAX_OPS, "graphs")
        if not self.model.SubgraphsLength() or not self.model.Subgraphs(0).OperatorsLength():
            msg = "holds no graph"
            raise MalformedFile(msg, fix="a model with at least one operator")
        self.graph = self.model.Subgraphs(0)
        self.assumptions: list[str] = []
        self.variables: dict[int, int] = {}

    def network(self, name: str) -> Network:
        """The whole graph."""
        inputs = self._indices(self.graph.InputsLength(), self.graph.Inputs)
        outputs = self._indices(self.graph.OutputsLength(), self.graph.Outputs)
        count = limited(self.graph.OperatorsLength(), MAX_OPS, "operators")
        operators = [self.graph.Operators(i) for i in range(count)]
        steps = [(op, self._word(op.OpcodeIndex()), *self._operands(op)) for op in operators]
        if any(word in SET_UP for _, word, _, _ in steps):
            self.assumptions.append("variables are filled before the first inference")
        steps = [self._on_variables(*step) for step in steps if step[1] not in SET_UP]
        tensors = self._tensors(set(inputs), set(outputs))
        names = Names()
        ops = [self._op(*step, tensors, names) for step in steps]
        used = {n for op in ops for n in (*op.inputs, *op.outputs)}
        used |= {tensors[i].name for i in inputs}
        return Network(
            name=name,
            tensors=tuple(t for t in tensors if t.name in used),
            ops=tuple(ops),
            assumptions=tuple(dict.fromkeys(self.assumptions)),
        )

    def _on_variables(
        self, op: Any, word: str, ins: list[int], outs: list[int]
    ) -> tuple[Any, str, list[int], list[int]]:
        """The step with its variable, if it has one, as a state that is read or written."""
        if word == "READ_VARIABLE":
            self.variables[ins[0]] = outs[0]
        elif word == "ASSIGN_VARIABLE":
            self.variables.setdefault(ins[0], ins[1])
            ins, outs = ins[1:], ins[:1]
        return op, word, ins, outs

    def _indices(self, length: int, read: Callable[[int], int]) -> list[int]:
        total = limited(self.graph.TensorsLength(), MAX_TENSORS, "tensors")
        found = [int(read(i)) for i in range(limited(length, MAX_OPERANDS, "operands"))]
        for i in found:
            if not -1 <= i < total:
                msg = f"refers to tensor {i} of {total}"
                raise MalformedFile(msg, fix="check that the file is complete")
        return [i for i in found if i >= 0]

    def _operands(self, op: Any) -> tuple[list[int], list[int]]:
        return (
            self._indices(op.InputsLength(), op.Inputs),
            self._indices(op.OutputsLength(), op.Outputs),
        )

    def _tensors(self, inputs: set[int], outputs: set[int]) -> list[Tensor]:
        names = Names()
        total = limited(self.graph.TensorsLength(), MAX_TENSORS, "tensors")
        return [
            self._tensor(self.graph.Tensors(i), i, names, inputs, outputs) for i in range(total)
        ]

    def _tensor(self, t: Any, i: int, names: Names, inputs: set[int], outputs: set[int]) -> Tensor:
        name = names.of((t.Name() or b"").decode("utf-8", "replace"), f"tensor_{i}")
        if i in self.variables:  # a handle: the state has the size of what is read from it
            t = self.graph.Tensors(self.variables[i])
        rank = limited(t.ShapeLength(), MAX_RANK, f"dimensions of {name!r}")
        shape = checked_shape([t.Shape(d) for d in range(rank)], name)
        word = _enum_name(self.schema.TensorType, t.Type())
        dtype = "int32" if word == "RESOURCE" else DTYPES.get(word)
        if dtype is None:
            msg = f"tensor {name!r} has a type that no microcontroller holds ({t.Type()})"
            raise MalformedFile(msg, fix="numbers of fixed size")
        stored = self._stored(t)
        kind: TensorKind = "activation"
        if i in self.variables:
            kind = "state"
        elif i in inputs:
            kind = "input"
        elif stored:
            kind = "weight"
        elif t.IsVariable():
            kind = "state"
        elif i in outputs:
            kind = "output"
        made = Tensor(name=name, shape=shape, dtype=dtype, kind=kind)
        if kind == "weight" and not t.Sparsity() and made.bytes != stored:
            msg = f"tensor {name!r} holds {stored} bytes where its shape says {made.bytes}"
            raise MalformedFile(msg, fix="check that the file is complete")
        return made

    def _stored(self, t: Any) -> int:
        """Bytes of constant data, inside the tables or after them."""
        index, total = t.Buffer(), limited(self.model.BuffersLength(), MAX_TENSORS * 2, "buffers")
        if index == 0:
            return 0
        if index >= total:
            msg = f"refers to buffer {index} of {total}"
            raise MalformedFile(msg, fix="check that the file is complete")
        buffer = self.model.Buffers(index)
        inside = int(buffer.DataLength())
        return limited(inside or int(buffer.Size()), min(self.size, MAX_ELEMENTS), "bytes of data")

    def _op(
        self,
        op: Any,
        word: str,
        ins: Sequence[int],
        outs: Sequence[int],
        tensors: Sequence[Tensor],
        names: Names,
    ) -> Op:
        if word in SUBGRAPHS:
            msg = f"the operator {word} runs other graphs, which cannot be planned"
            raise MalformedFile(msg, fix="a model without control flow")
        kind = KINDS.get(word, "other")
        if kind == "other":
            self.assumptions.append(f"operators {word} are planned for but not counted")
        inputs, outputs = [tensors[i] for i in ins], [tensors[i] for i in outs]
        make = _ATTRIBUTES.get(kind)
        given = make(self.schema, op, inputs, outputs) if make else {}
        if kind == "conv_transpose":  # its first operand is the shape of the output
            inputs = [inputs[2], inputs[1], inputs[0], *inputs[3:]]
        if word in SPECIAL:
            given["special"] = 1.0
        return make_op(names.of(word.lower(), "op"), kind, inputs, outputs, given)

    def _word(self, index: int) -> str:
        total = limited(self.model.OperatorCodesLength(), MAX_OPS, "operator codes")
        if index >= total:
            msg = f"refers to operator code {index} of {total}"
            raise MalformedFile(msg, fix="check that the file is complete")
        code = self.model.OperatorCodes(index)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if number == self.schema.BuiltinOperator.CUSTOM:
            return f"CUSTOM {(code.CustomCode() or b'').decode('utf-8', 'replace')[:40]}".strip()
        return _enum_name(self.schema.BuiltinOperator, number)


def _enum_name(enum: Any, value: int) -> str:
    return next(
        (k for k, v in vars(enum).items() if not k.startswith("_") and v == value),
        f"OPERATOR {value}",
    )


def _options(op: Any, made: Any) -> Any:
    """The operator's options table of the type ``made``; raises MalformedFile without one."""
    table = op.BuiltinOptions()
    if table is None:
        msg = f"an operator lacks its {type(made).__name__}"
        raise MalformedFile(msg, fix="check that the file is complete")
    made.Init(table.Bytes, table.Pos)
    return made


def _conv(schema: Any, op: Any, ins: Sequence[Tensor], outs: Sequence[Tensor]) -> dict[str, Any]:
    o = _options(op, schema.Conv2DOptions())
    filters = ins[1].shape
    return _window(
        (filters[1], filters[2]),
        o,
        groups=max(ins[0].shape[3] // filters[3], 1),
        dilation=(o.DilationHFactor(), o.DilationWFactor()),
    )


def _depthwise(
    schema: Any, op: Any, ins: Sequence[Tensor], outs: Sequence[Tensor]
) -> dict[str, Any]:
    o = _options(op, schema.DepthwiseConv2DOptions())
    filters = ins[1].shape
    return _window(
        (filters[1], filters[2]),
        o,
        groups=ins[0].shape[3],
        dilation=(o.DilationHFactor(), o.DilationWFactor()),
    )


def _pool(schema: Any, op: Any, ins: Sequence[Tensor], outs: Sequence[Tensor]) -> dict[str, Any]:
    o = _options(op, schema.Pool2DOptions())
    return _window((o.FilterHeight(), o.FilterWidth()), o)


def _window(kernel: tuple[int, int], options: Any, **more: Any) -> dict[str, Any]:
    stride = (options.StrideH(), options.StrideW())
    if min(*kernel, *stride) < 1 or min(more.get("dilation", (1, 1))) < 1:
        msg = f"a window of {list(kernel)} with strides {list(stride)} is impossible"
        raise MalformedFile(msg, fix="check that the file is complete")
    return {"kernel": kernel, "stride": stride, "axes": (1, 2), **more}


def _dense(schema: Any, op: Any, ins: Sequence[Tensor], outs: Sequence[Tensor]) -> dict[str, Any]:
    n, k = ins[1].shape
    return {"n": n, "k": k}


def _matmul(schema: Any, op: Any, ins: Sequence[Tensor], outs: Sequence[Tensor]) -> dict[str, Any]:
    o = _options(op, schema.BatchMatMulOptions())
    first = bool(o.AdjX())
    m, n = outs[0].shape[-2:]
    return {
        "n": n,
        "k": ins[0].shape[-2 if first else -1],
        "batch": max(outs[0].elements // (m * n), 1),
        "transpose_first": first,
    }


def _transposed(
    schema: Any, op: Any, ins: Sequence[Tensor], outs: Sequence[Tensor]
) -> dict[str, Any]:
    filters, x = ins[1].shape, ins[2]
    return {
        "n": filters[0] * filters[1] * filters[2],
        "k": x.shape[3],
        "m": x.elements // x.shape[3],
    }


_ATTRIBUTES: Mapping[str, Callable[..., dict[str, Any]]] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "pool": _pool,
    "dense": _dense,
    "matmul": _matmul,
    "conv_transpose": _transposed,
}
