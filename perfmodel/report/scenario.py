"""A question in every form in which it can be asked again: command, Python, TOML, link."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from perfmodel.errors import BadValue, MalformedFile
from perfmodel.files import toml_value

MAX_TOML_BYTES = 64 * 2**10
"""Longer scenarios are refused unread."""

EXPLAINED = ("estimate", "step", "capacity", "plan", "latency")
"""Functions whose answers :func:`perfmodel.explain` derives."""

_VALIDATION = """from perfmodel.validation import validate_files

for report in validate_files({files}):
    print(report.to_dict())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a verb, as a person types it and as Python takes it."""

    option: str
    """The long option without dashes; empty for a positional argument."""
    text: str
    keyword: str
    """The Python keyword; empty for a positional argument."""
    value: Any
    """None with neither option nor keyword: a word that Python's value before it says already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What a page asks: its inputs, and the verb of the command line that answers the same."""

    page: str
    inputs: Mapping[str, Any]
    """The page's inputs by the names that its links use: text, numbers, lists of text."""
    verb: str
    function: str
    arguments: Sequence[Argument]
    also: tuple[Scenario, ...] = ()
    """Further questions that the page answers beside the first."""

    def argv(self) -> list[str]:
        """The command line's arguments, verb first."""
        given = [[f"--{a.option}", a.text] if a.option else [a.text] for a in self.arguments]
        return [self.verb, *(word for words in given for word in words)]

    def command(self) -> str:
        """What to type into a shell, a line for each question."""
        return "\n".join(shlex.join(["perfmodel", *s.argv()]) for s in (self, *self.also))

    def positional(self) -> list[Any]:
        """Positional arguments of the Python function."""
        return [a.value for a in self.arguments if not a.keyword and a.value is not None]

    def keywords(self) -> dict[str, Any]:
        """Keyword arguments of the Python function."""
        return {a.keyword: a.value for a in self.arguments if a.keyword}

    def python(self) -> str:
        """A program that prints the derivation of the same answer."""
        if self.verb == "validate":
            return _VALIDATION.format(files=[a.text for a in self.arguments])
        return "import perfmodel as pm\n" + "".join(s._asking() for s in (self, *self.also))

    def _asking(self) -> str:
        """Asks one question and prints its answer."""
        given = [a for a in self.arguments if not a.keyword and a.value is not None]
        positional = [_expression(a.value, a.text) for a in given]
        named = [f"{k}={_expression(v)}" for k, v in self.keywords().items()]
        inside = "".join(f"    {argument},\n" for argument in (*positional, *named))
        told = "pm.explain(answer)" if self.function in EXPLAINED else "answer.to_dict()"
        return f"\nanswer = pm.{self.function}(\n{inside})\nprint({told})\n"

    def toml(self) -> str:
        """A file that ``perfmodel dash`` opens again."""
        lines = [f"# {line}" for line in self.command().splitlines()]
        lines += [f"page = {toml_value(self.page)}", "", "[inputs]"]
        lines += [f"{k} = {toml_value(v)}" for k, v in self.inputs.items() if v is not None]
        return "\n".join(lines) + "\n"

    def link(self, address: str) -> str:
        """The page's ``address`` with every input."""
        given = {k: v for k, v in self.inputs.items() if v is not None}
        return f"{address}?{urlencode(given, doseq=True)}"


def _expression(value: Any, text: str = "") -> str:
    """Python source of a value; workloads as the public classes spell them, what was read from a
    file by the ``text`` that names the file.
    """
    if hasattr(value, "to_dict") and hasattr(value, "op"):
        fields = {k: v for k, v in value.to_dict().items() if k != "op" and v is not None}
        inside = ", ".join(f"{k}={v!r}" for k, v in fields.items())
        return f"pm.{type(value).__name__}({inside})"
    plain = value is None or isinstance(value, bool | int | float | str | list | tuple)
    return repr(value if plain else text)


def read_scenario(data: bytes, pages: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The page and the inputs of a scenario file, parsed and bounded, never executed.

    Raises:
        MalformedFile: too long, not TOML, or without a known page and a table of plain inputs.
    """
    if len(data) > MAX_TOML_BYTES:
        msg = f"a scenario has at most {MAX_TOML_BYTES} bytes, this file has {len(data)}"
        raise MalformedFile(msg, fix="a file downloaded from one of these pages")
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        msg = f"not a scenario in TOML: {str(error)[:200]}"
        raise MalformedFile(msg, fix="a file downloaded from one of these pages") from None
    page, inputs = table.get("page"), table.get("inputs")
    if page not in pages or not isinstance(inputs, dict):
        msg = f"a scenario names its page (one of {', '.join(pages)}) and has a table [inputs]"
        raise MalformedFile(msg, field="page", fix='page = "plan"')
    return str(page), {name: _plain(name, value) for name, value in inputs.items()}


def _plain(name: str, value: Any) -> Any:
    listed = isinstance(value, list) and all(isinstance(v, str) for v in value)
    if listed or isinstance(value, str | int | float):
        return value
    msg = f"must be text, a number or a list of text, got {type(value).__name__}"
    raise BadValue(msg, field=f"inputs.{name[:40]}")
