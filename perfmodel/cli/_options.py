"""Options that several verbs share, and how what people type becomes values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import typer

from perfmodel.errors import BadValue

Subject: TypeAlias = Annotated[
    str, typer.Argument(help="An operator (gemm, attention, ...) or a model.")
]
Fields: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FIELD=VALUE]...", help="The operator's fields, as m=4096."),
]
Model: TypeAlias = Annotated[
    str, typer.Argument(help="A model: name, alias or path of a config.json.")
]
On: TypeAlias = Annotated[
    str, typer.Option("--on", metavar="DEVICE", help="A device: name, alias or spec file.")
]
OnSeveral: TypeAlias = Annotated[
    list[str],
    typer.Option("--on", metavar="DEVICE[,DEVICE...]", help="Devices; repeatable, or by commas."),
]
Tp: TypeAlias = Annotated[str, typer.Option("--tp", help="Tensor-parallel devices.")]
Pp: TypeAlias = Annotated[str, typer.Option("--pp", help="Pipeline stages.")]
Ep: TypeAlias = Annotated[str, typer.Option("--ep", help="Expert-parallel devices.")]
Dtype: TypeAlias = Annotated[
    str | None,
    typer.Option("--dtype", help="Of activations and weights; of the cache too from 16 bits up."),
]
WeightDtype: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--weight-dtype", "--weights", help="Data type of the weights alone, q4 or q8 too."
    ),
]
KvDtype: TypeAlias = Annotated[
    str | None, typer.Option("--kv-dtype", help="Data type of cached keys and values alone.")
]
Context: TypeAlias = Annotated[
    str | None, typer.Option("--context", metavar="TOKENS", help="Tokens in the cache (8k = 8192).")
]
Prompt: TypeAlias = Annotated[
    str | None, typer.Option("--prompt", metavar="TOKENS", help="Prompt tokens per request.")
]
Batch: TypeAlias = Annotated[str, typer.Option("--batch", help="Sequences at once.")]
Phase: TypeAlias = Annotated[
    str | None,
    typer.Option("--phase", help="prefill, decode, mixed or encode; of a network train."),
]
Chunk: TypeAlias = Annotated[
    str | None,
    typer.Option("--chunk", metavar="TOKENS", help="Prefill tokens per step; 'none' for whole."),
]
Price: TypeAlias = Annotated[
    float | None, typer.Option("--price", help="US dollars per device-hour, instead of the spec's.")
]
Reserve: TypeAlias = Annotated[
    str | None, typer.Option("--reserve", help="What the framework keeps per device (1.5 GB).")
]
Users: TypeAlias = Annotated[str, typer.Option("--users", help="Users that must fit.")]
Memory: TypeAlias = Annotated[
    str | None,
    typer.Option("--memory", help="Memory per device instead of the spec's, as '80 GB'."),
]
Page: TypeAlias = Annotated[
    str, typer.Option("--page", metavar="TOKENS", help="Tokens per KV page; 'none' for contiguous.")
]
Runtime: TypeAlias = Annotated[
    str | None, typer.Option("--runtime", help="What runs a network, as x-cube-ai-9 or cmsis-nn.")
]
Clock: TypeAlias = Annotated[
    str | None, typer.Option("--clock", help="A microcontroller's clock, as '80 MHz'.")
]
Battery: TypeAlias = Annotated[
    str | None, typer.Option("--battery", help="What a battery holds, as '1000 mAh' or '3.7 Wh'.")
]
Every: TypeAlias = Annotated[
    str | None, typer.Option("--every", help="One inference every ..., as 10s; with --battery.")
]
Explain: TypeAlias = Annotated[
    bool, typer.Option("--explain", help="Show how the answer came about.")
]

_COUNT = re.compile(r"(\d{1,18})([kKmM]?)", re.ASCII)
_NEGATIVE = re.compile(r"-\d+", re.ASCII)
_SCALE = {"": 1, "k": 2**10, "m": 2**20}
MOST_VALUES = 100_000
"""Values of one axis beyond which a range is refused as absurd."""


def count(text: str, field: str) -> int:
    """A whole number; ``8k`` is 8 x 1024 and ``1m`` is 2**20, as context lengths are said.

    Raises:
        BadValue: anything else.
    """
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        rule = "not be negative" if _NEGATIVE.fullmatch(text.strip()) else "be a whole number"
        msg = f"must {rule}, got {text[:40]!r}"
        raise BadValue(msg, field=field, fix="2048, or 2k (k = 1024, m = 1048576)")
    return int(match[1]) * _SCALE[match[2].lower()]


def optional_count(text: str | None, field: str) -> int | None:
    """As :func:`count`; None for None and for ``none``."""
    return None if text is None or text.strip().lower() == "none" else count(text, field)


def counts(text: str, field: str) -> list[int]:
    """Numbers and ranges by commas: ``1,2,4``, ``1k..128k`` (doubling), ``8..64:8`` (steps of 8).

    Raises:
        BadValue: not such a list, or a range that is empty or absurdly long.
    """
    return [n for item in text.split(",") for n in _range(item, field)]


def words(text: str | None) -> list[str] | None:
    """Names by commas; None for None."""
    return None if text is None else [w.strip() for w in text.split(",") if w.strip()]


def named(text: str, field: str) -> list[str]:
    """Names by commas, at least one; raises BadValue."""
    found = words(text)
    if not found:
        msg = f"names nothing, got {text[:40]!r}"
        raise BadValue(msg, field=field, fix="one name, or several by commas")
    return found


def several(values: list[str]) -> list[str]:
    """A repeatable option whose values may hold commas too, flattened."""
    return [w for value in values for w in words(value) or []]


def quantity(text: str | None, dimension: Any, field: str) -> float | None:
    """Text with a unit in SI, None for None; raises as :func:`perfmodel.units.parse`."""
    from perfmodel.units import parse

    return None if text is None else parse(text, dimension, field)


def given(**values: Any) -> dict[str, Any]:
    """Those keywords that have a value."""
    return {name: value for name, value in values.items() if value is not None}


def each(parse: Callable[[str, str], Any], **texts: str | None) -> dict[str, Any]:
    """``parse(text, field)`` of every text that was given, by field."""
    return {name: parse(text, name) for name, text in texts.items() if text is not None}


def _range(item: str, field: str) -> list[int]:
    first, dots, rest = item.partition("..")
    if not dots:
        return [count(item, field)]
    last, colon, stride = rest.partition(":")
    low, high = count(first, field), count(last, field)
    step = count(stride, field) if colon else 0
    if low < 1 or high < low or (colon and step < 1):
        msg = f"is not a range: {item[:40]!r}"
        raise BadValue(msg, field=field, fix="1..64 doubles, 8..64:8 goes in steps of 8")
    if colon and (high - low) // step >= MOST_VALUES:
        msg = f"has more than {MOST_VALUES:,} values: {item[:40]!r}"
        raise BadValue(msg, field=field, fix="a larger step")
    return list(range(low, high + 1, step)) if colon else _doubling(low, high)


def _doubling(low: int, high: int) -> list[int]:
    values = [low]
    while 2 * values[-1] <= high:
        values.append(2 * values[-1])
    return values if values[-1] == high else [*values, high]
