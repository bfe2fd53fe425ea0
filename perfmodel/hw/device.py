"""A device: its compute, memory, links, power and price, each figure with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from perfmodel.errors import MissingFigure
from perfmodel.hw.board import Board
from perfmodel.hw.compute import Compute
from perfmodel.hw.link import Link, Price
from perfmodel.hw.memory import Memory

Kind: TypeAlias = Literal["gpu", "tpu", "cpu", "soc", "mcu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of a spec as printed by its source.

    ``value`` is SI; ``text`` how the spec file writes it ("3.35 TB/s"). A figure has either a
    ``source`` (an id of specs/sources.toml) or ``verified`` False with a ``reason``; ``derived``
    figures name their formula in ``condition``.
    """

    value: float
    unit: str
    text: str
    source: str | None = None
    condition: str | None = None
    verified: bool = True
    reason: str | None = None

    def doubt(self, path: str) -> str:
        """What there is to say of an unverified figure at ``path``."""
        return f"{path} = {self.text} is unverified: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device as sold (a GPU, a chip, a board). Built by :func:`perfmodel.hw.load.load_device`.

    ``figures`` holds every number by its dotted spec path with its provenance.
    """

    name: str
    title: str
    kind: Kind
    vendor: str
    architecture: str
    compute: Compute
    memory: Memory
    aliases: tuple[str, ...] = ()
    peer_link: Link | None = None
    """Between devices of one node; None where they cannot talk except through the host."""
    node_link: Link | None = None
    """Between nodes, per device."""
    host_link: Link | None = None
    """To the host; None where host and device share their memory."""
    tdp_w: float | None = None
    idle_w: float | None = None
    active_w: float | None = None
    """Board power under load where it was measured (MCUs)."""
    process_m: float | None = None
    """Nominal feature size of the manufacturing process."""
    launch_stream_s: float | None = None
    launch_graph_s: float | None = None
    prices: tuple[Price, ...] = ()
    board: Board | None = None
    os_reserve_bytes: float = 0.0
    """Unified memory that the operating system keeps (edge devices)."""
    figures: Mapping[str, Figure] = field(default_factory=dict)

    def __hash__(self) -> int:
        """By name, so that a device can be a cache key; its mappings cannot be hashed."""
        return hash(self.name)

    def figure(self, path: str) -> Figure:
        """The figure at a dotted spec path such as ``"measured.dram_read_fraction"``.

        Raises:
            MissingFigure: the spec of this device lacks it.
        """
        if path in self.figures:
            return self.figures[path]
        msg = f"the spec of {self.name} states no {path}"
        raise MissingFigure(
            msg, field=path, fix="add the figure to a spec of your own (--specs DIR)"
        )

    @property
    def unverified(self) -> tuple[str, ...]:
        """Spec paths of figures that nobody could verify, with their reason."""
        return tuple(f.doubt(path) for path, f in self.figures.items() if not f.verified)
