"""Exact parameter totals and weight bytes.

A layer is its matrices (:func:`layer_linears`) and its vectors (:func:`layer_vectors`: norms,
convolution taps, state-space scalars). Every total, every weight byte and every matrix product
of a model step is a sum over these two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.errors import ImpossibleSplit
from perfmodel.models.linears import (
    Linear,
    SplitKind,
    delta_channels,
    ffn_linears,
    layer_linears,
    mixer_linears,
)
from perfmodel.models.parallel import ways_of
from perfmodel.models.shape import (
    AttentionMixer,
    DeltaMixer,
    LatentMixer,
    LayerGroup,
    Mamba2Mixer,
    MambaMixer,
    Mixer,
    ModelShape,
    Moe,
)
from perfmodel.workload import BLOCK_FORMATS, Array, check_size, dtype_bytes
from perfmodel.workload.dtypes import WEIGHT_SCALES, dtype_name

__all__ = [
    "Linear",
    "ParameterCount",
    "SplitKind",
    "embedding_parameters",
    "ffn_linears",
    "head_parameters",
    "layer_linears",
    "layer_parameters",
    "layer_vectors",
    "mixer_linears",
    "mixer_vectors",
    "norm_elements",
    "parameter_count",
    "weight_bytes",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCount:
    """Where a model's parameters are.

    ``embedding`` is the input tables (tokens, positions, token types, patches), ``head`` the
    output matrix of its own (0 if tied: the head then reads the token table), ``layers`` all
    layers, ``other`` final norms, poolers and projections. ``active`` is what one token uses:
    the total less the routed experts that it does not visit.
    """

    total: int
    embedding: int
    head: int
    layers: int
    other: int
    active: int


def parameter_count(shape: ModelShape) -> ParameterCount:
    """Exact totals of ``shape``, as the published checkpoints hold them."""
    layers = sum(group.count * layer_parameters(shape, group) for group in shape.layers)
    idle = sum(group.count * idle_parameters(shape, group) for group in shape.layers)
    embedding, head, other = (
        embedding_parameters(shape),
        head_parameters(shape),
        other_parameters(shape),
    )
    total = layers + embedding + head + other
    return ParameterCount(
        total=total,
        embedding=embedding,
        head=head,
        layers=layers,
        other=other,
        active=total - idle,
    )


def layer_parameters(shape: ModelShape, group: LayerGroup) -> int:
    """Parameters of one layer of ``group``: matrices, biases and vectors."""
    linears = sum(linear.parameters for linear in layer_linears(shape, group))
    return linears + layer_vectors(shape, group)


def idle_parameters(shape: ModelShape, group: LayerGroup) -> int:
    """Parameters of the routed experts of one layer that a token does not visit."""
    return sum(
        int(x.parameters // x.count * (x.count - x.active))
        for x in layer_linears(shape, group)
        if x.expert
    )


def embedding_parameters(shape: ModelShape) -> int:
    """The input tables: looked up or convolved once, never multiplied per layer."""
    width = shape.embedding_width or shape.hidden
    tables = shape.vocab * width + (shape.positions + shape.token_types) * shape.hidden
    if shape.patch is None:
        return tables
    square = shape.patch.patch**2 * shape.patch.channels
    return tables + shape.hidden * (square + 1) + shape.patch.extra_tokens * shape.hidden


def head_parameters(shape: ModelShape) -> int:
    """The output matrix (0 if tied) and its bias."""
    width = shape.embedding_width or shape.hidden
    matrix = 0 if shape.tied else shape.head_outputs * width
    return matrix + (shape.head_outputs if shape.head_bias else 0)


def other_parameters(shape: ModelShape) -> int:
    """Final and embedding norms, the pooler, and projections to a narrower embedding."""
    norms = (int(shape.final_norm) + int(shape.embedding_norm)) * norm_elements(shape)
    pooler = shape.hidden * (shape.hidden + 1) if shape.pooler else 0
    width = shape.embedding_width or shape.hidden
    return norms + pooler + (2 * width * shape.hidden if width != shape.hidden else 0)


def norm_elements(shape: ModelShape) -> int:
    """Elements of one hidden-width norm: a weight, and a bias where the family has one."""
    if not shape.norm_affine:
        return 0
    return shape.hidden * (2 if shape.norm_bias else 1)


def layer_vectors(shape: ModelShape, group: LayerGroup) -> int:
    """What a layer holds besides matrices: norms, convolutions, scan constants, corrections."""
    routing = group.ffn.experts if isinstance(group.ffn, Moe) and group.ffn.correction else 0
    return (
        group.norms * norm_elements(shape)
        + mixer_vectors(group.mixer)
        + routing
        + group.extra_parameters
    )


def mixer_vectors(mixer: Mixer | None) -> int:
    """Vectors inside a token mixer."""
    match mixer:
        case AttentionMixer():
            return 2 * mixer.qk_norm
        case LatentMixer():
            return (mixer.q_rank or 0) + mixer.kv_rank
        case MambaMixer():  # A, D, dt bias; taps; norms of dt, B and C
            taps = mixer.inner * (mixer.conv + int(mixer.conv_bias))
            norms = (mixer.dt_rank + 2 * mixer.state) if mixer.inner_norms else 0
            return mixer.inner * (mixer.state + 1) + taps + norms
        case Mamba2Mixer():  # A, D and dt bias per head; taps; the gate's norm
            taps = mixer.conv_channels * (mixer.conv + int(mixer.conv_bias))
            return 3 * mixer.heads + taps + (mixer.inner if mixer.gate_norm else 0)
        case DeltaMixer():  # A and dt bias per value head; taps; the gate's norm
            return 2 * mixer.value_heads + delta_channels(mixer) * mixer.conv + mixer.value_dim
        case None:
            return 0


def weight_bytes(
    shape: ModelShape,
    weight_dtype: str = "bf16",
    tp: Any = 1,
    pp: Any = 1,
    ep: Any = 1,
    embedding_dtype: str | None = None,
) -> Array:
    """Bytes of the weights that the fullest device holds.

    Matrices of layers are stored as ``weight_dtype`` with the scales of narrow formats; norms,
    biases and other vectors in 16 bits at least; embedding and head as ``embedding_dtype`` (by
    default ``weight_dtype`` if that has 16 bits or more or is a block format, else bf16). Tensor
    parallelism divides matrices and tables, and holds vectors whole; experts divide over ``ep``,
    and within one over tp / ep. With ``pp`` > 1 the layers are dealt in sequence, as evenly as
    whole layers allow; the table belongs to the first stage, head and final norm to the last.

    Raises:
        UnknownName: no such data type.
        BadValue: ``tp``, ``pp`` or ``ep`` is not a count.
        ImpossibleSplit: more stages than layers.
    """
    stages = np.asarray(check_size(pp, "pp"))
    if int(stages.max()) > shape.depth:
        msg = f"{int(stages.max())} stages for {shape.depth} layers"
        raise ImpossibleSplit(msg, field="pp", fix=f"at most {shape.depth}")
    ways, groups = ways_of(tp, "tp"), ways_of(ep, "ep")
    held = {
        int(n): _fullest_stage(shape, int(n), weight_dtype, embedding_dtype, ways, groups)
        for n in np.unique(stages)
    }
    if stages.ndim == 0:
        return held[int(stages)]
    choices = [(stages == n, value) for n, value in held.items()]
    return np.select([c for c, _ in choices], [v for _, v in choices])


def _fullest_stage(
    shape: ModelShape, pp: int, dtype: str, embedding_dtype: str | None, tp: Array, ep: Array
) -> Array:
    """The largest of ``pp`` stages; the first ``depth % pp`` have one layer more."""
    layer = [_layer_bytes(shape, g, dtype, tp, ep) for g in shape.layers]
    order = shape.order or tuple(i for i, g in enumerate(shape.layers) for _ in range(g.count))
    first, last = _end_bytes(shape, dtype, embedding_dtype, tp, shared=pp == 1)
    small, extra = divmod(shape.depth, pp)
    worst: Array = np.float64(0.0)
    start = 0
    for stage in range(pp):
        end = start + small + (stage < extra)
        held: Array = np.float64(0.0)
        for i in set(order[start:end]):
            held = held + np.float64(order[start:end].count(i)) * layer[i]
        if stage == 0:
            held = held + first
        if stage == pp - 1:
            held = held + last
        worst, start = np.maximum(worst, held), end
    return worst


def _layer_bytes(shape: ModelShape, group: LayerGroup, dtype: str, tp: Array, ep: Array) -> Array:
    """One layer of ``group`` on one device."""
    total: Array = np.float64(layer_vectors(shape, group) * _vector_bytes(dtype))
    for linear in layer_linears(shape, group):
        ways = np.maximum(tp / ep, 1.0) if linear.expert else tp
        count = np.maximum(linear.count / ep, 1.0) if linear.expert else np.float64(linear.count)
        k, n = linear.local(ways)
        bias = n * _vector_bytes(dtype) if linear.bias else np.float64(0.0)
        total = total + count * (matrix_bytes(k, n, dtype) + bias)
    return total


def matrix_bytes(k: Array, n: Array, dtype: str) -> Array:
    """Bytes of a stored ``[k, n]`` matrix with its scales."""
    group, scale = WEIGHT_SCALES.get(dtype_name(dtype), (None, 0.0))
    per_column = np.float64(1.0) if group is None else np.ceil(k / group)
    return k * n * dtype_bytes(dtype) + per_column * n * scale


def _vector_bytes(dtype: str) -> float:
    return max(dtype_bytes(dtype), 2.0)


def _table_bytes(dtype: str) -> float:
    """Bytes of one element of an embedding or head where nobody says: block formats hold these too,
    scales included; others keep 16 bits at least."""
    block = BLOCK_FORMATS.get(dtype_name(dtype))
    return (
        _vector_bytes(dtype)
        if block is None
        else dtype_bytes(dtype) + WEIGHT_SCALES[dtype_name(dtype)][1] / block
    )


def _end_bytes(
    shape: ModelShape, dtype: str, embedding_dtype: str | None, tp: Array, *, shared: bool
) -> tuple[Array, Array]:
    """``(first, last)``: the tables before the layers; norms, pooler and head after them.

    A tied head is the table itself where both rest on one device (``shared``), else a copy.
    """
    wide = dtype_bytes(embedding_dtype) if embedding_dtype else _table_bytes(dtype)
    copy = shape.vocab * (shape.embedding_width or shape.hidden) if shape.tied else 0
    head = head_parameters(shape) + (0 if shared else copy)
    first = np.float64(embedding_parameters(shape)) * wide / tp
    last = np.float64(head) * wide / tp + other_parameters(shape) * np.float64(_vector_bytes(dtype))
    return first, last
