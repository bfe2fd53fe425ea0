"""Blocks per multiprocessor from a resource report, without a device."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from perfmodel.errors import UnknownName
from refkernels._compile import KernelResources
from refkernels._sources import data_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchLimits:
    """Per-multiprocessor limits of one compute capability (``specs/cuda_arch.toml``)."""

    registers: int
    threads: int
    blocks: int
    smem_bytes: int
    smem_block_bytes: int
    smem_reserved_bytes: int
    register_unit: int


@cache
def _limits() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((data_dir("specs") / "cuda_arch.toml").read_text())
    found: dict[str, Any] = table["arch"]
    return found


def known_archs() -> tuple[str, ...]:
    """Architectures whose limits are known, as ``sm_90``."""
    return tuple(_limits())


@cache
def arch_limits(arch: str) -> ArchLimits:
    """The limits of ``sm_90a`` (suffix ignored); raises UnknownName."""
    limits = _limits()
    name = arch.rstrip("af")
    if name not in limits:
        raise UnknownName("architecture", arch, limits)
    return ArchLimits(**limits[name])


def blocks_per_sm(
    kernel: KernelResources, *, arch: str, threads: int, dynamic_smem: int = 0
) -> int:
    """Resident blocks of ``kernel`` on one multiprocessor; 0 means that it cannot launch.

    Registers are handed out per warp in units of ``register_unit``; a block's shared memory has
    ``smem_reserved_bytes`` added by the system (CUDA C++ Programming Guide, compute capabilities).
    """
    limits = arch_limits(arch)
    warps = -(-threads // 32)
    smem = kernel.static_smem_bytes + dynamic_smem
    if smem > limits.smem_block_bytes:
        return 0
    per_warp = -(-kernel.registers * 32 // limits.register_unit) * limits.register_unit
    by_registers = limits.registers // (per_warp * warps)
    by_smem = limits.smem_bytes // (smem + limits.smem_reserved_bytes)
    return min(limits.blocks, limits.threads // (warps * 32), by_registers, by_smem)
