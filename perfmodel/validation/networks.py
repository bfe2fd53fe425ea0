"""Predictions of whole networks on boards: latency, latency while energy is measured, energy."""

from __future__ import annotations

from collections.abc import Sequence

from perfmodel.errors import PerfModelError
from perfmodel.mcu.cycles import latency
from perfmodel.mcu.energy import inference_energy
from perfmodel.mcu.measured import ENERGY, asks_network, question_of
from perfmodel.measure import Measurement
from perfmodel.validation.score import Scored


def predict_networks(measurements: Sequence[Measurement]) -> list[Scored]:
    """Every row of a network on a board, predicted or refused with the reason."""
    return [_predict(m) for m in measurements if asks_network(m)]


def _predict(m: Measurement) -> Scored:
    try:
        q = question_of(m)
        time = latency(q.network, q.device, q.runtime, q.dtype)
        if m.scenario == ENERGY:
            energy = inference_energy(time, q.device)
            value, low, high = energy.energy_j, energy.low_j, energy.high_j
        else:
            value, low, high = (float(x) for x in (time.time_s, time.low_s, time.high_s))
    except PerfModelError as error:
        return Scored(measurement=m, refusal=str(error))
    return Scored(measurement=m, predicted=value, low=low, high=high, kernel_class="mcu")
