"""Writes built-in networks as .tflite and .onnx files, as converters would."""

from __future__ import annotations

import flatbuffers
import numpy as np
import tflite

from perfmodel.mcu.network import Network, Op, Tensor

TFLITE_TYPES = {"int8": tflite.TensorType.INT8, "int32": tflite.TensorType.INT32}
OPERATORS = {
    "conv": tflite.BuiltinOperator.CONV_2D,
    "depthwise": tflite.BuiltinOperator.DEPTHWISE_CONV_2D,
    "dense": tflite.BuiltinOperator.FULLY_CONNECTED,
    "pool": tflite.BuiltinOperator.AVERAGE_POOL_2D,
    "reshape": tflite.BuiltinOperator.RESHAPE,
    "elementwise": tflite.BuiltinOperator.ADD,
    "softmax": tflite.BuiltinOperator.SOFTMAX,
}


def to_tflite(network: Network) -> bytes:
    """``network`` as a flatbuffer; constants are zeros."""
    b = flatbuffers.Builder(1 << 20)
    index = {t.name: i for i, t in enumerate(network.tensors)}
    buffers = [_buffer(b, 0)]
    tensors = []
    for t in network.tensors:
        number = 0
        if t.kind == "weight":
            number = len(buffers)
            buffers.append(_buffer(b, t.bytes))
        tensors.append(_tensor(b, t, number))
    kinds = sorted({op.kind for op in network.ops})
    codes = [_code(b, OPERATORS[kind]) for kind in kinds]
    operators = [_operator(b, op, index, kinds.index(op.kind)) for op in network.ops]
    inputs = [index[t.name] for t in network.of_kind("input")]
    outputs = [index[t.name] for t in network.of_kind("output")]
    graph = _graph(b, tensors, operators, inputs, outputs)
    return _finished(b, codes, graph, buffers)


def with_variable() -> bytes:
    """y = x + v, then v = y: a variable as streaming networks keep it from call to call."""
    b = flatbuffers.Builder(1 << 12)
    handle, byte = tflite.TensorType.RESOURCE, tflite.TensorType.INT8
    tensors = [
        _typed(b, "x", (1, 4), byte), _typed(b, "v", (), handle),
        _typed(b, "old", (1, 4), byte), _typed(b, "y", (1, 4), byte),
    ]  # fmt: skip
    words = tflite.BuiltinOperator
    steps = [
        (words.VAR_HANDLE, [], [1]), (words.READ_VARIABLE, [1], [2]),
        (words.ADD, [0, 2], [3]), (words.ASSIGN_VARIABLE, [1, 3], []),
    ]  # fmt: skip
    codes = [_code(b, word) for word, _, _ in steps]
    operators = [_plain(b, i, ins, outs) for i, (_, ins, outs) in enumerate(steps)]
    return _finished(b, codes, _graph(b, tensors, operators, [0], [3]), [_buffer(b, 0)])


def _finished(b, codes, graph, buffers) -> bytes:
    fields = [
        _offsets(b, tflite.ModelStartOperatorCodesVector, codes),
        _offsets(b, tflite.ModelStartSubgraphsVector, [graph]),
        _offsets(b, tflite.ModelStartBuffersVector, buffers),
    ]
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddOperatorCodes(b, fields[0])
    tflite.ModelAddSubgraphs(b, fields[1])
    tflite.ModelAddBuffers(b, fields[2])
    b.Finish(tflite.ModelEnd(b), file_identifier=b"TFL3")
    return bytes(b.Output())


def _offsets(b, start, items):
    start(b, len(items))
    for item in reversed(items):
        b.PrependUOffsetTRelative(item)
    return b.EndVector()


def _numbers(b, values):
    return b.CreateNumpyVector(np.array(values, dtype=np.int32))


def _buffer(b, size):
    data = b.CreateNumpyVector(np.zeros(size, dtype=np.uint8)) if size else None
    tflite.BufferStart(b)
    if data is not None:
        tflite.BufferAddData(b, data)
    return tflite.BufferEnd(b)


def _tensor(b, t: Tensor, number: int):
    return _typed(b, t.name, t.shape, TFLITE_TYPES[t.dtype], number)


def _typed(b, text, sizes, kind, number=0):
    name, shape = b.CreateString(text), _numbers(b, sizes)
    tflite.TensorStart(b)
    tflite.TensorAddShape(b, shape)
    tflite.TensorAddType(b, kind)
    tflite.TensorAddBuffer(b, number)
    tflite.TensorAddName(b, name)
    return tflite.TensorEnd(b)


def _code(b, number):
    tflite.OperatorCodeStart(b)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
    tflite.OperatorCodeAddBuiltinCode(b, number)
    return tflite.OperatorCodeEnd(b)


def _operator(b, op: Op, index, code):
    inputs = _numbers(b, [index[n] for n in op.inputs])
    outputs = _numbers(b, [index[n] for n in op.outputs])
    kind, options = _options(b, op)
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, code)
    tflite.OperatorAddInputs(b, inputs)
    tflite.OperatorAddOutputs(b, outputs)
    if options is not None:
        tflite.OperatorAddBuiltinOptionsType(b, kind)
        tflite.OperatorAddBuiltinOptions(b, options)
    return tflite.OperatorEnd(b)


def _plain(b, code, inputs, outputs):
    fields = [_numbers(b, inputs), _numbers(b, outputs)]
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, code)
    tflite.OperatorAddInputs(b, fields[0])
    tflite.OperatorAddOutputs(b, fields[1])
    return tflite.OperatorEnd(b)


def _options(b, op: Op):
    stride = op.attributes.get("stride", (1, 1))
    if op.kind == "conv":
        tflite.Conv2DOptionsStart(b)
        tflite.Conv2DOptionsAddStrideH(b, stride[0])
        tflite.Conv2DOptionsAddStrideW(b, stride[1])
        return tflite.BuiltinOptions.Conv2DOptions, tflite.Conv2DOptionsEnd(b)
    if op.kind == "depthwise":
        tflite.DepthwiseConv2DOptionsStart(b)
        tflite.DepthwiseConv2DOptionsAddStrideH(b, stride[0])
        tflite.DepthwiseConv2DOptionsAddStrideW(b, stride[1])
        tflite.DepthwiseConv2DOptionsAddDepthMultiplier(b, 1)
        return tflite.BuiltinOptions.DepthwiseConv2DOptions, tflite.DepthwiseConv2DOptionsEnd(b)
    if op.kind == "pool":
        kernel = op.attributes["kernel"]
        tflite.Pool2DOptionsStart(b)
        tflite.Pool2DOptionsAddStrideH(b, stride[0])
        tflite.Pool2DOptionsAddStrideW(b, stride[1])
        tflite.Pool2DOptionsAddFilterHeight(b, kernel[0])
        tflite.Pool2DOptionsAddFilterWidth(b, kernel[1])
        return tflite.BuiltinOptions.Pool2DOptions, tflite.Pool2DOptionsEnd(b)
    return 0, None


def _graph(b, tensors, operators, inputs, outputs):
    fields = [
        _offsets(b, tflite.SubGraphStartTensorsVector, tensors),
        _numbers(b, inputs),
        _numbers(b, outputs),
        _offsets(b, tflite.SubGraphStartOperatorsVector, operators),
    ]
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, fields[0])
    tflite.SubGraphAddInputs(b, fields[1])
    tflite.SubGraphAddOutputs(b, fields[2])
    tflite.SubGraphAddOperators(b, fields[3])
    return tflite.SubGraphEnd(b)


def to_onnx(network: Network, *, integers: bool = False) -> bytes:
    """``network`` as ONNX in float, channels first; ``integers`` quantises around each node."""
    return _OnnxWriter(network, integers=integers).model().SerializeToString()


class _OnnxWriter:
    def __init__(self, network: Network, *, integers: bool) -> None:
        import onnx

        self.onnx, self.network, self.integers = onnx, network, integers
        self.nodes, self.constants = [], []
        self.scale = self._constant("scale", np.float32(0.1))
        self.zero = self._constant("zero", np.int8(0))

    def model(self):
        helper = self.onnx.helper
        for op in self.network.ops:
            self._node(op)
        (x,), (y,) = self.network.of_kind("input"), self.network.of_kind("output")
        number = self.onnx.TensorProto.INT8 if self.integers else self.onnx.TensorProto.FLOAT
        ends = [helper.make_tensor_value_info(t.name, number, self._shape(t)) for t in (x, y)]
        graph = helper.make_graph(self.nodes, "graph", ends[:1], ends[1:], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])

    def _shape(self, t: Tensor):
        n, *rest = t.shape
        return [n, rest[2], rest[0], rest[1]] if len(rest) == 3 else [n, *rest]

    def _constant(self, name, value):
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def _read(self, name):
        if not self.integers:
            return name
        self._emit("DequantizeLinear", [name, self.scale, self.zero], f"{name}.real")
        return f"{name}.real"

    def _emit(self, kind, inputs, output, **attributes):
        made = self.onnx.helper.make_node(kind, inputs, [output], **attributes)
        made.name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(made)

    def _weight(self, op: Op):
        t = next(self.network.tensor(n) for n in op.inputs if n.endswith(".weight"))
        shape = t.shape
        if op.kind == "conv":
            shape = (shape[0], shape[3], shape[1], shape[2])
        elif op.kind == "depthwise":
            shape = (shape[0], 1, shape[1], shape[2])
        else:
            shape = (shape[1], shape[0])
        return self._constant(t.name, np.zeros(shape, np.int8 if self.integers else np.float32))

    def _node(self, op: Op):
        out = f"{op.outputs[0]}.float" if self.integers else op.outputs[0]
        reads = [self._read(n) for n in op.inputs if not n.endswith((".weight", ".bias"))]
        if op.kind in ("conv", "depthwise"):
            image = self.network.tensor(op.inputs[0]).shape
            self._emit(
                "Conv",
                [*reads, self._read(self._weight(op))],
                out,
                strides=op.attributes["stride"],
                kernel_shape=op.attributes["kernel"],
                group=image[3] if op.kind == "depthwise" else 1,
                auto_pad="SAME_UPPER",
            )
        elif op.kind == "dense":
            self._emit("MatMul", [*reads, self._read(self._weight(op))], out)
        elif op.kind == "pool":
            kernel = op.attributes["kernel"]
            self._emit("AveragePool", reads, out, kernel_shape=kernel, strides=kernel)
        elif op.kind == "reshape":
            shape = np.array(self.network.tensor(op.outputs[0]).shape, np.int64)
            self._emit("Reshape", [*reads, self._constant(f"{op.name}.shape", shape)], out)
        else:
            self._emit({"elementwise": "Add", "softmax": "Softmax"}[op.kind], reads, out)
        if self.integers:
            self._emit("QuantizeLinear", [out, self.scale, self.zero], op.outputs[0])
