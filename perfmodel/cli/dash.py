"""``perfmodel dash``: the explorer in a browser, on this machine alone unless told otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Annotated

import typer

from perfmodel.cli._options import count
from perfmodel.cli._output import Specs
from perfmodel.errors import BadValue, MissingExtra

MODULES = ("streamlit", "plotly")
PORTS = 65535


def command(
    port: Annotated[str, typer.Option("--port", help="The port to listen on.")] = "8501",
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; 0.0.0.0 opens it to others.")
    ] = "127.0.0.1",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser window.")
    ] = True,
    specs: Specs = None,
) -> int:
    """Open the explorer in a browser. It binds to localhost and sends nothing anywhere."""
    absent = [m for m in MODULES if util.find_spec(m) is None]
    if absent:
        msg = f"the explorer needs {' and '.join(absent)}"
        raise MissingExtra(msg, fix="pip install 'perfmodel[dash]'")
    return subprocess.call(  # noqa: S603 - this Python, our own application
        serving(_port(port), host, browser=browser), env=_environment(specs)
    )


def serving(port: int, host: str = "127.0.0.1", *, browser: bool = False) -> list[str]:
    """The command that serves the explorer, from a wheel, an editable install or a repository.

    Raises:
        MissingFile: the package was installed without its pages.
    """
    from perfmodel.catalog import shipped_dir

    options = {
        "server.address": host,
        "server.port": port,
        "server.headless": not browser,
        "server.maxUploadSize": 8,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "global.disableWidgetStateDuplicationWarning": True,
        "runner.postScriptGC": False,
    }
    flags = [f"--{name}={str(value).lower()}" for name, value in options.items()]
    app = shipped_dir("dashboards") / "server.py"
    return [sys.executable, "-m", "streamlit", "run", str(app), *flags]


def _port(text: str) -> int:
    port = count(text, "--port")
    if not 1 <= port <= PORTS:
        msg = f"must lie in 1..{PORTS}, got {port}"
        raise BadValue(msg, field="--port", fix="--port 8501")
    return port


def _environment(specs: list[Path] | None) -> dict[str, str]:
    """This process's, with the folders of ``--specs`` and this very package to be found."""
    package = str(Path(__file__).resolve().parents[2])
    found = {"PYTHONPATH": [package], "PERFMODEL_SPECS": [str(s.resolve()) for s in specs or []]}
    return os.environ | {
        name: os.pathsep.join([*first, *filter(None, [os.environ.get(name)])])
        for name, first in found.items()
    }
