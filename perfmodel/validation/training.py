"""Pretraining runs: time of an iteration, or model FLOP/s per device, from one training step.

Model FLOP/s count what a token needs, whatever the hardware did: ``6 N + 12 L h s`` for N
parameters, L layers of width h and sequences of s tokens (Chowdhery et al., PaLM, arXiv:2204.02311,
appendix B). Where a row states tokens per second as well, its own count is used: tables differ by
a third where recomputed work counts, and a row that counts it is taken to have run it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from perfmodel.answer import Estimate
from perfmodel.errors import BadValue, PerfModelError
from perfmodel.hw.load import load_device
from perfmodel.measure import Measurement
from perfmodel.models.flow import Dtypes
from perfmodel.models.hf import load_model
from perfmodel.models.parameters import parameter_count
from perfmodel.models.shape import AttentionMixer, ModelShape
from perfmodel.models.training import train_step
from perfmodel.validation.score import Scored

PREFIX = "pretraining"
RECOMPUTED = 7.0 / 6.0
"""A count this much above the model's own includes a recomputed forward pass (which adds 1/3)."""


def predict_training(measurements: Sequence[Measurement]) -> list[Scored]:
    """Every row of a pretraining run, predicted or refused with the reason."""
    return [_predict(m) for m in measurements if m.scenario.startswith(PREFIX)]


def _predict(m: Measurement) -> Scored:
    try:
        shape = load_model(m.model or "")
        stated = _stated_flops(m)
        own = model_flops(shape, _number(m, "seq"))
        found = _step(m, shape, recompute=stated is not None and stated > RECOMPUTED * own)
    except PerfModelError as error:
        return Scored(measurement=m, refusal=str(error))
    seconds = [float(np.asarray(x)) for x in (found.time_s, found.low_s, found.high_s)]
    if m.quantity == "latency":
        value, low, high = seconds
    else:
        work = (stated or own) * _number(m, "gbs") * _number(m, "seq") / _number(m, "num_gpus")
        value, high, low = (work / s for s in seconds)
    return Scored(
        measurement=m,
        predicted=value,
        low=low,
        high=high,
        kernel_class="training",
        bound=m.naive,
    )


def model_flops(shape: ModelShape, sequence: int) -> float:
    """FLOP per trained token."""
    count = parameter_count(shape)
    layers = [g for g in shape.layers if isinstance(g.mixer, AttentionMixer)]
    attended = sum(
        g.count * g.mixer.heads * g.mixer.head_dim
        for g in layers
        if isinstance(g.mixer, AttentionMixer)
    )
    looked_up = count.embedding if count.head else 0
    return 6.0 * (count.active - looked_up) + 12.0 * attended * sequence


def _stated_flops(m: Measurement) -> float | None:
    """FLOP per token by the row's own count: its FLOP/s over its tokens per second."""
    rate = m.question.get("tok_s_per_gpu")
    return m.value / float(rate) if rate and m.quantity == "throughput" else None


def _step(m: Measurement, shape: ModelShape, *, recompute: bool) -> Estimate:
    sizes = {name: _number(m, name, 1) for name in ("mbs", "tp", "pp", "cp")}
    if sizes["cp"] > 1:
        msg = "context parallelism (cp > 1) is not modelled"
        raise BadValue(msg, field="cp")
    devices, batch = _number(m, "num_gpus"), _number(m, "gbs")
    replicas, rest = divmod(devices, sizes["tp"] * sizes["pp"])
    micro, left = divmod(batch, max(replicas, 1) * sizes["mbs"])
    if rest or left or not replicas or not micro:
        msg = f"{devices} devices and {batch} sequences do not divide over {sizes}"
        raise BadValue(msg, field="num_gpus")
    dtype = m.dtype or "bf16"
    return train_step(
        shape,
        load_device(m.device),
        sequence=_number(m, "seq"),
        batch=sizes["mbs"],
        micro_batches=micro,
        tp=sizes["tp"],
        pp=sizes["pp"],
        dp=replicas,
        sequence_parallel=sizes["tp"] > 1,
        recompute=recompute,
        dtypes=Dtypes(act=dtype, weight=dtype, kv=dtype),
    )


def _number(m: Measurement, column: str, default: int | None = None) -> int:
    """The whole number that a cell begins with ("8 (unverified)" is 8)."""
    found = re.match(r"\s*(\d+)", m.question.get(column, ""))
    if found is None and default is None:
        msg = f"must be a whole number, got {m.question.get(column)!r}"
        raise BadValue(msg, field=column)
    return int(found[1]) if found else int(default or 0)
