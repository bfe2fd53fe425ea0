"""What a question is about: an operator with its fields, or a step of a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel.answer import Estimate
from perfmodel.cli._options import count, counts
from perfmodel.errors import BadValue, UnknownName
from perfmodel.workload import OPS, Workload
from perfmodel.workload.base import check_real

YES_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def op_named(subject: str) -> type[Workload] | None:
    """The operator of that name, or None."""
    return OPS.get(subject.lower().replace("-", "_"))


def workload(subject: str, fields: list[str]) -> Workload:
    """An operator from its name and ``name=value`` fields; a field of several values is a grid axis.

    Raises:
        UnknownName: no such operator or field.
        BadValue: a field that is malformed, missing or out of range.
    """
    op = op_named(subject)
    assert op is not None, "asked for an operator that does not exist"
    values = dict(_field(op, text) for text in fields)
    required = [n for n, f in op.__dataclass_fields__.items() if _required(f)]
    missing = [n for n in required if n not in values]
    if missing:
        example = " ".join(f"{n}=1024" for n in missing)
        raise BadValue(f"{op.op} needs {', '.join(missing)}", field=missing[0], fix=example)
    return op(**values)


def model_step(subject: str, fields: list[str], where: str, question: dict[str, Any]) -> Estimate:
    """A step of the model called ``subject``.

    Raises:
        UnknownName: neither a model nor an operator.
        BadValue: fields beside a model, no phase, or a size that the phase lacks.
    """
    from perfmodel import api

    if fields:
        msg = f"{subject} is a model: its sizes are options, not {fields[0][:40]!r}"
        raise BadValue(msg, field="arguments", fix="--batch 16 --context 2048")
    shape = model_named(subject)
    if question.get("phase") is None:
        fix = "--phase encode" if not shape.decoder else "--phase decode --context 2048"
        raise BadValue("say which phase of the model is meant", field="--phase", fix=fix)
    return api.step(shape, where, **question)


def model_named(subject: str) -> Any:
    """The model of that name; an unknown one is told operators' names too."""
    from perfmodel import api
    from perfmodel.models.hf import model_names

    try:
        return api.model(subject)
    except UnknownName as error:
        if error.kind != "model":
            raise
        known = {*error.known, *model_names(), *OPS}
        raise UnknownName("model or operator", subject, known, fix=error.fix) from None


def _required(field: Any) -> bool:
    from dataclasses import MISSING

    return field.default is MISSING and field.default_factory is MISSING


def _field(op: type[Workload], text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        msg = f"must be name=value, got {text[:40]!r}"
        raise BadValue(msg, field="arguments", fix=f"{op.op} {next(iter(op.SIZES))}=1024")
    known = op.__dataclass_fields__
    if name not in known:
        raise UnknownName(f"field of {op.op}", name, known)
    return name, _value(op, name, value)


def _value(op: type[Workload], name: str, text: str) -> Any:
    """Text as what the field holds: counts, a name, yes or no, or a number."""
    if name in op.SIZES:
        values = counts(text, name)
        return values[0] if len(values) == 1 else np.array(values)
    if name in op.DTYPES or name in op.CHOICES:
        return text
    default = op.__dataclass_fields__[name].default
    if isinstance(default, bool):
        return _yes_no(text, name)
    if isinstance(default, float):
        return _real(text, name)
    return count(text, name) if default is None else text


def _yes_no(text: str, name: str) -> bool:
    if text.lower() not in YES_NO:
        raise BadValue(f"must be yes or no, got {text[:40]!r}", field=name, fix=f"{name}=yes")
    return YES_NO[text.lower()]


def _real(text: str, name: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise BadValue(f"must be a number, got {text[:40]!r}", field=name) from None
    return float(check_real(number, name))  # type: ignore[arg-type]  # one number in, one out
