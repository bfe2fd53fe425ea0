"""What a question is about: an operator with its fields, or a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from perfmodel.cli._options import count, counts
from perfmodel.errors import BadValue, UnknownName
from perfmodel.models.shape import ModelShape
from perfmodel.workload import WORKLOADS, Workload, workload_from_dict

UNSAID = (None, "1", "graph")
"""Values of options that nobody gave."""

YES_NO = {"true": True, "yes": True, "false": False, "no": False}


def op_named(subject: str) -> type[Workload] | None:
    """The operator of that name, or None."""
    return WORKLOADS.get(subject.lower().replace("-", "_"))


def workload(op: type[Workload], texts: list[str]) -> Workload:
    """An operator from ``name=value`` texts; several values of a size are an array, and arrays
    broadcast (``sweep`` makes a grid of them).

    Raises:
        UnknownName: no such field.
        BadValue: a field that is malformed, missing, out of range or given twice.
    """
    given: dict[str, Any] = {}
    for text in texts:
        name, value = _field(op, text)
        if name in given:
            msg = f"{name} is given twice, the second time as {text[:40]!r}"
            raise BadValue(msg, field=name, fix="give it once; several values go by commas")
        given[name] = value
    return workload_from_dict({"op": op.op} | given)


def model_named(subject: str, texts: list[str]) -> ModelShape:
    """The model called ``subject``; an unknown one is told the operators' names too.

    Raises:
        UnknownName: neither a model nor an operator.
        BadValue: ``name=value`` texts beside a model.
    """
    from perfmodel import api

    try:
        shape = api.model(subject)
    except UnknownName as error:
        if error.kind != "model":
            raise
        known = (*error.known, *WORKLOADS, *_networks())
        raise UnknownName("model or operator", subject, known, fix=error.fix) from None
    refuse_fields(subject, texts)
    return shape


def refuse_fields(subject: str, texts: list[str]) -> None:
    """Raises BadValue where ``name=value`` texts stand beside a model or network."""
    if texts:
        msg = f"{subject} is a model: its sizes are options, not {texts[0][:40]!r}"
        raise BadValue(msg, field="arguments", fix="--batch 16 --context 2048")


def refuse_for_operator(op: type[Workload], **given: object) -> None:
    """As :func:`refuse_options`, pointing to the operator's own field where it has one."""
    refuse_options(f"the operator {op.op}", given, [f.name for f in fields(op)])


def refuse_options(what: str, given: Mapping[str, object], fields: Collection[str] = ()) -> None:
    """Raises BadValue for the first option that means nothing for ``what`` and was given all the
    same (as something else than :data:`UNSAID`); an operator's ``fields`` go as name=value."""
    for name, value in given.items():
        if value not in UNSAID:
            option = "--" + name.replace("_", "-")
            fix = f"{name}={str(value)[:40]}" if name in fields else f"leave {option} out"
            raise BadValue(f"{option} means nothing for {what}", field=option, fix=fix)


def _networks() -> tuple[str, ...]:
    from perfmodel.mcu.networks import BUILT_IN

    return tuple(BUILT_IN)


def phase_of(shape: ModelShape, phase: str | None) -> Any:
    """The phase asked for; raises BadValue, saying which fits, when none was."""
    if phase is not None:
        return phase
    fix = "--phase decode --context 2048" if shape.decoder else "--phase encode"
    msg = "say which phase of the model is meant"
    raise BadValue(msg, field="--phase", fix=fix)


def _field(op: type[Workload], text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        msg = f"must be name=value, got {text[:40]!r}"
        raise BadValue(msg, field="arguments", fix=f"{op.op} {next(iter(op.SIZES))}=1024")
    known = {f.name: f.default for f in fields(op)}
    if name not in known:
        raise UnknownName(f"field of {op.op}", name, known)
    return name, _value(op, name, value, known[name])


def _value(op: type[Workload], name: str, text: str, default: object) -> Any:
    """Text as what the field holds: counts, a name, yes or no, or a number."""
    if name in op.SIZES:
        values = counts(text, name)
        return values[0] if len(values) == 1 else values
    if isinstance(default, bool):
        return _yes_no(text, name)
    if isinstance(default, float):
        return _real(text, name)
    named = name in op.DTYPES or name in op.CHOICES or default is not None
    return text if named else count(text, name)


def _yes_no(text: str, name: str) -> bool:
    if text.lower() not in YES_NO:
        msg = f"must be yes or no, got {text[:40]!r}"
        raise BadValue(msg, field=name, fix=f"{name}=yes")
    return YES_NO[text.lower()]


def _real(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        msg = f"must be a number, got {text[:40]!r}"
        raise BadValue(msg, field=name, fix=f"{name}=2.0") from None
