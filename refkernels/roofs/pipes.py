"""Rates of the arithmetic and tensor pipes (``arithmetic.cu``, ``tensor*.cu``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refkernels._launch import load_kernel, params_struct
from refkernels.roofs.operands import tensor_operands
from refkernels.roofs.rig import Rig, Roof


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipe:
    """One instruction's roof: its unit and how many of them a lane's instruction counts as."""

    unit: str
    per_lane: int


ARITHMETIC: dict[str, Pipe] = {
    **{f"fma_{t}": Pipe(unit="FLOP/s", per_lane=2) for t in ("f32", "f64")},
    **{f"fma_{t}": Pipe(unit="FLOP/s", per_lane=4) for t in ("f16x2", "bf16x2")},
    **{f"{op}_f32": Pipe(unit="FLOP/s", per_lane=1) for op in ("add", "max")},
    "mad_s32": Pipe(unit="op/s", per_lane=2),
    "dp4a_s32": Pipe(unit="op/s", per_lane=8),
    "lop3_b32": Pipe(unit="op/s", per_lane=1),
    **{f"{op}_f32": Pipe(unit="op/s", per_lane=1) for op in ("ex2", "lg2", "rcp", "rsqrt", "tanh")},
    **{
        f"{op}_{t}": Pipe(unit="op/s", per_lane=2)
        for op in ("ex2", "tanh")
        for t in ("f16x2", "bf16x2")
    },
    "cvt_f32_s32": Pipe(unit="op/s", per_lane=1),
    "cvt_bf16x2_f32": Pipe(unit="op/s", per_lane=2),
    "shuffle_b32": Pipe(unit="op/s", per_lane=1),
}
"""Kernels of ``arithmetic.cu``. 1 FMA = 2 FLOP, one dp4a = 4 multiplications and 4 additions."""

TENSOR_TYPES: dict[str, str] = {"bf16": "bf16", "f16": "fp16", "e4m3": "fp8", "s8": "int8"}
"""Operand types of ``tensor.cu`` and the data type names used elsewhere."""


def arithmetic(rig: Rig) -> Iterator[Roof]:
    """Every pipe of ``arithmetic.cu``."""
    seeds = rig.cp.linspace(0.5, 1.0, 1024, dtype=np.float32)
    rounds = 500
    params = params_struct(seeds=seeds, sink=rig.sink, rounds=rounds, elapsed=rig.elapsed)
    compiled = rig.compiled("arithmetic")
    for name, pipe in ARITHMETIC.items():
        if name not in compiled.resources:  # 16-bit forms that came with Hopper
            continue
        kernel = load_kernel(compiled, name)
        blocks = 2 * rig.sms
        work = blocks * 1024 * rounds * 16 * 8 * pipe.per_lane
        yield rig.clocked(
            name, kernel, (blocks,), 1024, params, work, unit=pipe.unit, driver_clock=True
        )


def tensor(rig: Rig) -> Iterator[Roof]:
    """wgmma by operand type and tile width on random data, and once on zeros."""
    for operand, dtype in TENSOR_TYPES.items():
        for tile_n in (64, 128, 256):
            yield _tensor_point(
                rig,
                operand,
                tile_n,
                dtype,
                rig.cp.asarray(tensor_operands(operand, 196608)),
                "random",
            )
        zeros = rig.cp.zeros(196608, np.uint8)
        yield _tensor_point(rig, operand, 256, dtype, zeros, "zeros")


def _tensor_point(rig: Rig, operand: str, tile_n: int, dtype: str, data: Any, label: str) -> Roof:
    kernel = rig.load("tensor", "tensor_rate", TYPE=operand, TILE_N=tile_n)
    rounds = 1000 * 256 // tile_n
    params = params_struct(data=data, sink=rig.sink, rounds=rounds, elapsed=rig.elapsed)
    k = 32 if operand in ("e4m3", "s8") else 16
    work = rig.sms * rounds * 32 * 2 * 64 * tile_n * k
    return rig.clocked(
        f"tensor_{dtype}",
        kernel,
        (rig.sms,),
        256,
        params,
        work,
        unit="op/s" if dtype == "int8" else "FLOP/s",
        smem=16384 * 4 + 4 * 128 * tile_n,
        budget_s=10 * rig.budget_s,
        tile_n=tile_n,
        instruction="wgmma",
        data=label,
    )


def tensor_sync(rig: Rig) -> Iterator[Roof]:
    """mma.sync by operand type, operands in registers."""
    for operand in ("bf16", "f16", "s8"):
        kernel = rig.load("tensor_sync", "tensor_sync_rate", TYPE=operand)
        rounds, blocks = 8000, rig.sms
        data = rig.cp.asarray(tensor_operands(operand, 196608))
        params = params_struct(data=data, sink=rig.sink, rounds=rounds, elapsed=rig.elapsed)
        k = 32 if operand == "s8" else 16
        work = blocks * 16 * rounds * 8 * 2 * 16 * 8 * k
        yield rig.clocked(
            f"tensor_{TENSOR_TYPES[operand]}",
            kernel,
            (blocks,),
            512,
            params,
            work,
            unit="op/s" if operand == "s8" else "FLOP/s",
            budget_s=10 * rig.budget_s,
            instruction="mma.sync",
            data="random",
        )
