"""Served models: static batches, in-flight batching, TTFT and TPOT, composed from engine steps.

A scenario is a sum of steps, kept by feature (:mod:`perfmodel.models.host`): a row's prediction is
the inner product of its features with an engine's factors. Rows that differ only in numbers are
taken in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import BadValue, PerfModelError
from perfmodel.hw.device import Device
from perfmodel.hw.load import load_device
from perfmodel.measure import Measurement
from perfmodel.models.engines import Cache, Engine, engine_of
from perfmodel.models.flow import Dtypes
from perfmodel.models.hf import load_model
from perfmodel.models.host import FEATURES
from perfmodel.models.parallel import Split
from perfmodel.models.shape import ModelShape
from perfmodel.models.timing import features, step, without_windows
from perfmodel.planning.defaults import PAGE_SIZE, PREFILL_CHUNK, RESERVE_BYTES
from perfmodel.planning.footprint import Footprint, footprint
from perfmodel.validation.parts import halves

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

CONTEXTS = 9
"""Points at which a generation's decode time is evaluated; it is nearly linear in between."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """What rows of one model, device, data type and split share, and the numbers they differ in."""

    shape: ModelShape
    device: Device
    dtypes: Dtypes
    tp: int
    engine: Engine | None
    batch: Ints
    prompt: Ints
    output: Ints

    def decode(self, batch: Ints, context: Ints) -> Floats:
        """Features of one decode step of ``batch`` sequences at ``context`` tokens."""
        extra = (1,) * (context.ndim - batch.ndim)
        return self._features(
            context.shape, phase="decode", batch=batch.reshape(batch.shape + extra), context=context
        )

    def prefill(self, batch: Ints) -> Floats:
        """Features of reading the prompts of ``batch`` sequences whole."""
        return self._features(batch.shape, phase="prefill", batch=batch, prompt=self.prompt)

    def mixed(self, batch: Ints, prompts: Ints) -> Floats:
        """Features of a step that decodes ``batch`` sequences and reads ``prompts`` prompts."""
        context = self.prompt + self.output // 2
        return self._features(
            batch.shape,
            phase="mixed",
            batch=batch,
            context=context,
            chunk=self.prompt,
            prompts=prompts,
        )

    def generation(self, batch: Ints) -> Floats:
        """The mean decode step of ``output`` tokens: the trapezoid rule over a growing context."""
        share = np.linspace(0.0, 1.0, CONTEXTS)
        grown = np.rint((self.output[:, None] - 1) * share).astype(np.int64)
        at = self.decode(batch, self.prompt[:, None] + 1 + grown)
        weight = np.full(CONTEXTS, 1.0 / (CONTEXTS - 1))
        weight[[0, -1]] /= 2.0
        mean: Floats = np.einsum("rck,c->rk", at, weight)
        return mean

    def in_flight(self) -> Ints:
        """Sequences that memory keeps at once; whole requests or the mean of growing ones.

        Raises:
            BadValue: not even one fits, or the model keeps nothing between tokens.
        """
        assert self.engine is not None
        cache = self.engine.cache
        grown = self.output if cache.whole_requests else self.output // 2
        held = self._footprint(self.prompt + grown)
        total = self.device.memory.capacity_bytes - self.device.os_reserve_bytes
        fixed = held.weights + held.reserve + held.live * held.chunk
        free = cache.share * (total - fixed)
        if cache.share_of == "total":
            free = cache.share * total - fixed
        kept = held.user_kv + held.user_state
        if bool(np.any(kept <= 0.0)):
            msg = f"{self.shape.name} keeps nothing between tokens, so no request is in flight"
            raise BadValue(msg, field="model", fix="a model that generates")
        most = np.floor(free / kept)
        if bool(np.any(most < 1)):
            msg = f"{self.shape.name} leaves no memory for one request"
            raise BadValue(msg, field="tp", fix="more devices")
        return np.minimum(most, float(cache.max_batch)).astype(np.int64)

    def _footprint(self, context: Ints) -> Footprint:
        reserve = RESERVE_BYTES if self.engine is None else self.engine.cache.reserve_bytes
        windows = self.engine is None or self.engine.kernels.windows
        return footprint(
            self.shape if windows else without_windows(self.shape),
            context=context.astype(np.float64),
            split=Split(tp=self.tp),
            dtypes=self.dtypes,
            page_size=PAGE_SIZE,
            reserve_bytes=reserve,
            chunk=PREFILL_CHUNK,
        )

    def _features(self, shape: tuple[int, ...], **sizes: Any) -> Floats:
        """Seconds by feature on a trailing axis; without an engine all of it is ``plain``."""
        if self.engine is None:
            whole = step(self.shape, self.device, tp=self.tp, dtypes=self.dtypes, **sizes)
            found: dict[str, Any] = {"plain": whole.time_s}
        else:
            found = features(
                self.shape, self.device, self.engine, tp=self.tp, dtypes=self.dtypes, **sizes
            )
        parts = [np.broadcast_to(found.get(name, 0.0), shape) for name in FEATURES]
        return np.stack(parts, axis=-1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Composed:
    """Rows as features of the time they take, and what a throughput divides by that time."""

    features: Floats
    amount: Floats | None = None

    def value(self, coefficients: Floats) -> Floats:
        """Seconds, or ``amount`` per second."""
        time_s: Floats = self.features @ coefficients
        return time_s if self.amount is None else self.amount / time_s


def static_throughput(q: Question) -> Composed:
    """Output tokens per second and device of a fixed batch: all prompts, then all tokens."""
    whole = q.prefill(q.batch) + q.output[:, None] * q.generation(q.batch)
    return Composed(features=whole, amount=q.batch * q.output / q.tp)


def time_to_first_token(q: Question) -> Composed:
    """One prompt alone on the devices."""
    return Composed(features=q.prefill(np.ones_like(q.batch)))


def online_tpot(q: Question) -> Composed:
    """Mean time per output token of ``batch`` requests offered, as many in flight as memory keeps.

    The prompts of the others are read meanwhile: each request spends ``output`` steps on its tokens
    and one on its prompt, and waits while the prompts of all, which arrive together, are read as
    many tokens a step as the engine takes.
    """
    batch = q.batch if q.engine is None else np.minimum(q.batch, q.in_flight())
    context = q.prompt + q.output // 2
    most = Cache().step_tokens if q.engine is None else q.engine.cache.step_tokens
    share = (batch - 1) / (q.output + 1.0 + q.prompt * batch / most)
    return Composed(features=_mixing(q, batch, share, q.decode(batch, context)))


def in_flight_throughput(q: Question) -> Composed:
    """Output tokens per second of as many requests as memory keeps, each replaced as it ends.

    Every step reads batch / output prompts. Where a published run queued a known number of equal
    requests, its last wave is not full.

    Raises:
        BadValue: no engine is known, or nothing fits.
    """
    if q.engine is None:
        msg = "is needed to know the batch"
        raise BadValue(msg, field="framework", fix="a column that names the engine")
    batch = q.in_flight()
    mean = _mixing(q, batch, batch / q.output, q.generation(batch))
    return Composed(features=mean, amount=batch * _filled(q, batch))


def _mixing(q: Question, batch: Ints, share: Floats, decode: Floats) -> Floats:
    """The mean of steps of which ``share`` carry a prompt (several where it exceeds one)."""
    mixed = q.mixed(batch, np.maximum(np.rint(share), 1.0).astype(np.int64))
    carrying = np.minimum(share, 1.0)[:, None]
    mean: Floats = carrying * mixed + (1.0 - carrying) * decode
    return mean


def _filled(q: Question, batch: Ints) -> Floats:
    """Mean share of the batch in use over a whole run."""
    assert q.engine is not None
    runs = q.engine.runs
    requests = np.array(
        [runs.get((int(p), int(o)), 0) for p, o in zip(q.prompt, q.output, strict=True)], float
    )
    waves = np.ceil(requests / batch)
    return np.where(requests > batch, requests / np.maximum(waves * batch, 1.0), 1.0)


SCENARIOS: dict[str, Callable[[Question], Composed]] = {
    "static_batch_throughput": static_throughput,
    "ttft_batch1": time_to_first_token,
    "online_tpot": online_tpot,
    "inflight_max_throughput": in_flight_throughput,
}

REFUSED = {
    "online_ttft": "it includes queueing, which a model of steps does not see",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Rows that one call composed: their engine and features."""

    scenario: str
    engine: Engine | None
    composed: Composed
    measurements: tuple[Measurement, ...]


def compose(measurements: Sequence[Measurement]) -> tuple[list[Rows], dict[int, str]]:
    """Every row of a known serving scenario by its features; the others' reasons by ``id``."""
    bins: dict[tuple[str | None, ...], list[Measurement]] = {}
    for m in measurements:
        if m.scenario in SCENARIOS:
            told = (m.question.get("kv_dtype"), m.question.get("tp"))
            key = (m.scenario, m.model, m.device, m.dtype, *told, _label(m))
            bins.setdefault(key, []).append(m)
    found: list[Rows] = []
    refused: dict[int, str] = {}
    waiting: list[Sequence[Measurement]] = list(bins.values())
    while waiting:
        rows = waiting.pop(0)
        try:
            question = _question(rows)
            composed = SCENARIOS[rows[0].scenario](question)
        except PerfModelError as error:
            apart = halves(rows)
            waiting += apart
            refused |= {} if apart else {id(m): str(error) for m in rows}
            continue
        found.append(
            Rows(
                scenario=rows[0].scenario,
                engine=question.engine,
                composed=composed,
                measurements=tuple(rows),
            )
        )
    return found, refused


def _question(rows: Sequence[Measurement]) -> Question:
    first = rows[0]
    engine = engine_of(_label(first))
    dtype, kv = first.dtype or "bf16", first.question.get("kv_dtype")
    assert first.model is not None
    return Question(
        shape=load_model(first.model),
        device=load_device(first.device),
        dtypes=Dtypes(act=dtype, weight=dtype, kv=kv or dtype)
        if engine is None
        else engine.dtypes(dtype, kv),
        tp=int(first.question.get("tp") or 1),
        engine=engine,
        batch=_column(rows, "batch"),
        prompt=_column(rows, "isl"),
        output=_column(rows, "osl"),
    )


def _label(m: Measurement) -> str:
    """What a table says of the engine: its framework column, else its source."""
    return m.framework or m.source


def _column(rows: Sequence[Measurement], name: str) -> Ints:
    return np.array([int(float(r.question.get(name) or 1)) for r in rows], np.int64)
