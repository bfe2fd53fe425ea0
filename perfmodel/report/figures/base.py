"""What all figures share: the picture with its text, colours, axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLOURS = ("#3d8bd4", "#e08214", "#1b9e77", "#c1559b", "#8c6bb1", "#a6761d", "#6c7a89", "#d1495b")
"""Told apart by colour-blind people and on light and dark ground alike; symbols differ as well."""
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star", "x", "pentagon")
ROOF = "#8a8f98"
MEASURED = "#d1495b"
PREDICTED = "#3d8bd4"
BUDGET = "#d1495b"
CELL = 0.1
"""Decades within which dots of many lie upon each other: about the width of a dot."""
TEMPLATE = "plotly_white"
"""How a figure by itself looks; the explorer puts its own theme over it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure, as Plotly's data and layout, and what it shows, in words."""

    spec: Mapping[str, Any]
    alt: str

    @property
    def figure(self) -> go.Figure:
        """The figure for use by itself, every property checked (tens of milliseconds)."""
        import plotly.graph_objects as go

        return go.Figure(self.spec, layout_template=TEMPLATE)

    def to_html(self) -> str:
        """A page of its own that needs nothing else: script and data inside."""
        page: str = self.figure.to_html(include_plotlyjs=True, full_html=True)
        return page.replace("<html>", '<html lang="en">', 1)


def picture(
    traces: Sequence[Mapping[str, Any]],
    alt: str,
    *,
    x: Mapping[str, Any],
    y: Mapping[str, Any],
    height: int = 420,
    **layout: Any,
) -> Picture:
    """A picture of ``traces`` over the axes ``x`` and ``y``, readable on a narrow screen."""
    shared = {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 40, "b": 8},
        "legend": {"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom"},
        "hoverlabel": {"align": "left"},
        "xaxis": {"automargin": True, **x},
        "yaxis": {"automargin": True, **y},
    }
    spec = {"data": [dict(t) for t in traces], "layout": {**shared, **layout}}
    return Picture(spec=spec, alt=alt)


def axis(title: str, *, log: bool = False, **more: Any) -> dict[str, Any]:
    """An axis; a logarithmic one is labelled with the prefixes that suit it."""
    decades = {"type": "log", "exponentformat": "SI", "minexponent": 1} if log else {}
    return {"title": {"text": title}, **decades, **more}


def colour(index: int) -> str:
    """The colour of the ``index``-th series."""
    return COLOURS[index % len(COLOURS)]


def symbol(index: int) -> str:
    """The marker of the ``index``-th series."""
    return SYMBOLS[index % len(SYMBOLS)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heap:
    """Points of a logarithmic picture that lie upon each other, drawn as one."""

    place: tuple[float, ...]
    """Their geometric mean."""
    members: NDArray[np.intp]
    """Which points they are."""

    @property
    def size(self) -> float:
        """The diameter of its dot: more for more points, and never so much that it hides others."""
        return float(np.minimum(6.0 * len(self.members) ** 0.35, 16.0))


def heaps(points: Sequence[Sequence[float]]) -> list[Heap]:
    """Points (coordinates, all positive) by cells of :data:`CELL`, in the order of their first."""
    if not points:
        return []
    logs = np.log10(np.asarray(points, dtype=np.float64))
    _, first, cell = np.unique(
        np.floor(logs / CELL), axis=0, return_index=True, return_inverse=True
    )
    members = [np.flatnonzero(cell.ravel() == c) for c in np.argsort(first)]
    return [Heap(place=tuple((10.0 ** logs[m].mean(axis=0)).tolist()), members=m) for m in members]
