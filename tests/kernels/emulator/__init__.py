"""Runs this repository's CUDA kernels on the processor: see ``block.hpp``.

:class:`Kernel` is a ``.cu`` file built by g++ as it is, with the headers below ``common/`` in place
of those that wrap PTX. :func:`install` puts NumPy in CuPy's place and the emulation in the
launcher's, so that the code that plans launches, poisons outputs and holds results to the oracle is
the same as on a device.
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

from refkernels import _matrix_state, _plan
from refkernels._launch import STORAGE, params_struct
from refkernels._sources import data_dir, kernel_source, read_spec, source_digest
from refkernels.delta_rule import device as delta_device
from refkernels.gla import device as gla_device
from refkernels.selective_scan import device as scan_device
from refkernels.ssd import device as ssd_device

HERE = Path(__file__).parent
FLAGS = (
    "-std=c++20", "-fPIC", "-fno-strict-aliasing", "-fno-gnu-unique", "-U_FORTIFY_SOURCE",
    "-Wno-unknown-pragmas",
)  # fmt: skip
LAUNCHERS = (_matrix_state, delta_device, gla_device, scan_device, ssd_device)
SMS = 4


class EmulationError(AssertionError):
    """A kernel broke a rule of the device."""


# ---------------------------------------------------------------- compiling


@functools.cache
def build(code: str, *options: str, suffix: str = ".so", identity: str = "") -> Path:
    """``code`` compiled by g++, once per content, also for test processes side by side.

    ``identity`` stands for what the code includes.
    """
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    words = [*FLAGS, "-shared" if suffix == ".so" else "-c", *options]
    key = hashlib.sha256("\n".join([code, identity, *words]).encode()).hexdigest()[:20]
    folder = Path(tempfile.gettempdir()) / f"emulator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"{key}{suffix}"
    if not target.is_file():
        partial = target.with_suffix(f".{os.getpid()}")
        command = ["g++", "-x", "c++", "-", *words, "-o", str(partial)]
        done = subprocess.run(command, input=code, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        partial.replace(target)
    return target


@functools.cache
def _headers() -> str:
    return "".join(path.read_text() for path in sorted(HERE.rglob("*.[hc]*")) if path.is_file())


def _runtime() -> list[str]:
    """The emulator itself, compiled once for all kernels."""
    return [
        str(build((HERE / name).read_text(), "-O2", f"-I{HERE}", suffix=".o", identity=_headers()))
        for name in ("block.cpp", "copies.cpp", "products.cpp")
    ]


# ---------------------------------------------------------------- kernels


class _Launch(ctypes.Structure):
    """``emulator::Launch``."""

    _fields_ = (
        ("grid", ctypes.c_int * 3),
        ("threads", ctypes.c_int),
        ("smem", ctypes.c_int),
        ("cluster", ctypes.c_int),
        ("threads_down", ctypes.c_int),
        ("blocks_down", ctypes.c_int),
    )


class Kernel:
    """One kernel with one set of defines; ``maps`` counts its TMA descriptors.

    ``sized`` asks for what the source says of itself: ``shared_bytes`` and ``threads``.
    """

    def __init__(self, source, entry, maps=0, defines=None, *, sized=False, text=None):
        arguments = "".join(f", maps[{i}]" for i in range(maps))
        body = f'#include "{kernel_source(source)}"' if text is None else text
        code = (
            f'#include "cuda.hpp"\n{body}\n'
            "static void body(const void* p, const TensorMap* maps) {\n"
            f"    {entry}(*static_cast<const Problem*>(p){arguments});\n}}\n"
            'extern "C" const char* run(const emulator::Launch* l, const void* p,\n'
            "                           const TensorMap* maps) {\n"
            "    return emulator::launch(*l, body, p, maps);\n}\n"
            'extern "C" int problem_bytes() { return sizeof(Problem); }\n'
        )
        if sized:
            code += 'extern "C" int shared_used() { return sizeof(Shared); }\n'
            code += 'extern "C" int threads_of() { return kThreads; }\n'
        words = [f"-D{name}={value}" for name, value in sorted((defines or {}).items())]
        words += [f"-I{HERE}", f"-I{data_dir('cuda')}", "-x", "none", *_runtime()]
        digest, self.cluster = "", (defines or {}).get("CLUSTER", 1)
        if text is None:
            path = kernel_source(source)
            digest = source_digest(path)
            self.cluster = (defines or {}).get("CLUSTER", read_spec(path).cluster)
        self.library = ctypes.CDLL(str(build(code, "-O1", *words, identity=_headers() + digest)))
        self.library.run.restype = ctypes.c_char_p
        self.shared_bytes = self.library.shared_used() if sized else None
        self.threads = self.library.threads_of() if sized else None

    def run(
        self, grid, params, maps=(), *, threads=None, smem=None, downwards=False, backwards=False
    ):
        """Launch and finish; ``downwards`` runs threads from the last, ``backwards`` blocks.

        Raises:
            EmulationError: what the kernel did wrong, and in which block.
        """
        assert self.library.problem_bytes() == params.dtype.itemsize
        launch = _Launch(
            (*grid, 1, 1)[:3],
            threads or self.threads,
            self.shared_bytes if smem is None else smem,
            self.cluster,
            downwards,
            backwards,
        )
        raw = np.zeros(16 * len(maps) + 8, np.uint64)
        start = -raw.ctypes.data % 64 // 8  # descriptors lie at multiples of 64 bytes
        encoded = raw[start : start + 16 * len(maps)]
        for i, one in enumerate(maps):
            encoded[16 * i : 16 * i + 16] = one
        pointers = (ctypes.c_void_p(x.ctypes.data) for x in (params, encoded))
        wrong = self.library.run(ctypes.byref(launch), *pointers)
        if wrong:
            raise EmulationError(wrong.decode())


def tile_map(x, box, *, shape=None, strides=None, swizzle=128, **_ignored):
    """What stands for a TMA descriptor, innermost axis first: see ``Layout`` in ``copies.cpp``."""
    sizes, steps = shape or x.shape, strides or x.strides
    rank, element = len(box), steps[-1]
    assert len(sizes) == len(steps) == rank <= 5
    assert element == x.dtype.itemsize
    assert not swizzle or box[-1] * element <= swizzle
    assert all(step % 16 == 0 for step in steps[:-1])
    encoded = np.ones(16, np.uint64)
    encoded[0] = x.ctypes.data
    encoded[1] = rank | element << 8 | {0: 0, 32: 1, 64: 2, 128: 3}[swizzle] << 16
    encoded[2 : 2 + rank] = sizes[::-1]
    encoded[7 : 6 + rank] = steps[-2::-1]
    encoded[11 : 11 + rank] = box[::-1]
    return encoded


# ---------------------------------------------------------------- in the launcher's place


class HostArray:
    """A NumPy array where a launcher expects one in device memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.data = type("Pointer", (), {"ptr": array.ctypes.data})
        self.__cuda_array_interface__ = array.__array_interface__

    def __getattr__(self, name: str):
        return getattr(self.array, name)


class Launched:
    """Stands in for ``_plan.Launch``: the same arguments, run by the emulation."""

    downwards = False

    def __init__(self, source, entry, grid, fields, defines, smem=0, maps=(), threads=None):
        addresses = {
            name: np.uint64(0 if x is None else x.ctypes.data)
            if x is None or isinstance(x, np.ndarray)
            else x
            for name, x in fields.items()
        }
        self.params, self.grid, self.maps, self.smem = params_struct(**addresses), grid, maps, smem
        self.threads = threads or read_spec(kernel_source(source)).threads
        self.kernel = Kernel(source, entry, len(maps), defines, sized=bool(maps))
        if maps:
            assert self.kernel.shared_bytes <= smem <= 232448
            assert self.kernel.threads == self.threads

    def __call__(self):
        self.kernel.run(
            self.grid, self.params, self.maps, threads=self.threads, smem=self.smem,
            downwards=self.downwards,
        )  # fmt: skip


def checked(x, name, *, dtype, shape, alignment=16):
    """As ``as_device_array`` for NumPy arrays."""
    assert x.dtype == STORAGE[dtype], name
    assert x.flags.c_contiguous, name
    assert tuple(x.shape) == tuple(shape), name
    return x


def install(monkeypatch, downwards=False):
    """Device code of the mixers runs on the processor until the test ends."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    monkeypatch.setitem(sys.modules, "cupy", np)
    monkeypatch.setattr(Launched, "downwards", bool(downwards))
    monkeypatch.setattr(_plan.Plan, "__call__", lambda plan: [run() for run in plan.launches])
    for module in LAUNCHERS:
        for name, stand_in in (
            ("bound_launch", Launched),
            ("as_device_array", checked),
            ("tensor_map", tile_map),
            ("sm_count", lambda: SMS),
            ("device_capability", lambda: "80"),
        ):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, stand_in)
