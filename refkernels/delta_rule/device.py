"""Launches the kernels of ``cuda/delta_rule``. Nothing here waits.

:func:`delta_rule` allocates and runs; :func:`bind`, :func:`empty_outputs` and :func:`prepare` give
a plan to call again and again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from perfmodel.errors import UnknownName
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
from refkernels.delta_rule.naive import check_shapes

RUNGS = ("01_recurrent", "02_chunk", "03_wgmma", "04_wgmma_concurrent")
"""Token by token; chunks on mma.sync; on wgmma, fed by TMA; the same in one launch."""

PREPARED_BYTES = 16896
"""``Prepared`` of problem.cuh: T, A and two powers per token of one chunk of one head."""

PREPARE_BYTES = 56320
"""Dynamic shared memory of a worker that prepares: ``PrepareShared`` of prepare.cuh."""

LEAST_PREPARERS = 32
"""Blocks beside the walks, one per multiprocessor, from which on one launch pays."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sequence:
    """Checked device arrays in bf16 (as uint16 bits): q, k [batch, length, key_heads, dk], v
    [batch, length, heads, dv], beta, g [batch, length, heads]; states fp32 [batch, heads, dk,
    dv]."""

    q: Any
    k: Any
    v: Any
    beta: Any
    g: Any
    scale: float
    initial: Any = None


def delta_rule(
    q: Any,
    k: Any,
    v: Any,
    beta: Any,
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
    x = bind(q, k, v, beta, g, scale=scale, initial=initial)
    out, final = empty_outputs(x)
    prepare(x, out, final=final, rung=rung)()
    return out, final


def bind(
    q: Any,
    k: Any,
    v: Any,
    beta: Any,
    g: Any = None,
    *,
    scale: float | None = None,
    initial: Any = None,
) -> Sequence:
    """Checks the arrays; raises as :func:`delta_rule`."""
    check_shapes(q, k, v, beta, g)
    check_dims(q.shape[-1], v.shape[-1])
    arrays = {"q": q, "k": k, "v": v, "beta": beta} | ({} if g is None else {"g": g})
    checked = {n: as_device_array(x, n, dtype="bf16", shape=x.shape) for n, x in arrays.items()}
    return Sequence(
        **({"g": None} | checked),
        scale=float(q.shape[-1] ** -0.5 if scale is None else scale),
        initial=checked_state(initial, (v.shape[0], v.shape[2], q.shape[-1], v.shape[-1])),
    )


def default_rung(x: Sequence) -> str:
    """Token by token for a few tokens; wgmma where the device has it."""
    if x.v.shape[1] < SHORT:
        return RUNGS[0]
    if device_capability() != "90":
        return RUNGS[1]
    return RUNGS[-1]


def preparers(x: Sequence) -> int:
    """Blocks that prepare beside the walks so that all are on the device at once; 0: too few."""
    left = sm_count() - walks(x)
    return left if left >= LEAST_PREPARERS else 0


def walks(x: Sequence) -> int:
    """Blocks of a walk on Hopper: one per 64 columns of a head's state."""
    batch, _, heads, dv = x.v.shape
    return int(batch * heads * (dv // PANEL))


def prepare(x: Sequence, out: Any, *, final: Any = None, rung: str | None = None) -> Plan:
    """Bind a rung to a checked sequence. Rung 4 prepares and walks in one launch where the
    walks leave multiprocessors for it, else in two, as the others do.

    Raises:
        UnknownName: no such rung.
    """
    import cupy

    name = rung or default_rung(x)
    if name not in RUNGS:
        raise UnknownName("rung", name, RUNGS)
    batch, length, heads, _ = x.v.shape
    if name == RUNGS[0]:
        return Plan(launches=(_recurrent(x, out, final),), keep=(x, out, final))
    chunks = ceil_div(length, CHUNK)
    made = cupy.empty((batch, heads, chunks, PREPARED_BYTES), "uint8")
    fields = _fields(x, out, final) | {"prepared": made}
    if name == RUNGS[3] and preparers(x):
        ready = cupy.zeros(batch * x.q.shape[2] * chunks + 1, "uint32")
        step = _concurrent(x, fields | {"ready": ready})
        return Plan(launches=(step,), keep=(x, out, final, made, ready))
    walk = RUNGS[2] if name == RUNGS[3] else name
    return Plan(launches=(_prepare(x, fields), _walk(x, walk, fields)), keep=(x, out, final, made))


def _defines(x: Sequence) -> dict[str, int]:
    return {"DK": int(x.q.shape[3])}


def _recurrent(x: Sequence, out: Any, final: Any) -> Launch:
    batch, _, heads, dv = x.v.shape
    grid, fields = (dv // PANEL, heads, batch), _fields(x, out, final)
    return bound_launch("delta_rule/01_recurrent.cu", "recurrent", grid, fields, _defines(x), 8192)


def _prepare(x: Sequence, fields: dict[str, Any]) -> Launch:
    grid = (fields["chunks"], x.q.shape[2], x.q.shape[0])
    source = "delta_rule/02_prepare.cu"
    return bound_launch(source, "prepare", grid, fields, _defines(x), PREPARE_BYTES)


def _walk(x: Sequence, rung: str, fields: dict[str, Any]) -> Launch:
    batch, _, heads, dv = x.v.shape
    hopper = rung != RUNGS[1]
    return bound_launch(
        f"delta_rule/{rung}.cu",
        "walk",
        (dv // (PANEL if hopper else 32), heads, batch),
        fields,
        _defines(x),
        walk_bytes(rung, int(x.q.shape[3])),
        maps=tile_maps(x, fields["out"]) if hopper else (),
    )


def _concurrent(x: Sequence, fields: dict[str, Any]) -> Launch:
    beside = preparers(x)
    return bound_launch(
        f"delta_rule/{RUNGS[3]}.cu",
        "delta_rule",
        (beside + walks(x), 1, 1),
        fields | {"preparers": beside},
        _defines(x),
        walk_bytes(RUNGS[3], int(x.q.shape[3])),
        maps=tile_maps(x, fields["out"]),
    )


def walk_bytes(rung: str, dk: int) -> int:
    """Dynamic shared memory of a walk's block: ``Shared`` of its source."""
    keys, panel, unit = 2 * CHUNK * dk * 2, CHUNK * PANEL * 2, 1024
    if rung == RUNGS[1]:
        return 2 * (keys + PREPARED_BYTES + CHUNK * 40 * 2)
    stage = ceil_div(keys + panel + PREPARED_BYTES, unit) * unit
    single = 3 * stage + unit + 2 * panel
    return single if rung == RUNGS[2] else max(single, 4 * PREPARE_BYTES)


def tile_maps(x: Sequence, out: Any) -> tuple[NDArray[Any], ...]:
    """Descriptors of q, k, v and o: 64 tokens of a head, in panels of 64 columns."""
    dk = int(x.q.shape[3])
    return (tile_map(x.q, dk), tile_map(x.k, dk), tile_map(x.v, PANEL), tile_map(out, PANEL))


def _fields(x: Sequence, out: Any, final: Any) -> dict[str, Any]:
    """``Problem`` of problem.cuh."""
    batch, length, heads, dv = x.v.shape
    return {
        "q": x.q,
        "k": x.k,
        "v": x.v,
        "g": x.g,
        "beta": x.beta,
        "first": x.initial,
        "last": final,
        "out": out,
        "prepared": None,
        "ready": None,
        "scale": x.scale,
        "batch": batch,
        "length": length,
        "heads": heads,
        "key_heads": x.q.shape[2],
        "dv": dv,
        "chunks": ceil_div(length, CHUNK),
        "preparers": 0,
    }
