"""Device code on the host: built with g++, run on NumPy arrays."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from refkernels._sources import data_dir

EMULATOR = Path(__file__).with_name("emulator")
FLAGS = ("-std=c++17", "-O1", "-w", "-shared", "-fPIC")


class OnHost:
    """A NumPy array where a launcher expects one in device memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.data = type("Pointer", (), {"ptr": array.ctypes.data})
        self.__cuda_array_interface__ = array.__array_interface__

    def __getattr__(self, name: str):
        return getattr(self.array, name)


def host_map(x, box, *, shape, strides):
    """What the emulator reads as a TMA descriptor: see its ``types.cuh``."""
    assert len(box) == 4
    assert strides[-1] == 2
    assert np.prod(box[-1:]) * 2 <= 128
    encoded = np.zeros(16, np.uint64)
    encoded[0] = x.data.ptr
    encoded[1:5] = shape[::-1]
    encoded[5:8] = strides[-2::-1]
    encoded[8:12] = box[::-1]
    return encoded


class Emulated:
    """One kernel, compiled for the host with one set of defines."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.shared_bytes = int(library.shared_bytes_used())
        self.threads = int(library.block_threads())

    def run(self, grid, params, maps=(), *, backwards=False) -> None:
        assert self.library.problem_bytes() == params.dtype.itemsize
        raw = np.zeros(16 * len(maps) + 8, np.uint64)
        start = -raw.ctypes.data % 64 // 8  # descriptors lie at multiples of 64 bytes
        encoded = raw[start : start + 16 * len(maps)]
        for i, one in enumerate(maps):
            encoded[16 * i : 16 * i + 16] = one
        dims = (ctypes.c_int * 3)(*(*grid, 1, 1)[:3])
        pointers = (ctypes.c_void_p(x.ctypes.data) for x in (params, encoded))
        self.library.run(dims, self.threads, *pointers, int(backwards))


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Compiles C++ to a shared library; skips where there is no g++."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("host")
    built = {}

    def run(source: Path, *options: str) -> ctypes.CDLL:
        key = (source, *options)
        if key not in built:
            target = folder / f"{len(built)}.so"
            done = subprocess.run(
                [compiler, *FLAGS, *options, str(source), "-o", str(target)],
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr[-3000:]
            built[key] = ctypes.CDLL(str(target))
        return built[key]

    return run


@pytest.fixture(scope="session")
def emulate(build):
    """``emulate(source, entry, maps, defines)``: the kernel as the host runs it."""

    def make(source: str, entry: str, maps: int, defines) -> Emulated:
        options = [f"-I{EMULATOR}", f"-I{data_dir('cuda')}"]
        options += [f'-DSOURCE="{source}"', f"-DENTRY={entry}", f"-DMAPS={maps}"]
        options += [f"-D{name}={value}" for name, value in defines.items()]
        return Emulated(build(EMULATOR / "launch.cpp", *options))

    return make


@pytest.fixture
def on_host():
    """Wraps a NumPy array for a launcher."""
    return OnHost


@pytest.fixture
def tile_map():
    """Encodes a descriptor for the emulator."""
    return host_map
