"""Where one token mixer overtakes another: softmax, sigmoid, linear, delta, SSD, selective scan.

All mixers are given the same width (heads x head_dim) and asked for the same tokens, over a grid of
context lengths. Attention pays for its cache with the context; the others carry a state of fixed
size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from perfmodel.answer import Estimate
from perfmodel.errors import BadValue, MissingData, PerfModelError, UnsupportedDtype
from perfmodel.hw.device import Device
from perfmodel.planning.cost import SECONDS_PER_HOUR, hourly_price
from perfmodel.roofline.time import estimate
from perfmodel.workload import (
    Attention,
    DeltaRule,
    LinearAttention,
    SelectiveScan,
    Size,
    Ssd,
    Workload,
    check_size,
    dtype_bytes,
)

Mixed: TypeAlias = Literal["prefill", "decode"]
Floats: TypeAlias = NDArray[np.float64]

REFERENCE = "softmax"
"""What the other mixers are held against."""
RUNS = 1e6
"""Costs are quoted per million runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """What every mixer is asked: ``batch`` sequences at width ``heads * head_dim``."""

    phase: Mixed
    batch: int
    heads: int
    head_dim: int
    kv_heads: int
    dtype: str = "bf16"

    def __post_init__(self) -> None:
        if self.phase not in ("prefill", "decode"):
            msg = f"must be prefill or decode, got {self.phase!r}"
            raise BadValue(msg, field="phase", fix="decode")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """One mixer over all contexts: time, memory kept, cost; or why there is no answer."""

    mixer: str
    estimate: Estimate | None
    memory_bytes: Floats
    usd_per_million: Floats | None
    refused: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        usd = self.usd_per_million
        return {
            "mixer": self.mixer,
            "estimate": None if self.estimate is None else self.estimate.to_dict(),
            "memory_bytes": self.memory_bytes.tolist(),
            "usd_per_million": None if usd is None else usd.tolist(),
            "refused": self.refused,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """Beyond ``context`` tokens ``then`` is faster than ``before``."""

    before: str
    then: str
    context: float
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crossover:
    """All mixers on one device, and where each changes places with softmax attention."""

    device: str
    mixing: Mixing
    contexts: Floats
    curves: tuple[Curve, ...]
    break_evens: tuple[BreakEven, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "device": self.device,
            "question": asdict(self.mixing),
            "contexts": self.contexts.tolist(),
            "mixers": [c.to_dict() for c in self.curves],
            "break_evens": [asdict(p) for p in self.break_evens],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """One mixer as an operator over all contexts, and the bytes that its layer keeps for it."""

    workload: Workload
    kept_bytes: Floats


def doubling(shortest: int, longest: int) -> NDArray[np.int64]:
    """Context lengths from ``shortest``, each twice the one before, to ``longest``.

    Raises:
        BadValue: not two counts in order.
    """
    first, last = check_size(shortest, "shortest"), check_size(longest, "longest")
    if not isinstance(first, int) or not isinstance(last, int) or first > last:
        msg = f"must be one number and no less than shortest, got {shortest} .. {longest}"
        raise BadValue(msg, field="longest", fix="longest=131072")
    steps = 1 + int(np.log2(last // first))
    grid = first * 2 ** np.arange(steps, dtype=np.int64)
    return grid if grid[-1] == last else np.append(grid, last)


def mixers(mixing: Mixing, contexts: NDArray[np.int64]) -> dict[str, Asked]:
    """Every mixer on the same tokens: all of the context in prefill, one more token in decode.

    Attention keeps keys and values of every token; the others a state of heads x key_dim x
    value_dim, heads x head_dim x state, or channels x state.
    """
    m = mixing
    tokens = np.asarray(contexts, dtype=np.float64)
    fresh = np.ones_like(contexts) if m.phase == "decode" else contexts
    square = {"key_dim": m.head_dim, "value_dim": m.head_dim, "dtype": m.dtype, "batch": m.batch}
    linear = LinearAttention(seq_len=fresh, heads=m.heads, **square)  # type: ignore[arg-type]
    delta = DeltaRule(seq_len=fresh, key_heads=m.heads, **square)  # type: ignore[arg-type]
    ssd = Ssd(batch=m.batch, seq_len=fresh, heads=m.heads, head_dim=m.head_dim, dtype=m.dtype)
    width = m.heads * m.head_dim
    scan = SelectiveScan(batch=m.batch, seq_len=fresh, channels=width, dtype=m.dtype)
    cache = 2.0 * m.kv_heads * m.head_dim * m.batch * dtype_bytes(m.dtype) * tokens
    states: dict[str, tuple[LinearAttention | DeltaRule | Ssd | SelectiveScan, Size]] = {
        "gated linear": (linear, width * m.head_dim),
        "delta rule": (delta, width * m.head_dim),
        "SSD": (ssd, width * ssd.state),
        "selective scan": (scan, width * scan.state),
    }
    fixed = {
        name: Asked(
            workload=work,
            kept_bytes=m.batch * elements * dtype_bytes(work.state_dtype) + 0.0 * tokens,
        )
        for name, (work, elements) in states.items()
    }
    return {
        "softmax": Asked(workload=_attention(m, fresh, contexts, "softmax"), kept_bytes=cache),
        "sigmoid": Asked(workload=_attention(m, fresh, contexts, "sigmoid"), kept_bytes=cache),
        **fixed,
    }


def _attention(
    m: Mixing,
    fresh: NDArray[np.int64],
    contexts: NDArray[np.int64],
    score: Literal["softmax", "sigmoid"],
) -> Attention:
    return Attention(
        batch=m.batch, q_len=fresh, kv_len=contexts, heads=m.heads, kv_heads=m.kv_heads,
        head_dim=m.head_dim, score=score, dtype=m.dtype,
    )  # fmt: skip


def crossover(
    device: Device, mixing: Mixing, contexts: NDArray[np.int64], *, price: float | None = None
) -> Crossover:
    """Time, memory and cost of every mixer over increasing ``contexts``, with the break-evens.

    A mixer that the device cannot run is listed with the reason, unless all are so.

    Raises:
        BadValue: sizes that make no operator.
        UnsupportedDtype, MissingFigure: the device answers for none of the mixers.
    """
    hourly = hourly_price(device, price).usd_per_hour
    refusals: list[PerfModelError] = []
    curves = tuple(
        _curve(name, asked, device, hourly, refusals)
        for name, asked in mixers(mixing, contexts).items()
    )
    if len(refusals) == len(curves):
        raise refusals[0]
    tokens = np.asarray(contexts, dtype=np.float64)
    return Crossover(
        device=device.name,
        mixing=mixing,
        contexts=tokens,
        curves=curves,
        break_evens=tuple(break_evens(tokens, times_of(curves))),
    )


def times_of(curves: Sequence[Curve]) -> dict[str, Floats]:
    """Seconds over the contexts, of every mixer that has an answer."""
    return {c.mixer: np.asarray(c.estimate.time_s) for c in curves if c.estimate is not None}


def _curve(
    name: str,
    asked: Asked,
    device: Device,
    hourly: float | None,
    refusals: list[PerfModelError],
) -> Curve:
    try:
        found = estimate(asked.workload, device)
    except (UnsupportedDtype, MissingData) as refusal:
        refusals.append(refusal)
        return Curve(
            mixer=name, estimate=None, memory_bytes=asked.kept_bytes, usd_per_million=None,
            refused=str(refusal),
        )  # fmt: skip
    usd = None if hourly is None else np.asarray(found.time_s) * hourly / SECONDS_PER_HOUR * RUNS
    return Curve(
        mixer=name, estimate=found, memory_bytes=asked.kept_bytes, usd_per_million=usd
    )  # fmt: skip


def break_evens(contexts: Floats, times: Mapping[str, Floats]) -> Iterator[BreakEven]:
    """Where a mixer and softmax attention change places, interpolated between grid points on
    logarithmic axes.
    """
    if REFERENCE not in times:
        return
    x, reference = np.log(contexts), np.log(times[REFERENCE])
    for name, time_s in times.items():
        lead = np.log(time_s) - reference
        for i in np.flatnonzero((lead[:-1] > 0.0) != (lead[1:] > 0.0)):
            share = float(lead[i] / (lead[i] - lead[i + 1]))
            at = x[i] + share * (x[i + 1] - x[i])
            time = reference[i] + share * (reference[i + 1] - reference[i])
            before, then = (REFERENCE, name) if lead[i] > 0.0 else (name, REFERENCE)
            yield BreakEven(
                before=before, then=then, context=float(np.exp(at)), time_s=float(np.exp(time))
            )
