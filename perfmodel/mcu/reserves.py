"""What a deployed network needs beside its tensors and weights: stack, runtime, code, alignment."""

from __future__ import annotations

from dataclasses import dataclass

from perfmodel import catalog
from perfmodel.errors import BadValue, MalformedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserves:
    """Bytes kept free of tensors (``stack``, ``runtime``: SRAM) and of weights (``code``: flash).

    Every offset is a multiple of ``alignment_bytes``.
    """

    stack_bytes: int
    runtime_bytes: int
    code_bytes: int
    alignment_bytes: int
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("stack_bytes", "runtime_bytes", "code_bytes", "alignment_bytes"):
            least = 1 if field == "alignment_bytes" else 0
            if not least <= getattr(self, field) <= 2**40:
                msg = f"must lie between {least} and 2**40, got {getattr(self, field)}"
                raise BadValue(msg, field=field)

    @property
    def sram_bytes(self) -> int:
        """Bytes of SRAM that tensors cannot have."""
        return self.stack_bytes + self.runtime_bytes


def load_reserves(
    *, reserve_bytes: int | None = None, code_bytes: int | None = None, align: int | None = None
) -> Reserves:
    """The reserves of specs/calibration/arena.toml, with what is given in their place.

    ``reserve_bytes`` is stack and runtime together.

    Raises:
        MalformedFile: the file lacks a figure or says something else.
    """
    from perfmodel.hw.figures import read_named

    path = catalog.find("calibration", "arena")
    given = {"code_bytes": code_bytes, "alignment_bytes": align}
    if reserve_bytes is not None:
        given |= {"stack_bytes": reserve_bytes, "runtime_bytes": 0}
    try:
        figures = read_named(catalog.read_toml(path).get("reserve"))
        values = {k: given.get(k) for k in given} | {
            k: int(figures[k].value)
            for k in ("stack_bytes", "runtime_bytes", "code_bytes", "alignment_bytes")
            if given.get(k) is None
        }
    except (KeyError, ValueError) as error:
        msg = f"{path}: not a table of reserves: {error}"
        raise MalformedFile(msg, field="reserve", fix="compare with the shipped file") from None
    told = tuple(
        f"{name.removesuffix('_bytes')} of {figures[name].text}: {figures[name].reason}"
        for name in figures
        if given.get(name) is None and not figures[name].verified
    )
    return Reserves(**{k: v for k, v in values.items() if v is not None}, assumptions=told)
