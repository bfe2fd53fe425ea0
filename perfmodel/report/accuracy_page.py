"""``docs/accuracy.md``: how far to trust the predictions, written from files and fits alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from perfmodel import catalog
from perfmodel.report.accuracy import LEAST_COVERAGE, MOST_COVERAGE
from perfmodel.report.shown import percent
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.validation import FileReport
from perfmodel.validation.baseline import Compared, compare

LARGE = 200
"""Rows from which an interval's coverage is held to 85 to 95 %."""

SPLITS = ("shape", "model", "file", "device")
"""Ways of holding rows back, mildest first."""

HEAD = """# Accuracy

How far predictions lie from measurements. `factor` is exp(mean |ln(predicted / measured)|): 1.10
is "typically within 10 %", the same for too much and too little; latency and throughput are never
pooled. `plain roofline` is the lower bound (throughputs: the table's own upper bound) taken as a
prediction; `two parameters` is roofline / efficiency + t0, one pair per class for all devices,
fitted on the very rows it is scored on. Rows that their table calls doubtful are left out of the
first table. Everything below is written by

    perfmodel validate FILE... --markdown docs/accuracy.md

from these files: {files}.
"""


def accuracy_page(reports: Sequence[FileReport]) -> str:
    """The whole page as Markdown."""
    files = ", ".join(f"`{r.file}` ({r.rows})" for r in reports)
    parts = [
        HEAD.format(files=files),
        "\n".join(_measured(compare(reports))),
        "\n".join(_held_back()),
        "\n".join(_implementations()),
        "\n".join(_coverage()),
        "\n".join(_served()),
        "\n".join(_transfers()),
        "\n".join(_uncovered(reports)),
    ]
    return "\n\n".join(p.strip() for p in parts) + "\n"


def _measured(rows: Sequence[Compared]) -> Iterator[str]:
    yield "## By class and device"
    yield ""
    yield "Including rows that the fits have seen; the next section has those they have not."
    yield ""
    yield from _table(
        ("class", "device", "rows", "factor", "MAPE", "p90", "in interval", "plain roofline",
         "two parameters"),
        (
            (
                _named(r), r.device, r.errors.rows, _f(r.errors.factor), percent(r.errors.mape),
                percent(r.errors.p90_ape), _covered(r), _f(r.roofline), _f(r.two_parameters),
            )
            for r in rows
        ),
    )  # fmt: skip


def _named(row: Compared) -> str:
    """The class; energies are told apart from times."""
    return f"{row.kernel_class} energy" if row.quantity == "energy" else row.kernel_class


def _covered(row: Compared) -> str:
    """Coverage; marked where enough rows put it outside 85 to 95 %."""
    held = LEAST_COVERAGE <= row.errors.coverage <= MOST_COVERAGE
    outside = row.errors.rows >= LARGE and not held
    return percent(row.errors.coverage) + (" (!)" if outside else "")


def _held_back() -> Iterator[str]:
    yield "## Rows that a fit had not seen"
    yield ""
    yield "Factor with a fit that never saw the row's shape, model, file or device; the interval"
    yield "is the 90 % conformal one of the hardest of these that the data allow."
    yield ""
    yield from _table(
        ("class", "rows", *(f"by {s}" for s in SPLITS), "interval", "width"),
        (_held_row(name, table) for name, table in _classes()),
    )


def _held_row(name: str, table: Mapping[str, Any]) -> tuple[Any, ...]:
    held, residuals = table.get("held_back", {}), table["residuals"]
    low, high = float(residuals["low"]), float(residuals["high"])
    factors = (_f(held[s]["factor"]) if s in held else "" for s in SPLITS)
    width = f"x{high / low:.2f}"
    return name, table["fit"]["rows"], *factors, f"{low:.2f} .. {high:.2f}", width


def _implementations() -> Iterator[str]:
    yield "## Known implementations"
    yield ""
    yield "Predicted by parameters of their own (`kernel=`), rows held back as above; errors are of"
    yield "rows whose shape the fit had not seen."
    yield ""
    titles = ("class", "implementation", "devices", "rows", "fitted", *(f"by {s}" for s in SPLITS),
              "median error", "p90")  # fmt: skip
    yield from _table(
        titles,
        (
            _implementation_row(name, kernel, entry)
            for name, table in _classes()
            for kernel, entry in table.get("kernels", {}).items()
        ),
    )


def _implementation_row(name: str, kernel: str, entry: Mapping[str, Any]) -> tuple[Any, ...]:
    held, fit = entry.get("held_back", {}), entry["fit"]
    shape = held.get("shape", {})
    factors = (_f(held[s]["factor"]) if s in held else "" for s in SPLITS)
    errors = (percent(shape[k]) if k in shape else "" for k in ("median_ape", "p90_ape"))
    devices = ", ".join(fit["devices"])
    return name, f"`{kernel}`", devices, fit["rows"], _f(fit["factor"]), *factors, *errors


def _coverage() -> Iterator[str]:
    yield "## Do the intervals hold"
    yield ""
    yield "Share of rows inside a 90 % interval that was made without them, by what was held back."
    yield ""
    yield from _table(
        ("class", "device", *(f"by {s}" for s in SPLITS)),
        (row for name, table in _classes() for row in _coverage_rows(name, table)),
    )


def _coverage_rows(name: str, table: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    told = {s: t.get("covered", {}) for s, t in table.get("held_back", {}).items()}
    for device in sorted({d for shares in told.values() for d in shares}):
        shares = (told.get(s, {}).get(device) for s in SPLITS)
        yield name, device, *("" if s is None else percent(s) for s in shares)


def _served() -> Iterator[str]:
    table = _host()
    if table is None:
        return
    yield "## Served models held back"
    yield ""
    held = table["held_back"]
    scenarios = list(dict.fromkeys(s for split in held.values() for s in split))
    yield from _table(
        ("scenario", *(f"by {s}" for s in held)),
        ((name, *(_f(split.get(name)) for split in held.values())) for name in scenarios),
    )
    inside = table.get("covered", {})
    if inside:
        yield ""
        yield "Share of them inside the 90 % interval that answers carry:"
        yield ""
        yield from _table(
            ("scenario", *(f"by {s}" for s in inside)),
            ((n, *(percent(split[n]) for split in inside.values())) for n in scenarios),
        )


def _transfers() -> Iterator[str]:
    yield "## Which transfers have data behind them"
    yield ""
    pooled = [(n, t) for n, t in _classes() if "device" in t.get("held_back", {})]
    alone = [(n, t) for n, t in _classes() if "device" not in t.get("held_back", {})]
    for name, table in pooled:
        devices = ", ".join(table["fit"]["devices"])
        told = _f(table["held_back"]["device"]["factor"])
        yield f"- `{name}`: each of {devices} predicted from the others, factor {told}."
    for name, table in alone:
        devices = ", ".join(table["fit"]["devices"])
        yield f"- `{name}`: measured on {devices} only; any other device is an extrapolation."
    yield ""
    yield "On devices of other vendors parameters are carried over and the interval is assumed."


def _uncovered(reports: Sequence[FileReport]) -> Iterator[str]:
    yield "## What the model does not cover"
    yield ""
    fitted = {name for name, _ in _classes()}
    for name in CLASS_MODELS:
        if name not in fitted:
            yield f"- `{name}`: no measured rows; answers are analytic."
    for name, table in _classes():
        loose = [k for k, p in table["parameters"].items() if not p.get("identified", True)]
        if loose:
            yield f"- `{name}`: the data do not identify {', '.join(loose)}."
    for report in reports:
        for reason, count in report.refused_by_reason.items():
            yield f"- `{report.file}`: {count} rows refused: {reason}."


def _classes() -> list[tuple[str, dict[str, Any]]]:
    """Every fitted class with its file, in the order of the classes."""
    names = set(catalog.names("calibration"))
    known = [name for name in CLASS_MODELS if name in names]
    return [(name, catalog.read_toml(catalog.find("calibration", name))) for name in known]


def _host() -> dict[str, Any] | None:
    if "host" not in catalog.names("calibration"):
        return None
    return catalog.read_toml(catalog.find("calibration", "host"))


def _table(titles: Sequence[str], rows: Iterator[tuple[Any, ...]] | Any) -> Iterator[str]:
    yield "| " + " | ".join(titles) + " |"
    yield "|" + "---|" * len(titles)
    for row in rows:
        yield "| " + " | ".join(str(cell) for cell in row) + " |"


def _f(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value < 10 else f"{value:.3g}"
