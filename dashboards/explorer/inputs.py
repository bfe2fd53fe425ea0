"""Inputs: declared once, carried by links and scenario files, kept when the page changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from perfmodel import catalog
from perfmodel.errors import BadValue

KEPT = "kept_inputs"
PAGE, PLACED = "page_shown", "page_of_inputs"
AUTO = "auto"
MOST_TEXT = 400
DTYPES = (AUTO, "fp32", "bf16", "fp16", "fp8", "int8", "fp4", "int4")
WEIGHT_DTYPES = (AUTO, "bf16", "fp16", "fp8", "int8", "int4")
KV_DTYPES = (AUTO, "bf16", "fp16", "fp8", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input: what its link parameter holds and how it is asked for."""

    kind: Literal["count", "text", "choice", "choices"]
    label: str
    default: Any
    options: Callable[[], Sequence[str]] = tuple
    hint: str | None = None
    open_ended: bool = False
    """A choice among what an answer holds: any text is kept until the answer is there."""

    def check(self, name: str, value: Any) -> Any:
        """``value`` from a file if this input can hold it; raises BadValue otherwise."""
        if self.kind == "count" and isinstance(value, int) and 1 <= value <= 2**53:
            return value
        if (self.kind == "text" or self.open_ended) and isinstance(value, str):
            return self._short(name, value)
        options = self.options()
        values = value if self.kind == "choices" else [value]
        if self.kind.startswith("choice") and isinstance(values, list):
            strange = [v for v in values if v not in options]
            if not strange:
                return value
            msg = f"{strange[0]!r} is not among the choices"
            raise BadValue(msg, field=name, fix=", ".join(map(str, options[:8])))
        msg = f"cannot be {str(value)[:40]!r}"
        raise BadValue(msg, field=name, fix=f"for example {self.default!r}")

    def _short(self, name: str, value: str) -> str:
        if len(value) > MOST_TEXT:
            msg = f"has at most {MOST_TEXT} characters, got {len(value)}"
            raise BadValue(msg, field=name, fix=f"for example {self.default!r}")
        return value


def _devices() -> tuple[str, ...]:
    return catalog.names("hw")


def _models() -> tuple[str, ...]:
    return catalog.names("models")


INPUTS: dict[str, Input] = {
    "model": Input(kind="choice", label="Model", default="llama-3.1-70b", options=_models),
    "device": Input(kind="choice", label="Device", default="h200-sxm", options=_devices),
    "devices": Input(
        kind="choices", label="Devices", default=["h100-sxm-80gb", "h200-sxm"], options=_devices
    ),
    "users": Input(kind="count", label="Users (requests in flight)", default=64),
    "prompt": Input(kind="count", label="Prompt tokens", default=8192),
    "output": Input(kind="count", label="Output tokens", default=512),
    "ttft": Input(
        kind="text", label="Time to first token", default="2s", hint="as 2s or 500ms; empty: any"
    ),
    "tpot": Input(
        kind="text", label="Time per output token", default="50ms", hint="as 50ms; empty: any"
    ),
    "rank": Input(
        kind="choice",
        label="Best first by",
        default="cost",
        options=lambda: ("cost", "devices", "latency", "energy"),
    ),
    "price": Input(
        kind="text", label="Price ($ per device-hour)", default="", hint="empty: the spec's own"
    ),
    "dtype": Input(kind="choice", label="Data type", default=AUTO, options=lambda: DTYPES),
    "weight_dtype": Input(
        kind="choice", label="Weights in", default=AUTO, options=lambda: WEIGHT_DTYPES
    ),
    "kv_dtype": Input(kind="choice", label="KV cache in", default=AUTO, options=lambda: KV_DTYPES),
    "phase": Input(
        kind="choice",
        label="Phase",
        default="decode",
        options=lambda: ("decode", "prefill", "mixed", "encode"),
    ),
    "batch": Input(kind="count", label="Batch (sequences at once)", default=16),
    "context": Input(kind="count", label="Context (tokens in the cache)", default=2048),
    "chunk": Input(kind="count", label="Prompt tokens in the step", default=512),
    "tp": Input(kind="count", label="Tensor-parallel devices", default=4),
}


def declare(**more: Input) -> None:
    """Add the inputs of one page to those that all share."""
    INPUTS.update(more)


def ask(name: str, *, among: Sequence[str] | None = None) -> Any:
    """The widget of an input, bound to the link; its value survives a change of page.

    ``among`` narrows a choice to what the other inputs allow.
    """
    known = INPUTS[name]
    options = known.options() if among is None else among
    _restore(name, known, options)
    value = _WIDGETS[known.kind](name, known, options)
    st.session_state[KEPT][name] = value
    return value


def ask_all(*names: str) -> dict[str, Any]:
    """Several inputs, one below the other."""
    return {name: ask(name) for name in names}


def _restore(name: str, known: Input, options: Sequence[str]) -> None:
    """Take up what this session last had, unless the link or the page says otherwise.

    An input that two pages share is another widget on each, which starts anew unless told.
    """
    kept = st.session_state.setdefault(KEPT, {})
    placed, page = st.session_state.setdefault(PLACED, {}), st.session_state.get(PAGE)
    fresh = name not in st.session_state or placed.get(name) != page
    placed[name] = page
    if fresh and name in kept and name not in st.query_params:
        st.session_state[name] = kept[name]
    if known.kind == "choice" and st.session_state.get(name, options[0]) not in options:
        del st.session_state[name]


def _count(name: str, known: Input, _options: Sequence[str]) -> int:
    return int(
        st.number_input(
            known.label, min_value=1, max_value=2**40, value=known.default, key=name,
            bind="query-params", help=known.hint,
        )
    )  # fmt: skip


def _text(name: str, known: Input, _options: Sequence[str]) -> str:
    value = st.text_input(
        known.label, value=known.default, key=name, bind="query-params", help=known.hint,
        max_chars=MOST_TEXT,
    )  # fmt: skip
    return (value or "").strip()


def _choice(name: str, known: Input, options: Sequence[str]) -> str:
    start = options.index(known.default) if known.default in options else 0
    value: str = st.selectbox(
        known.label, options, index=start, key=name, bind="query-params", help=known.hint
    )
    return value


def _choices(name: str, known: Input, options: Sequence[str]) -> list[str]:
    return st.multiselect(
        known.label, options, default=known.default, key=name, bind="query-params", help=known.hint
    )


_WIDGETS: dict[str, Callable[[str, Input, Sequence[str]], Any]] = {
    "count": _count,
    "text": _text,
    "choice": _choice,
    "choices": _choices,
}
