"""One picture without any library: our fastest kernels, predicted against measured, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from perfmodel.report.kernels import Timed
from perfmodel.report.shown import seconds

WIDTH, HEIGHT = 720, 430
LEFT, RIGHT, TOP, BOTTOM = 70, 16, 58, 52
COLOURS = ("#3d8bd4", "#e08214", "#1b9e77", "#c1559b", "#8c6bb1", "#a6761d")


def fastest(rows: Sequence[Timed]) -> list[Timed]:
    """Of this repository's own kernels the fastest for each workload and device."""
    best: dict[tuple[object, ...], Timed] = {}
    for row in rows:
        key = (row.device, *row.workload.key())
        if row.ours and row.predicted_s is not None and (
            key not in best or row.measured_s < best[key].measured_s
        ):  # fmt: skip
            best[key] = row
    return list(best.values())


def predicted_measured_svg(rows: Sequence[Timed], caption: str) -> str:
    """Measured time across, predicted time with its interval up, both logarithmic; the diagonal is
    exact. One colour per operator. ``rows`` need a prediction each.
    """
    inside = sum(bool(r.inside) for r in rows)
    title = f"Predicted against measured: {inside} of {len(rows)} lie in the predicted interval"
    parts = [*_frame(rows, title, caption), *_dots(rows)]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12">\n<title>{escape(title)}</title>\n'
        f"<desc>{escape(caption)}</desc>\n{body}\n</svg>\n"
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


def _frame(rows: Sequence[Timed], title: str, caption: str) -> Iterator[str]:
    ends = _ends(rows)
    low, high = 10.0 ** ends[0], 10.0 ** ends[1]
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    yield _text(LEFT, 20, title, size=15, weight="bold")
    yield _text(LEFT, 38, caption, colour="#555555")
    for decade in range(int(ends[0]), int(ends[1]) + 1):
        value = 10.0**decade
        x, y = _x(value, ends), _y(value, ends)
        yield _line(x, TOP, x, HEIGHT - BOTTOM, "#e3e3e3")
        yield _line(LEFT, y, WIDTH - RIGHT, y, "#e3e3e3")
        yield _text(x, HEIGHT - BOTTOM + 16, seconds(value), anchor="middle", colour="#555555")
        yield _text(LEFT - 6, y + 4, seconds(value), anchor="end", colour="#555555")
    diagonal = (_x(low, ends), _y(low, ends), _x(high, ends), _y(high, ends))
    yield _line(*diagonal, "#8a8f98", dash="6 4")
    yield _text(WIDTH / 2, HEIGHT - 10, "measured", anchor="middle")
    yield (
        f'<text transform="translate(16 {HEIGHT / 2:.0f}) rotate(-90)" '
        'text-anchor="middle">predicted</text>'
    )


def _dots(rows: Sequence[Timed]) -> Iterator[str]:
    ends = _ends(rows)
    ops = list(dict.fromkeys(r.workload.op for r in rows))
    for row in rows:
        assert row.predicted_s is not None
        colour = COLOURS[ops.index(row.workload.op) % len(COLOURS)]
        x, y = _x(row.measured_s, ends), _y(row.predicted_s, ends)
        if row.low_s and row.high_s:
            yield _line(x, _y(row.low_s, ends), x, _y(row.high_s, ends), colour)
        told = f"{row.kernel}: {row.sizes}, measured {seconds(row.measured_s)}, "
        told += f"predicted {seconds(row.predicted_s)}"
        yield (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}" fill-opacity="0.8">'
            f"<title>{escape(told)}</title></circle>"
        )
    for i, op in enumerate(ops):
        y = TOP + 18 + 18 * i
        yield f'<circle cx="{LEFT + 16}" cy="{y - 4}" r="4.5" fill="{COLOURS[i % len(COLOURS)]}"/>'
        yield _text(LEFT + 28, y, op)


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
