"""Launches the chunked and the recurrent kernels of ``cuda/gla``. Nothing here waits.

One :class:`Sequence` describes gated linear attention and SSD alike; :func:`gla` allocates and
runs, :func:`prepare` binds arguments once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perfmodel.errors import BadValue, UnknownName
from refkernels._compile import device_capability
from refkernels._launch import as_device_array
from refkernels._matrix_state import (
    CHUNK,
    PANEL,
    SHORT,
    check_dims,
    checked_state,
    empty_outputs,
    tile_map,
)
from refkernels._plan import Launch, Plan, bound_launch, ceil_div, sm_count
from refkernels.gla.naive import check_shapes
from refkernels.gla.sequence import Sequence, problem_fields

SEGMENT_TOKENS = 512
"""Least tokens of a segment: its state costs as many bytes as 200 tokens' inputs."""

BLOCKS_PER_SM = 2

TILES = 10
"""Tiles of 16 x 16 on and below the diagonal of a chunk's scores."""

RUNGS = ("01_recurrent", "02_chunk", "03_segments", "04_wgmma")
"""Token by token; chunks in one block per head; chunks with the sequence in segments; both of
these on Hopper's own products and copies."""


def gla(
    q: Any,
    k: Any,
    v: Any,
    g: Any = None,
    *,
    scale: float | None = None,
    initial: Any = None,
    rung: str | None = None,
) -> tuple[Any, Any]:
    """``(o, final state)``; arrays as in ``naive``, bf16 as uint16 bits, the state fp32.

    Raises:
        BadValue: an array of the wrong type or shape, head dimensions that are not compiled.
        UnknownName: no such rung.
    """
    x = bind(q, k, v, g, scale=scale, initial=initial)
    out, final = empty_outputs(x)
    prepare(x, out, final=final, rung=rung)()
    return out, final


def bind(
    q: Any, k: Any, v: Any, g: Any = None, *, scale: float | None = None, initial: Any = None
) -> Sequence:
    """Checks the arrays of gated linear attention."""
    check_shapes(q, k, v, g)
    check_dims(q.shape[-1], v.shape[-1])
    arrays = {"q": q, "k": k, "v": v} | ({} if g is None else {"g": g})
    checked = {n: as_device_array(x, n, dtype="bf16", shape=x.shape) for n, x in arrays.items()}
    return Sequence(
        q=checked["q"],
        k=checked["k"],
        v=checked["v"],
        g=checked.get("g"),
        scale=float(q.shape[-1] ** -0.5 if scale is None else scale),
        initial=checked_state(initial, (v.shape[0], v.shape[2], q.shape[-1], v.shape[-1])),
    )


def default_rung(x: Sequence) -> str:
    """Token by token for a few tokens, segments where blocks would leave multiprocessors idle."""
    if x.v.shape[1] < SHORT:
        return RUNGS[0]
    if device_capability() == "90":
        return RUNGS[3]
    return RUNGS[1] if segment_tokens(x, sm_count()) >= x.v.shape[1] else RUNGS[2]


def heads_per_block(x: Sequence) -> int:
    """Two heads that share B and C fill a block's 128 columns (SSD)."""
    _, _, heads, dv = x.v.shape
    shared = heads // x.q.shape[2]
    return 2 if x.a is not None and dv == 64 and x.q.shape[3] == 128 and shared % 2 == 0 else 1


def block_columns(x: Sequence) -> int:
    """Columns of the state that a block works."""
    return 128 if heads_per_block(x) == 2 or x.v.shape[3] % 128 == 0 else 64


def blocks(x: Sequence) -> tuple[int, int]:
    """Grid of one segment: over columns, over batch and heads."""
    batch, _, heads, dv = x.v.shape
    together = heads_per_block(x)
    return ceil_div(dv * together, block_columns(x)), batch * heads // together


def segment_tokens(x: Sequence, sms: int) -> int:
    """Tokens of a segment, whole chunks: everything where blocks fill the chip twice."""
    length = int(x.v.shape[1])
    columns, others = blocks(x)
    slots = BLOCKS_PER_SM * sms
    whole = ceil_div(length, CHUNK) * CHUNK
    if 3 * columns * others >= 2 * slots or length < 2 * SEGMENT_TOKENS:
        return whole
    wanted = min(ceil_div(2 * slots, columns * others), length // SEGMENT_TOKENS)
    return ceil_div(ceil_div(length, wanted), CHUNK) * CHUNK


def shared_bytes(x: Sequence) -> int:
    """Dynamic shared memory of a chunk's block: ``Shared`` of vector.cuh and scalar.cuh."""
    dk, columns, heads = int(x.q.shape[3]), block_columns(x), heads_per_block(x)
    keys, values = CHUNK * (dk + 8) * 2, CHUNK * (columns + 8) * 2
    state, scores = dk * (columns + 8) * 2, CHUNK * (CHUNK + 8) * 2
    if x.vector:
        return 2 * keys + values + max(keys, scores) + state + 2 * 4 * dk * 4 + 8 * 136 * 4 + 32
    return 2 * keys + values + state + heads * (scores + 2 * CHUNK * 4)


def prepare(
    x: Sequence,
    out: Any,
    *,
    final: Any = None,
    rung: str | None = None,
    segment: int | None = None,
) -> Plan:
    """Bind a rung to a checked sequence; ``segment`` (tokens) overrides rung 3's choice.

    Raises:
        UnknownName: no such rung.
        BadValue: a segment that is not whole chunks.
    """
    name = rung or default_rung(x)
    if name not in RUNGS:
        raise UnknownName("rung", name, RUNGS)
    if segment and segment % CHUNK:
        msg = f"must be a multiple of {CHUNK} tokens, got {segment}"
        raise BadValue(msg, field="segment")
    length = int(x.v.shape[1])
    if name == RUNGS[0]:
        return _recurrent(x, out, final)
    if name == RUNGS[3]:
        return _wgmma(x, out, final, segment or hopper_segment(x, sm_count()))
    tokens = ceil_div(length, CHUNK) * CHUNK
    if name == RUNGS[2]:
        tokens = segment or segment_tokens(x, sm_count())
    return _chunked(x, out, final, ceil_div(length, tokens), tokens)


def _recurrent(x: Sequence, out: Any, final: Any) -> Plan:
    batch, length, heads, dv = x.v.shape
    defines = {"DK": int(x.q.shape[3]), "VECTOR": int(x.vector), "SSD": int(x.a is not None)}
    defines["STEP"] = int(length == 1)
    grid = (dv // 64, 1, batch * heads)
    smem = int(x.q.shape[3]) * 16 + 8 * 64 * 4  # Shared of 01_recurrent.cu
    step = bound_launch(
        "gla/01_recurrent.cu", "gla", grid, problem_fields(x, out, final), defines, smem
    )
    return Plan(launches=(step,), keep=(x, out, final))


def _chunked(x: Sequence, out: Any, final: Any, segments: int, tokens: int) -> Plan:
    import cupy

    batch, _, heads, dv = x.v.shape
    dk, smem = int(x.q.shape[3]), shared_bytes(x)
    columns, others = blocks(x)
    defines = {"DK": dk, "DV": block_columns(x)}
    if not x.vector:
        defines |= {"HEADS": heads_per_block(x), "SSD": int(x.a is not None)}
    source = "gla/02_chunk_vector.cu" if x.vector else "gla/04_chunk_scalar.cu"
    fields = problem_fields(x, out, final) | {"segments": segments, "segment_length": tokens}
    grid, launches, keep = (columns, segments, others), [], (x, out, final)
    if segments > 1:
        rows = (batch, heads, segments)
        starts = cupy.empty((*rows, dk, dv), cupy.float32)
        decay = cupy.empty((*rows, dk if x.vector else 1), cupy.float32)
        passed = fields | {"last": starts, "decay": decay}
        first = "gla/03_segments.cu" if x.vector else source
        carry_grid = (ceil_div(dk * dv // 4, 256), 1, batch * heads)
        local = passed | {"first": None}
        launches = [
            bound_launch(first, "segment_states", grid, local, defines, smem),
            bound_launch(first, "carry", carry_grid, passed, defines),
        ]
        fields, keep = fields | {"first": starts}, (*keep, starts, decay)  # type: ignore[assignment]
    launches.append(bound_launch(source, "gla", grid, fields, defines, smem))
    return Plan(launches=tuple(launches), keep=keep)


def shares_scores(x: Sequence) -> bool:
    """Whether several heads take the same q k^T (SSD's groups): it is made once, beforehand."""
    return x.a is not None and bool(x.q.shape[2] < x.v.shape[2])


def hopper_heads(x: Sequence) -> int:
    """As ``heads_per_block``, for any number of states."""
    _, _, heads, dv = x.v.shape
    shared = heads // x.q.shape[2]
    return 2 if x.a is not None and dv == 64 and shared % 2 == 0 else 1


def hopper_blocks(x: Sequence) -> tuple[int, int, int]:
    """Columns of a block; blocks over columns; blocks over batch and heads."""
    batch, _, heads, dv = x.v.shape
    together = hopper_heads(x)
    columns = 128 if together == 2 or dv % 128 == 0 else 64
    return columns, ceil_div(dv * together, columns), batch * heads // together


def hopper_segment(x: Sequence, sms: int) -> int:
    """Tokens of a segment, whole chunks: as many segments as one turn of one block per SM holds."""
    length = int(x.v.shape[1])
    _, columns, others = hopper_blocks(x)
    wanted = max(1, min(sms // (columns * others), length // SEGMENT_TOKENS))
    return ceil_div(ceil_div(length, wanted), CHUNK) * CHUNK


def hopper_shared(x: Sequence, dv: int) -> int:
    """Dynamic shared memory of a block: ``Shared`` of 05_scalar_wgmma.cu and 06_vector_wgmma.cu."""
    dk, panel, heads = int(x.q.shape[3]), CHUNK * PANEL * 2, hopper_heads(x)
    key, value = CHUNK * dk * 2, CHUNK * dv * 2
    if x.vector:
        floats = (2 + 4) * dk + 7 * dk // 2 + 8 * 136 + 8 + 2
        used = 2 * (4 * key + 2 * value + panel) + 4 * floats + 48
    else:
        floats = 3 * heads * (5 * CHUNK + CHUNK // 2 + 4) + 4 * heads * CHUNK
        used = 3 * (2 * key + value) + 2 * (heads * panel + value) + 4 * floats + 112
    return ceil_div(used, 1024) * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """What a Hopper rung's launches have in common."""

    source: str
    defines: dict[str, int]
    shape: dict[str, Any]


def _block(x: Sequence, out: Any) -> _Block:
    width, _, _ = hopper_blocks(x)
    source, defines = "gla/06_vector_wgmma.cu", {"DK": int(x.q.shape[3]), "DV": width}
    tiles = [(x.q, x.q.shape[3]), (x.k, x.q.shape[3]), (x.v, width), (out, PANEL)]
    if x.vector:
        tiles.append((x.g, x.q.shape[3]))
    else:
        source = "gla/05_scalar_wgmma.cu"
        defines |= {"HEADS": hopper_heads(x), "SSD": int(x.a is not None)}
        defines |= {"SHARED": int(shares_scores(x)), "CLUSTER": 1}
    shape = {
        "smem": hopper_shared(x, width),
        "maps": tuple(tile_map(array, int(cols)) for array, cols in tiles),
        "threads": 128 * (2 + width // PANEL),
    }
    return _Block(source=source, defines=defines, shape=shape)


def _wgmma(x: Sequence, out: Any, final: Any, tokens: int) -> Plan:
    segments, block = ceil_div(int(x.v.shape[1]), tokens), _block(x, out)
    fields = problem_fields(x, out, final) | {"segments": segments, "segment_length": tokens}
    _, columns, others = hopper_blocks(x)
    defines, launches = block.defines, []
    if shares_scores(x):
        fields |= _shared_arrays(x)
        launches.append(_shared_scores(x, fields))
    if segments > 1:
        fields |= _segment_arrays(x, segments)
        if x.vector:
            grid = _grid(x, columns, segments - 1, others)
            states = (block.source, "segment_states", grid, fields, defines)
            launches.append(bound_launch(*states, **block.shape))
    elif not x.vector and columns * others > sm_count():
        side = hopper_cluster(x)
        shares, period = even_shares(columns * others // side, sm_count() // side)
        columns, others, defines = side * shares, 1, defines | {"CLUSTER": side}
        fields |= _share_arrays(x, columns) | {"period": period}
    grid = _grid(x, columns, segments, others)
    launches.append(bound_launch(block.source, "gla", grid, fields, defines, **block.shape))
    return Plan(launches=tuple(launches), keep=(x, *fields.values()))


def _shared_arrays(x: Sequence) -> dict[str, Any]:
    """What 07_shared_scores.cu makes: tiles of scores, steps by head."""
    import cupy

    batch, length, heads, _ = x.v.shape
    chunks = ceil_div(int(length), CHUNK)
    return {
        "scores": cupy.empty((batch, x.q.shape[2], chunks, TILES, 32, 4), cupy.uint32),
        "steps": cupy.empty((batch, heads, chunks * CHUNK), cupy.float32),
    }


def _shared_scores(x: Sequence, fields: dict[str, Any]) -> Launch:
    batch, length, key_heads, dk = (int(n) for n in x.q.shape)
    grid = (ceil_div(length, CHUNK), key_heads, batch)
    smem = 2 * CHUNK * (dk + 8) * 2  # Shared of 07_shared_scores.cu
    return bound_launch("gla/07_shared_scores.cu", "share", grid, fields, {"DK": dk}, smem)


def _segment_arrays(x: Sequence, segments: int) -> dict[str, Any]:
    """States and decays of segments; what blocks tell each other that begin with their segment's
    state and wait for those of earlier ones."""
    import cupy

    batch, _, heads, dv = x.v.shape
    dk, (_, columns, others) = x.q.shape[3], hopper_blocks(x)
    local = cupy.empty((batch, heads, segments, dk, dv), cupy.float32)
    if x.vector:
        return {"local": local, "decay": cupy.empty((batch, heads, segments, dk), cupy.float32)}
    decay = cupy.empty((columns, batch, heads, segments), cupy.float32)
    handed = cupy.zeros((columns * others, segments), cupy.uint32)
    return {"local": local, "decay": decay, "handed": handed}


def _share_arrays(x: Sequence, blocks: int) -> dict[str, Any]:
    """States that blocks hand on, and their flags."""
    import cupy

    width, _, _ = hopper_blocks(x)
    passed = cupy.empty((blocks, x.q.shape[3], width), cupy.float32)
    return {"passed": passed, "handed": cupy.zeros((blocks, width // PANEL), cupy.uint32)}


def hopper_cluster(x: Sequence) -> int:
    """Blocks side by side that q and k come to at once: two where four heads share them."""
    shared = x.v.shape[2] // x.q.shape[2]
    return 2 if hopper_heads(x) == 2 and shared % 4 == 0 else 1


SHARES_PER_SM = 0.95
"""Least blocks per multiprocessor for the sake of shares that repeat."""


def even_shares(sequences: int, sms: int) -> tuple[int, int]:
    """Blocks that share sequences evenly, and after how many sequences their shares repeat.

    Shares of a whole number of halves or thirds of a sequence repeat soon: their blocks walk
    neighbouring heads side by side, whose rows lie together in memory. That is worth a few idle
    multiprocessors.
    """
    best = (sms, 1)
    for parts in (1, 2, 3):
        period = ceil_div(sequences * parts, sms)
        blocks = sequences * parts // period
        better = best[1] == 1 or blocks > best[0]
        if sequences % period == 0 and blocks >= SHARES_PER_SM * sms and better:
            best = (blocks, period)
    return best


def _grid(x: Sequence, columns: int, segments: int, others: int) -> tuple[int, int, int]:
    """06_vector_wgmma.cu finds its place by three dimensions, 05_scalar_wgmma.cu by two."""
    return (columns, segments, others) if x.vector else (columns * others, segments, 1)
