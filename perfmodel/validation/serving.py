"""Predictions of served models: static batches, in-flight batching, TTFT and TPOT.

Each measured row names a model, devices, data types and lengths; its prediction is composed from
model steps. Rows that differ only in numbers are predicted in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.answer import Estimate
from perfmodel.errors import PerfModelError
from perfmodel.hw.device import Device
from perfmodel.hw.load import load_device
from perfmodel.measure import Measurement
from perfmodel.models.flow import Dtypes
from perfmodel.models.hf import load_model
from perfmodel.models.phases import step
from perfmodel.models.shape import ModelShape
from perfmodel.validation.score import Scored

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

CONTEXTS = 9
"""Points at which a generation's decode time is evaluated; it is nearly linear in between."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Times:
    """A time with its interval, over the rows of one question."""

    value: Floats
    low: Floats
    high: Floats

    def __add__(self, other: Times) -> Times:
        return Times(
            value=self.value + other.value, low=self.low + other.low, high=self.high + other.high
        )

    def scaled(self, factor: Floats) -> Times:
        """Every time multiplied by a positive ``factor``."""
        return Times(value=self.value * factor, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """What rows of one model, device, data type and split share, and the numbers they differ in."""

    shape: ModelShape
    device: Device
    dtypes: Dtypes
    tp: int
    engine: str | None
    batch: Ints
    prompt: Ints
    output: Ints

    def decode(self, context: Ints) -> Times:
        """One decode step of the whole batch at ``context`` tokens (trailing axes allowed)."""
        extra = context.ndim - self.batch.ndim
        batch = self.batch.reshape(self.batch.shape + (1,) * extra)
        return self._times(
            step(
                self.shape, self.device, phase="decode", batch=batch, context=context,
                tp=self.tp, dtypes=self.dtypes, engine=self.engine,
            ),
            np.broadcast_shapes(batch.shape, context.shape),
        )  # fmt: skip

    def prefill(self, batch: Ints) -> Times:
        """Reading the prompts of ``batch`` sequences whole."""
        return self._times(
            step(
                self.shape, self.device, phase="prefill", batch=batch, prompt=self.prompt,
                tp=self.tp, dtypes=self.dtypes, engine=self.engine,
            ),
            self.batch.shape,
        )  # fmt: skip

    def generation(self) -> Times:
        """All decode steps of ``output`` tokens: the trapezoid rule over the growing context."""
        share = np.linspace(0.0, 1.0, CONTEXTS)
        context = (
            self.prompt[:, None] + 1 + np.rint((self.output[:, None] - 1) * share).astype(np.int64)
        )
        at = self.decode(context)
        weight = np.full(CONTEXTS, 1.0 / (CONTEXTS - 1))
        weight[[0, -1]] /= 2.0
        steps = self.output.astype(np.float64)
        mean = Times(value=at.value @ weight, low=at.low @ weight, high=at.high @ weight)
        return mean.scaled(steps)

    @staticmethod
    def _times(estimate: Estimate, shape: tuple[int, ...]) -> Times:
        value, low, high = (
            np.broadcast_to(np.asarray(x, np.float64), shape)
            for x in (estimate.time_s, estimate.low_s, estimate.high_s)
        )
        return Times(value=value, low=low, high=high)


def static_throughput(q: Question) -> Times:
    """Output tokens per second and device of a fixed batch: all prompts, then all tokens."""
    whole = q.prefill(q.batch) + q.generation()
    return _rate(q.batch * q.output / q.tp, whole)


def time_to_first_token(q: Question) -> Times:
    """One prompt alone on the devices."""
    return q.prefill(np.ones_like(q.batch))


def online_tpot(q: Question) -> Times:
    """Mean time per output token of ``batch`` requests in flight: a decode step, and the prompts
    of the others that are read meanwhile, (batch - 1) / output of them in each step."""
    mixing = (q.batch - 1) / q.output
    return q.decode(q.prompt + q.output // 2) + q.prefill(np.ones_like(q.batch)).scaled(mixing)


def _rate(amount: Floats, time: Times) -> Times:
    return Times(value=amount / time.value, low=amount / time.high, high=amount / time.low)


SCENARIOS: dict[str, Callable[[Question], Times]] = {
    "static_batch_throughput": static_throughput,
    "ttft_batch1": time_to_first_token,
    "online_tpot": online_tpot,
}

REFUSED = {
    "online_ttft": "it includes queueing, which a model of steps does not see",
}


def predict_serving(measurements: Sequence[Measurement]) -> list[Scored]:
    """Every row of a serving scenario, predicted or refused with the reason."""
    bins: dict[tuple[str | None, ...], list[Measurement]] = {}
    scored = []
    for m in measurements:
        if m.scenario in REFUSED:
            scored.append(Scored(measurement=m, refusal=f"{m.scenario}: {REFUSED[m.scenario]}"))
        elif m.scenario in SCENARIOS:
            tp = m.question.get("tp", "")
            key = (
                m.scenario,
                m.model,
                m.device,
                m.dtype,
                m.question.get("kv_dtype"),
                tp,
                m.framework,
            )
            bins.setdefault(key, []).append(m)
    return scored + [s for rows in bins.values() for s in _predict(rows)]


def _predict(rows: Sequence[Measurement]) -> list[Scored]:
    try:
        found = SCENARIOS[rows[0].scenario](_question(rows))
    except PerfModelError as error:
        return [Scored(measurement=m, refusal=str(error)) for m in rows]
    return [
        Scored(
            measurement=m,
            predicted=float(found.value[i]),
            low=float(found.low[i]),
            high=float(found.high[i]),
            kernel_class="serving",
        )
        for i, m in enumerate(rows)
    ]


def _question(rows: Sequence[Measurement]) -> Question:
    first = rows[0]
    assert first.model is not None
    return Question(
        shape=load_model(first.model),
        device=load_device(first.device),
        dtypes=_dtypes(first),
        tp=int(first.question.get("tp") or 1),
        engine=None,
        batch=_column(rows, "batch"),
        prompt=_column(rows, "isl"),
        output=_column(rows, "osl"),
    )


def _column(rows: Sequence[Measurement], name: str) -> Ints:
    return np.array([int(float(r.question.get(name) or 1)) for r in rows], np.int64)


def _dtypes(m: Measurement) -> Dtypes:
    """Products, weights and cache in the row's type; ``kv_dtype`` where the row says so."""
    dtype = m.dtype or "bf16"
    return Dtypes(act=dtype, weight=dtype, kv=m.question.get("kv_dtype") or dtype)
