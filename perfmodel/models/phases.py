"""Phases of a model's work, as operators: prefill, decode, both mixed, encode.

``batch`` sequences each have ``prompt`` tokens to read (prefill, encode) or ``context`` tokens in
the cache, the one being decoded included (decode). A chunked prefill takes ``chunk`` tokens of
every sequence per step and reads the cache before them again. A mixed step decodes the batch and
reads one chunk of one prompt, of which ``prompt`` tokens are then in the cache (default: the
chunk alone).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias, get_args

import numpy as np

from perfmodel.errors import BadValue
from perfmodel.models.flow import CountedOp, Dtypes, Flow, Frame, Segment, product
from perfmodel.models.graph import flow_ops, head_ops
from perfmodel.models.parallel import Split, check_split
from perfmodel.models.shape import ModelShape
from perfmodel.ops.numbers import f64
from perfmodel.workload import Array, Size, check_size

Phase: TypeAlias = Literal["prefill", "decode", "mixed", "encode"]

MOST_CHUNKS = 2**16
"""Chunks of one prompt beyond which the chunk size is refused as absurd."""


def ops(
    shape: ModelShape,
    *,
    phase: Phase,
    batch: Size = 1,
    prompt: Size | None = None,
    context: Size | None = None,
    split: Split | None = None,
    dtypes: Dtypes | None = None,
    chunk: Size | None = None,
    prompts: Size = 1,
) -> tuple[CountedOp, ...]:
    """Every operator that one device runs in one phase, identical ones counted together.

    With pipeline stages the operators of all stages are listed: those of one step follow each
    other, each on its own device. Every size may be an array of an open grid.

    Raises:
        BadValue: a size absent, not whole, or meaningless in this phase.
        ImpossibleSplit: the model's shape forbids the split.
    """
    split = split or Split()
    grid = {"batch": batch, "prompt": prompt, "context": context, "chunk": chunk}
    _check_grid(**grid, prompts=prompts, tp=split.tp, pp=split.pp)
    check_split(shape, split)
    flows, head_rows = _flows(shape, phase, batch, prompt, context, chunk, prompts)
    cached = phase != "encode"
    frame = Frame(shape=shape, split=split, dtypes=dtypes or Dtypes(), cached=cached)
    listed = [op for flow in flows for op in flow_ops(frame, flow)]
    return (*listed, *head_ops(frame, head_rows))


def _flows(
    shape: ModelShape,
    phase: Phase,
    batch: Size,
    prompt: Size | None,
    context: Size | None,
    chunk: Size | None,
    prompts: Size,
) -> tuple[list[Flow], Size]:
    """The flows of a phase and the rows that reach the head."""
    _check_phase(shape, phase)
    batch = check_size(batch, "batch")
    match phase:
        case "decode":
            _absent(phase, prompt=prompt, chunk=chunk)
            return [_decode(batch, _needed(context, "context", phase))], batch
        case "mixed":
            size = _needed(chunk, "chunk", phase)
            seen = size if prompt is None else check_size(prompt, "prompt")
            flow = _mixed(batch, _needed(context, "context", phase), size, seen, prompts)
            return [flow], check_size(f64(batch) + f64(prompts), "batch")
        case "encode":
            _absent(phase, context=context, chunk=chunk)
            length = encoder_length(shape, prompt)
            flow = _whole(batch, length)
            every = shape.patch is None and shape.head_outputs == shape.vocab
            return [flow], flow.rows if every else batch
        case "prefill":
            _absent(phase, context=context)
            length = _needed(prompt, "prompt", phase)
            if chunk is None:
                return [_whole(batch, length)], batch
            return list(_chunked(batch, length, check_size(chunk, "chunk"))), batch


def _decode(batch: Size, context: Size) -> Flow:
    segment = Segment(batch=batch, q_len=1, kv_len=context, decode=True)
    return Flow(rows=batch, segments=(segment,))


def _whole(batch: Size, length: Size) -> Flow:
    segment = Segment(batch=batch, q_len=length, kv_len=length, fresh=1)
    return Flow(rows=_tokens_of(batch, length), segments=(segment,))


def _tokens_of(batch: Size, length: Size) -> Size:
    return check_size(product(batch, length), "batch x tokens")


def _mixed(batch: Size, context: Size, chunk: Size, seen: Size, prompts: Size) -> Flow:
    if bool(np.any(np.asarray(seen) < np.asarray(chunk))):
        msg = "must count the chunk's own tokens in a mixed step"
        raise BadValue(msg, field="prompt", fix="prompt of at least chunk")
    first = np.where(np.asarray(seen) == np.asarray(chunk), 1.0, 0.0)[()]
    segments = (
        Segment(batch=batch, q_len=1, kv_len=context, decode=True),
        Segment(batch=check_size(prompts, "prompts"), q_len=chunk, kv_len=seen, fresh=first),
    )
    rows = f64(batch) + f64(prompts) * f64(chunk)
    return Flow(rows=check_size(rows, "batch + prompts x chunk"), segments=segments)


def _chunked(batch: Size, prompt: Size, chunk: Size) -> Iterator[Flow]:
    """Whole chunks, then what is left: chunk ``i`` attends to ``(i + 1) chunk`` tokens."""
    full, rest = np.floor(f64(prompt) / f64(chunk)), np.mod(f64(prompt), f64(chunk))
    most = int(np.max(full))
    if most > MOST_CHUNKS:
        msg = f"cuts a prompt into {most} pieces"
        raise BadValue(msg, field="chunk", fix="a chunk of hundreds or thousands of tokens")
    if most:
        yield _full_chunks(batch, chunk, full, np.arange(most, dtype=np.float64))
    if np.any(rest > 0):
        yield _last_chunk(batch, prompt, rest, np.where(full == 0, 1.0, 0.0)[()])


def _full_chunks(batch: Size, chunk: Size, full: Array, index: Array) -> Flow:
    ends = (index + 1.0) * np.expand_dims(f64(chunk), -1)
    segment = Segment(
        batch=batch,
        q_len=chunk,
        kv_len=check_size(ends, "chunk"),
        times=np.where(index < np.expand_dims(full, -1), 1.0, 0.0),
        visits=full,
        fresh=1.0 / np.maximum(full, 1.0),
        summed=True,
    )
    return Flow(rows=_tokens_of(batch, chunk), segments=(segment,), times=full)


def _last_chunk(batch: Size, prompt: Size, rest: Array, fresh: Array) -> Flow:
    left = np.where(rest > 0, 1.0, 0.0)[()]
    length = check_size(np.maximum(rest, 1.0), "chunk")
    segment = Segment(
        batch=batch, q_len=length, kv_len=prompt, times=left, visits=left, fresh=fresh
    )
    return Flow(rows=_tokens_of(batch, length), segments=(segment,), times=left)


def encoder_length(shape: ModelShape, prompt: Size | None) -> Size:
    """Tokens that an encoder reads: the prompt's, or an image's patches.

    Raises:
        BadValue: a prompt is missing, or was given for images.
    """
    if shape.patch is None:
        return _needed(prompt, "prompt", "encode")
    if prompt is not None:
        msg = f"{shape.name} reads images, whose {shape.patch.patches} patches are fixed"
        raise BadValue(msg, field="prompt", fix="leave prompt out")
    return shape.patch.patches + shape.patch.extra_tokens


def _check_grid(**sizes: Size | None) -> None:
    shapes = {
        name: np.shape(value) for name, value in sizes.items() if isinstance(value, np.ndarray)
    }
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError:
        msg = f"the arrays of a grid do not broadcast: {shapes}"
        raise BadValue(
            msg, field=next(iter(shapes)), fix="one axis per array (numpy.ix_)"
        ) from None


def _check_phase(shape: ModelShape, phase: str) -> None:
    if phase not in get_args(Phase):
        msg = f"must be one of {', '.join(get_args(Phase))}, got {phase!r}"
        raise BadValue(msg, field="phase")
    if shape.decoder != (phase != "encode"):
        kind, fits = ("a decoder", "prefill") if shape.decoder else ("an encoder", "encode")
        msg = f"{shape.name} is {kind}: it does not {phase}"
        raise BadValue(msg, field="phase", fix=fits)


def _needed(value: Size | None, field: str, phase: str) -> Size:
    if value is None:
        msg = f"is required to {phase}" if phase != "mixed" else "is required by a mixed step"
        raise BadValue(msg, field=field, fix=f"{field}=2048")
    return check_size(value, field)


def _absent(phase: str, **given: Size | None) -> None:
    for field, value in given.items():
        if value is not None:
            msg = f"means nothing in {phase}"
            raise BadValue(msg, field=field, fix=f"leave {field} out")
