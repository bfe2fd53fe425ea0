"""Runs this repository's CUDA kernels on the processor: see ``simt.hpp``.

:func:`install` puts NumPy in CuPy's place and this emulation in the launcher's, so that the code
that plans launches, poisons outputs and holds results to the oracle is the same as on a device.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from refkernels import _plan
from refkernels._launch import STORAGE, params_struct
from refkernels._sources import data_dir, kernel_source, read_spec, source_digest
from refkernels.delta_rule import device as delta_device
from refkernels.gla import device as gla_device
from refkernels.selective_scan import device as scan_device
from refkernels.ssd import device as ssd_device

HERE = Path(__file__).parent
FLAGS = ("-std=c++20", "-O1", "-shared", "-fPIC", "-Wno-unknown-pragmas", "-fno-strict-aliasing")
DEVICES = (delta_device, gla_device, scan_device, ssd_device)
SMS = 4


@functools.cache
def library(source: str, entry: str, defines: tuple[tuple[str, object], ...]) -> ctypes.CDLL:
    """``source`` compiled for the processor, with ``emulate`` to run its kernel ``entry``.

    Compiled once per content, also for test processes side by side.
    """
    code = (
        f'#include "{kernel_source(source)}"\n'
        'extern "C" int emulate(const void* p, int x, int y, int z, int threads, int smem,\n'
        "                       int order) {\n"
        f"  const auto run = [&] {{ {entry}(*static_cast<const Problem*>(p)); }};\n"
        "  return simt::launch(run, {x, y, z}, threads, smem, order);\n}\n"
    )
    words = [*FLAGS, *(f"-D{name}={value}" for name, value in defines)]
    ours = "".join(path.read_text() for path in sorted(HERE.rglob("*.[hc]*")) if path.is_file())
    identity = "".join([code, *words, source_digest(kernel_source(source)), ours])
    folder = Path(tempfile.gettempdir()) / f"simt-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    binary = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.so"
    if not binary.is_file():
        partial = binary.with_suffix(f".{os.getpid()}")
        command = ["g++", "-x", "c++", *words, f"-I{HERE}", f"-I{data_dir('cuda')}", "-"]
        done = subprocess.run(
            [*command, "-o", str(partial)], input=code, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        partial.replace(binary)
    return ctypes.CDLL(str(binary))


class Emulated:
    """Stands in for ``_plan.Launch``: the same arguments, run by the emulation."""

    order = 0

    def __init__(self, source, entry, grid, fields, defines, smem=0, maps=(), threads=None):
        assert not maps, "descriptors are the other emulation's"
        addresses = {
            name: np.uint64(0 if x is None else x.ctypes.data)
            if x is None or isinstance(x, np.ndarray)
            else x
            for name, x in fields.items()
        }
        self.params, self.grid, self.smem = params_struct(**addresses), grid, smem
        self.threads = threads or read_spec(kernel_source(source)).threads
        self.run = library(source, entry, tuple(sorted(defines.items()))).emulate

    def __call__(self):
        pointer = ctypes.c_void_p(self.params.ctypes.data)
        failed = self.run(pointer, *self.grid, self.threads, self.smem, Emulated.order)
        assert failed == 0, "a barrier was never completed, or shared memory was overrun"


def checked(x, name, *, dtype, shape, alignment=16):
    """As ``as_device_array`` for NumPy arrays."""
    assert x.dtype == STORAGE[dtype], name
    assert x.flags.c_contiguous, name
    assert tuple(x.shape) == tuple(shape), name
    return x


def install(monkeypatch, order=0):
    """Device code of the mixers runs on the processor until the test ends."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    monkeypatch.setitem(sys.modules, "cupy", np)
    monkeypatch.setattr(Emulated, "order", order)
    monkeypatch.setattr(_plan.Plan, "__call__", lambda plan: [run() for run in plan.launches])
    for module in DEVICES:
        for name, stand_in in (
            ("bound_launch", Emulated),
            ("as_device_array", checked),
            ("sm_count", lambda: SMS),
            ("device_capability", lambda: "80"),
        ):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, stand_in)
