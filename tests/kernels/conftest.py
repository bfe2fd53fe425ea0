"""Device code on the host: built with g++, run on NumPy arrays."""

from __future__ import annotations

import ctypes

import pytest

from refkernels._sources import source_digest

from . import emulator


@pytest.fixture(scope="session")
def build():
    """Compiles C++ to a shared library; skips where there is no g++."""

    def run(source, *options) -> ctypes.CDLL:
        identity = source_digest(source)
        return ctypes.CDLL(
            str(emulator.build(source.read_text(), "-O1", *options, identity=identity))
        )

    return run


@pytest.fixture(scope="session")
def emulate():
    """``emulate(source, entry, maps, defines)``: the kernel as the host runs it."""

    def make(source, entry, maps, defines):
        return emulator.Kernel(source, entry, maps, defines, sized=True)

    return make


@pytest.fixture
def on_host():
    """Wraps a NumPy array for a launcher."""
    return emulator.HostArray


@pytest.fixture
def tile_map():
    """Encodes a descriptor for the emulator."""
    return emulator.tile_map
