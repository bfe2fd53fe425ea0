"""Options, hypothesis profiles and fixtures that every test may use."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

if importlib.util.find_spec("hypothesis"):  # a machine that only times kernels may lack it
    from hypothesis import HealthCheck, settings

    off_the_clock = [HealthCheck.too_slow]
    settings.register_profile(
        "fast",
        derandomize=True,
        max_examples=50,
        deadline=None,
        suppress_health_check=off_the_clock,
    )
    settings.register_profile(
        "check", max_examples=500, deadline=None, suppress_health_check=off_the_clock
    )
    settings.load_profile("fast")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-gpu",
        action="store_true",
        help="fail, instead of skip, the tests that need a CUDA device where there is none",
    )
    parser.addoption(
        "--data",
        metavar="DIR",
        default=os.environ.get("PERFMODEL_DATA"),
        help="the folder of measured tables (default: PERFMODEL_DATA)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Benchmarks run only when asked for: ``pytest tests/bench --benchmark-only``."""
    if not config.getoption("benchmark_only"):
        config.option.benchmark_skip = True


def pytest_collection_finish() -> None:
    """Load every module before the first test.

    Hypothesis also draws the constants found in the project's loaded modules; with all of them
    loaded, the examples do not depend on which tests ran before, or on which worker.
    """
    for package in ("perfmodel", "refkernels"):
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if not module.name.endswith("__main__"):
                with contextlib.suppress(ImportError):  # an optional extra is not installed
                    importlib.import_module(module.name)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None or has_gpu():
        return
    if item.config.getoption("--require-gpu"):
        pytest.fail("--require-gpu: no CUDA device is available", pytrace=False)
    pytest.skip("needs a CUDA device and: pip install 'perfmodel[gpu]'")


@cache
def has_gpu() -> bool:
    """Whether CuPy is installed and sees a device."""
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    return bool(cupy.cuda.is_available())


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir(pytestconfig: pytest.Config) -> Path:
    """The folder of measured tables; skips where none was named."""
    named = pytestconfig.getoption("--data")
    if not named:
        pytest.skip("needs measured tables: --data DIR or PERFMODEL_DATA")
    if not Path(named).is_dir():
        pytest.fail(f"--data: no such folder: {named}", pytrace=False)
    return Path(named)


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs this Python with the given arguments from the repository, as a user's process would."""

    def run(*args: str, **options: object) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
        return subprocess.run(
            [sys.executable, *args],
            env=os.environ | {"PYTHONPATH": path},
            cwd=ROOT,
            capture_output=True,
            text=True,
            **options,
        )

    return run
