"""One picture without any library: our kernels, predicted against measured, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from perfmodel.report.kernels import Timed
from perfmodel.report.shown import seconds

WIDTH, HEIGHT = 720, 500
LEFT, RIGHT, TOP, BOTTOM = 70, 16, 80, 52
COLOURS = (
    "#3d8bd4", "#e08214", "#1b9e77", "#c1559b", "#8c6bb1", "#a6761d", "#d1495b", "#6c7a89",
    "#7a9a01", "#17a2b8",
)  # fmt: skip
GREY = "#555555"


def of_ours(rows: Sequence[Timed], device: str | None = None) -> list[Timed]:
    """This repository's own kernels (on ``device`` alone, if named) that have a prediction."""
    mine = (r for r in rows if r.ours and r.predicted_s is not None)
    return [r for r in mine if device is None or r.device == device]


def fastest(rows: Sequence[Timed]) -> list[Timed]:
    """The fastest kernel of each family for each workload and device."""
    best: dict[tuple[object, ...], Timed] = {}
    for row in rows:
        key = (row.family, row.device, *row.workload.key())
        if key not in best or row.measured_s < best[key].measured_s:
            best[key] = row
    return list(best.values())


def predicted_measured_svg(rows: Sequence[Timed], caption: str) -> str:
    """Measured time across, predicted time up, both logarithmic; the diagonal is exact.

    A colour per family. The fastest kernel of each workload is a filled dot with its interval, and
    counts; slower rungs are small and open. ``rows`` need a prediction each.
    """
    best = fastest(rows)
    inside = sum(bool(r.inside) for r in best)
    seen = sum(r.fitted for r in best)
    title = f"Predicted against measured: {inside} of {len(best)} lie in the predicted interval"
    told = f"{seen} of the {len(best)} are in the data that their prediction was fitted on"
    parts = [*_frame(rows, title, (caption, told)), *_slower(rows, best), *_dots(rows, best)]
    body = "\n".join([*parts, *_legend(rows, best)])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12">\n<title>{escape(title)}</title>\n'
        f"<desc>{escape(caption)}; {escape(told)}</desc>\n{body}\n</svg>\n"
    )


def _ends(rows: Sequence[Timed]) -> tuple[float, float]:
    """Whole decades that hold every figure."""
    values = [v for r in rows for v in (r.measured_s, r.predicted_s, r.low_s, r.high_s) if v]
    return float(np.floor(np.log10(min(values)))), float(np.ceil(np.log10(max(values))))


def _x(value: float, ends: tuple[float, float]) -> float:
    share = (np.log10(value) - ends[0]) / (ends[1] - ends[0])
    return LEFT + float(share) * (WIDTH - LEFT - RIGHT)


def _y(value: float, ends: tuple[float, float]) -> float:
    share = (np.log10(value) - ends[0]) / (ends[1] - ends[0])
    return HEIGHT - BOTTOM - float(share) * (HEIGHT - TOP - BOTTOM)


def _frame(rows: Sequence[Timed], title: str, captions: Sequence[str]) -> Iterator[str]:
    ends = _ends(rows)
    low, high = 10.0 ** ends[0], 10.0 ** ends[1]
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    yield _text(LEFT, 20, title, size=15, weight="bold")
    for i, caption in enumerate(captions):
        yield _text(LEFT, 40 + 18 * i, caption, colour=GREY)
    for decade in range(int(ends[0]), int(ends[1]) + 1):
        value = 10.0**decade
        x, y = _x(value, ends), _y(value, ends)
        yield _line(x, TOP, x, HEIGHT - BOTTOM, "#e3e3e3")
        yield _line(LEFT, y, WIDTH - RIGHT, y, "#e3e3e3")
        yield _text(x, HEIGHT - BOTTOM + 16, seconds(value), anchor="middle", colour=GREY)
        yield _text(LEFT - 6, y + 4, seconds(value), anchor="end", colour=GREY)
    diagonal = (_x(low, ends), _y(low, ends), _x(high, ends), _y(high, ends))
    yield _line(*diagonal, "#8a8f98", dash="6 4")
    yield _text(WIDTH / 2, HEIGHT - 10, "measured", anchor="middle")
    yield (
        f'<text transform="translate(16 {HEIGHT / 2:.0f}) rotate(-90)" '
        'text-anchor="middle">predicted</text>'
    )


def _colours(rows: Sequence[Timed]) -> dict[str, str]:
    families = dict.fromkeys(str(r.family) for r in rows)
    return {family: COLOURS[i % len(COLOURS)] for i, family in enumerate(families)}


def _slower(rows: Sequence[Timed], best: Sequence[Timed]) -> Iterator[str]:
    """The rungs that are not the fastest of their workload."""
    ends, colours = _ends(rows), _colours(rows)
    chosen = set(map(id, best))
    for row in rows:
        if id(row) not in chosen:
            yield _dot(row, ends, colours[str(row.family)], radius=2.5, full=False)


def _dots(rows: Sequence[Timed], best: Sequence[Timed]) -> Iterator[str]:
    ends, colours = _ends(rows), _colours(rows)
    for row in best:
        colour = colours[str(row.family)]
        if row.low_s and row.high_s:
            x = _x(row.measured_s, ends)
            yield _line(x, _y(row.low_s, ends), x, _y(row.high_s, ends), colour)
        yield _dot(row, ends, colour, radius=4.5, full=True)


def _dot(row: Timed, ends: tuple[float, float], colour: str, *, radius: float, full: bool) -> str:
    assert row.predicted_s is not None
    x, y = _x(row.measured_s, ends), _y(row.predicted_s, ends)
    told = f"{row.kernel}: {row.sizes} {row.types}, measured {seconds(row.measured_s)}, "
    told += f"predicted {seconds(row.predicted_s)}"
    fill = f'fill="{colour}" fill-opacity="0.8"' if full else f'fill="none" stroke="{colour}"'
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {fill}>'
        f"<title>{escape(told)}</title></circle>"
    )


def _legend(rows: Sequence[Timed], best: Sequence[Timed]) -> Iterator[str]:
    """Each family, how many workloads, and how far off it typically is."""
    for i, (family, colour) in enumerate(_colours(rows).items()):
        logs = [
            abs(np.log(r.predicted_s / r.measured_s))
            for r in best
            if r.family == family and r.predicted_s is not None
        ]
        y = TOP + 18 + 18 * i
        yield f'<circle cx="{LEFT + 16}" cy="{y - 4}" r="4.5" fill="{colour}"/>'
        yield _text(LEFT + 28, y, f"{family} ({len(logs)}): x{float(np.exp(np.mean(logs))):.2f}")
    y = TOP + 18 + 18 * len(_colours(rows))
    if len(best) < len(rows):
        yield f'<circle cx="{LEFT + 16}" cy="{y - 4}" r="2.5" fill="none" stroke="{GREY}"/>'
        yield _text(LEFT + 28, y, "slower rungs of the same", colour=GREY)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dash: str = "none") -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-dasharray="{dash}"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    weight: str = "normal",
    anchor: str = "start",
    colour: str = "#222222",
) -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    look = f'font-size="{size}" font-weight="{weight}" fill="{colour}"'
    return f"<text {where} {look}>{escape(text)}</text>"
