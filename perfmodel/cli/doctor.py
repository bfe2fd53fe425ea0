"""``perfmodel doctor``: what is installed, what is found, what is missing and how to get it."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib import metadata, util
from typing import Any

from perfmodel.cli._output import Csv, Json, Specs, emit
from perfmodel.report.tables import Column, Table

EXTRAS = {
    "dash": ("streamlit", "plotly"),
    "host": ("numba",),
    "gpu": ("cupy", "ml_dtypes"),
    "edge": ("onnx", "tflite"),
    "hub": ("huggingface_hub",),
    "dask": ("distributed",),
    "docs": ("mkdocs", "material", "mkdocstrings"),
}
"""extra -> the modules it brings; looked for, never imported."""

CORE = ("numpy", "scipy", "pandas", "pydantic", "typer", "rich")
_NVIDIA_QUERY = ("name", "driver_version", "memory.total")


def command(json: Json = False, csv: Csv = False, specs: Specs = None) -> int:
    """Show versions, extras (or how to install them), spec folders and the devices seen."""
    del specs  # in use already: the option's callback saw to it
    facts = examine()
    rows = tuple({"what": what, "found": found} for what, found in _lines(facts))
    columns = (
        Column(key="what", title="what", right=False),
        Column(key="found", title="found", right=False),
    )
    table = Table(title="perfmodel doctor", columns=columns, rows=rows)
    emit(facts, [table], as_json=json, as_csv=csv)
    return 0


def examine() -> dict[str, Any]:
    """Everything the verb shows, as JSON-ready data."""
    return {
        "perfmodel": _version("perfmodel"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in CORE},
        "extras": {extra: _extra(extra, modules) for extra, modules in EXTRAS.items()},
        "specs": _specs(),
        "gpus": _gpus(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _extra(extra: str, modules: tuple[str, ...]) -> dict[str, Any]:
    missing = [m for m in modules if util.find_spec(m) is None]
    return {
        "installed": not missing,
        "install": f"pip install 'perfmodel[{extra}]'" if missing else None,
    }


def _specs() -> dict[str, Any]:
    from perfmodel import catalog

    return {
        "folders": [str(folder) for folder in catalog.spec_dirs()],
        "devices": len(catalog.names("hw")),
        "models": len(catalog.names("models")),
        "calibrated": _calibration_dates(),
    }


def _calibration_dates() -> dict[str, str | None]:
    """Parameter file -> the date it was fitted; None where its values are assumed."""
    from perfmodel import catalog

    dates: dict[str, str | None] = {}
    for name in catalog.names("calibration"):
        fit = catalog.read_toml(catalog.find("calibration", name)).get("fit", {})
        dates[name] = str(fit["date"]) if "date" in fit else None
    return dates


def _dated(dates: dict[str, str | None]) -> str:
    """The parameter files by date, the latest first, those that are assumed last."""
    order = sorted({d for d in dates.values() if d is not None}, reverse=True)
    groups = [(f"fitted {date}", date) for date in order] + [("assumed", None)]
    told = [(head, [n for n, d in dates.items() if d == date]) for head, date in groups]
    return "; ".join(f"{head}: {', '.join(names)}" for head, names in told if names) or "none"


def _gpus() -> list[dict[str, str]]:
    """The GPUs that NVIDIA's own tool lists; none where the tool is absent or fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, f"--query-gpu={','.join(_NVIDIA_QUERY)}", "--format=csv,noheader"]
    try:
        listed = subprocess.run(  # noqa: S603 - a fixed command line
            query, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ") for line in listed.stdout.splitlines() if line.strip()]
    return [dict(zip(_NVIDIA_QUERY, row, strict=False)) for row in rows]


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    specs = facts["specs"]
    return [
        ("perfmodel", facts["perfmodel"] or "not installed (run from its source tree)"),
        ("python", f"{facts['python']} on {facts['platform']}"),
        *((name, version or "missing") for name, version in facts["packages"].items()),
        *(
            (f"extra {extra}", "installed" if state["installed"] else state["install"])
            for extra, state in facts["extras"].items()
        ),
        ("spec folders", ", ".join(specs["folders"])),
        ("specs", f"{specs['devices']} devices, {specs['models']} models"),
        ("calibration", _dated(specs["calibrated"])),
        ("GPUs", ", ".join(" ".join(g.values()) for g in facts["gpus"]) or "none seen"),
    ]
