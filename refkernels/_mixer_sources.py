"""Every compilation that the mixers' launchers can ask for, to be made side by side beforehand."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from refkernels._compile import compile_kernel, device_capability, runs_on
from refkernels._matrix_state import KEY_DIMS
from refkernels._sources import kernel_source, read_spec
from refkernels.delta_rule import device as delta
from refkernels.selective_scan.device import (
    MOST_SHARE,
    MOST_TURN_STATES,
    STATES,
    TYPES,
    UNIT_WARPS,
    WHOLE_WARPS,
)

Job = tuple[str, dict[str, int]]


def scan_variants() -> Iterator[Job]:
    """Data types, states and lanes of each rung of the scan."""
    for kind, states in itertools.product(TYPES.values(), STATES):
        plain = {"TYPE": kind, "STATES": states}
        yield from (
            ("selective_scan/01_channel_per_thread.cu", plain),
            ("selective_scan/step.cu", plain),
        )
        for lanes in (1, 2, 4, 8):
            split = plain | {"LANES": lanes}
            if lanes == 1 and states <= MOST_SHARE:
                yield "selective_scan/02_shared_groups.cu", split
            if max(1, states // MOST_SHARE) <= lanes <= states // 2:
                yield "selective_scan/03_state_lanes.cu", split
                yield "selective_scan/segments.cu", split
        if kind != TYPES["fp32"]:
            for turns in (1, 2, 4, 8) if states <= MOST_TURN_STATES else (1,):
                for gated, aligned in itertools.product((0, 1), (0, 1)):
                    walk = {"TURNS": turns, "GATED": gated, "SOFTPLUS": 1, "ALIGNED": aligned}
                    for warps in (UNIT_WARPS, WHOLE_WARPS) if turns > 1 else (UNIT_WARPS,):
                        named = plain | walk | {"WARPS": warps}
                        yield "selective_scan/04_outer_products.cu", named


def linear_variants() -> Iterator[Job]:
    """Head dimensions and gates of linear attention and SSD."""
    for dk in KEY_DIMS:
        for vector, ssd in ((1, 0), (0, 0), (0, 1)):
            for step in (0, 1):
                fixed = {"DK": dk, "VECTOR": vector, "SSD": ssd, "STEP": step}
                yield "gla/01_recurrent.cu", fixed
        for dv in (64, 128):
            tile = {"DK": dk, "DV": dv}
            yield from (("gla/02_chunk_vector.cu", tile), ("gla/03_segments.cu", tile))
            for ssd in (0, 1):
                yield "gla/04_chunk_scalar.cu", tile | {"HEADS": 1, "SSD": ssd}
            yield "gla/06_vector_wgmma.cu", tile
            for ssd, shared in ((0, 0), (1, 0), (1, 1)):
                alone = {"HEADS": 1, "SSD": ssd, "SHARED": shared, "CLUSTER": 1}
                yield "gla/05_scalar_wgmma.cu", tile | alone
        both = {"DK": dk, "DV": 128, "HEADS": 2, "SSD": 1, "SHARED": 1}
        for cluster in (1, 2):
            yield "gla/05_scalar_wgmma.cu", both | {"CLUSTER": cluster}
        yield "gla/07_shared_scores.cu", {"DK": dk}
    yield "gla/04_chunk_scalar.cu", {"DK": 128, "DV": 128, "HEADS": 2, "SSD": 1}


def delta_variants() -> Iterator[Job]:
    """Key dimensions of each launch of the delta rule."""
    for dk, name in itertools.product(KEY_DIMS, ("02_prepare", *delta.RUNGS)):
        yield f"delta_rule/{name}.cu", {"DK": dk}


def compile_variants(arch: str | None = None) -> Iterator[tuple[Job, int]]:
    """Compile everything for ``arch`` ("sm_90a"; default: the device) on all cores; yields each job
    with the bytes its kernels spill."""
    capability = arch.strip("sm_a") if arch else device_capability()
    jobs = [
        job
        for job in (*scan_variants(), *linear_variants(), *delta_variants())
        if runs_on(read_spec(kernel_source(job[0])).archs, capability)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = pool.map(
            lambda job: compile_kernel(kernel_source(job[0]), arch=arch, defines=job[1]), jobs
        )
        for job, result in zip(jobs, compiled, strict=True):
            yield job, sum(k.spill_bytes + k.stack_bytes for k in result.resources.values())
