"""Networks on microcontrollers, as the verb ``estimate`` answers them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perfmodel.answer import Estimate
from perfmodel.cli._options import quantity
from perfmodel.errors import BadValue, MissingFigure, UnknownName
from perfmodel.hw.device import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """Options of ``estimate`` that mean something for a network alone."""

    runtime: str | None
    clock: str | None
    battery: str | None
    every: str | None

    def refuse_if_given(self, subject: str) -> None:
        """Raises BadValue where one was given for what is no network."""
        for name in self.__slots__:
            if getattr(self, name) is not None:
                msg = f"means something for a network on a microcontroller, not for {subject[:40]}"
                raise BadValue(msg, field=f"--{name}", fix=f"leave --{name} out")


def network_asked(subject: str, on: str) -> bool:
    """Whether ``subject`` means a network: a file of one, or a name that on a microcontroller is
    one and elsewhere no model has."""
    from perfmodel import api
    from perfmodel.mcu.networks import is_network

    if not is_network(subject):
        return False
    return api.device(on).board is not None or not _is_model(subject)


def _is_model(subject: str) -> bool:
    from perfmodel import api

    try:
        api.model(subject)
    except UnknownName:
        return False
    return True


def estimate_network(
    subject: str, on: str, phase: str | None, dtype: str | None, options: NetworkOptions
) -> tuple[Estimate, dict[str, Any]]:
    """The estimate of one inference with its energy and the battery's life as JSON, or, in the
    phase ``train``, of one training step.

    Raises:
        BadValue: another phase, or one of battery and period without the other.
        MissingFigure: a battery's life was asked for and the board's power is not stated.
    """
    from perfmodel import api

    if phase is not None and phase != "train":
        msg = f"a network infers or trains, got {phase[:40]!r}"
        raise BadValue(msg, field="--phase", fix="--phase train, or no phase")
    if phase == "train":
        from perfmodel.mcu.training import training_step

        options.refuse_if_given("a training step")
        return training_step(subject, api.device(on), dtype or "fp32"), {}
    clock_hz = quantity(options.clock, "frequency", "clock")
    found = api.latency(subject, on, runtime=options.runtime, dtype=dtype, clock_hz=clock_hz)
    answer = _energy(found, api.device(on), options)
    if answer:
        answer["energy"]["counted_45nm_j"] = _counted(subject, found.facts["dtype"])
    return found, answer


def _counted(subject: str, dtype: str) -> dict[str, float] | None:
    """Operations and traffic alone in the 45 nm table; None for a type that it lacks."""
    from perfmodel.mcu.energy import counted_energy
    from perfmodel.mcu.networks import find_network

    try:
        return counted_energy(find_network(subject), dtype)
    except UnknownName:
        return None


def _energy(found: Estimate, device: Device, options: NetworkOptions) -> dict[str, Any]:
    from perfmodel.mcu.energy import battery_energy, battery_life, inference_energy

    wanted = options.battery is not None or options.every is not None
    if (options.battery is None) != (options.every is None):
        missing = "--every" if options.every is None else "--battery"
        msg = "a battery's life needs both what it holds and how often an inference runs"
        raise BadValue(msg, field=missing, fix="--battery '1000 mAh' --every 10s")
    try:
        energy = inference_energy(found, device)
    except MissingFigure:
        if wanted:
            raise
        return {}
    answer = {"energy": energy.to_dict()}
    if options.battery is not None and options.every is not None:
        period = quantity(options.every, "time", "every")
        assert period is not None
        joules = battery_energy(options.battery)
        life = battery_life(energy, found, device, battery_j=joules, period_s=period)
        answer["battery"] = life.to_dict()
    return answer


def energy_lines(answer: dict[str, Any]) -> tuple[str, ...]:
    """Energy and battery life for people."""
    from perfmodel.units import format_si

    lines = []
    if "energy" in answer:
        e = answer["energy"]
        ends = f"{format_si(e['low_j'], 'J')} .. {format_si(e['high_j'], 'J')}"
        lines.append(
            f"energy {format_si(e['energy_j'], 'J')} ({ends}) at {format_si(e['power_w'], 'W')}: "
            f"{e['inferences_per_j']:.3g} inferences per joule, "
            f"{e['facts']['pj_per_mac']:.3g} pJ per multiply-add"
        )
        lines += [
            f"measured: {v:g} pJ per multiply-add ({n})" for n, v in e["facts"]["published"].items()
        ]
    counted = answer.get("energy", {}).get("counted_45nm_j")
    if counted:
        spent = " + ".join(f"{name} {format_si(joules, 'J')}" for name, joules in counted.items())
        lines.append(f"operations alone, in 45 nm, without any instruction around them: {spent}")
    if "battery" in answer:
        b = answer["battery"]
        lines.append(
            f"battery lasts {b['life_days']:.3g} days, {b['inferences']:.3g} inferences, "
            f"at {format_si(b['average_w'], 'W')} on average"
        )
    notes = [n for part in answer.values() for n in part["assumptions"]]
    return (*lines, *(f"assumed: {note}" for note in notes))
