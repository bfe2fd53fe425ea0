"""Runs this repository's CUDA kernels on the processor: see ``simt.hpp``."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from refkernels._launch import params_struct
from refkernels._sources import data_dir, kernel_source

HERE = Path(__file__).parent
FLAGS = ("-std=c++20", "-O1", "-shared", "-fPIC", "-Wno-unknown-pragmas", "-fno-strict-aliasing")


@functools.cache
def library(source: str, entry: str, defines: tuple[tuple[str, object], ...]) -> ctypes.CDLL:
    """``source`` compiled for the processor, with ``emulate`` to run its kernel ``entry``."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    folder = Path(tempfile.mkdtemp(prefix="simt-"))
    wrapper = folder / "wrapper.cpp"
    wrapper.write_text(
        f'#include "{kernel_source(source)}"\n'
        'extern "C" int emulate(const void* p, int x, int y, int z, int threads, int order) {\n'
        f"  const auto run = [&] {{ {entry}(*static_cast<const Problem*>(p)); }};\n"
        "  return simt::launch(run, x, y, z, threads, order);\n}\n"
    )
    binary = folder / "kernel.so"
    includes = (f"-I{HERE}", f"-I{data_dir('cuda')}")
    words = [f"-D{name}={value}" for name, value in defines]
    command = ["g++", *FLAGS, *includes, *words, str(wrapper), "-o", str(binary)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    loaded = ctypes.CDLL(str(binary))
    shutil.rmtree(folder)
    return loaded


def address(x: np.ndarray | None) -> np.uint64:
    """What the device would be given: the address, or null."""
    return np.uint64(0 if x is None else x.ctypes.data)


def emulate(source, entry, grid, threads, *, defines=(), order=0, **fields):
    """Run a kernel; ``fields`` are its parameter struct's, arrays by address."""
    arrays = {k: address(v) if v is None or isinstance(v, np.ndarray) else v for k, v in fields.items()}
    params = params_struct(**arrays)
    run = library(source, entry, tuple(sorted(dict(defines).items()))).emulate
    failed = run(ctypes.c_void_p(params.ctypes.data), *grid, threads, order)
    assert failed == 0, "a barrier was never completed"
