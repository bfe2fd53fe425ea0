"""What the assembler reports of every kernel: ``python -m refkernels.resources [--check]``.

Compiles every source for every architecture that its launcher may pick, without a GPU, and writes
one JSON file per folder of ``cuda/`` to ``specs/kernels``: registers, spills, shared memory, and
how many blocks are resident on each multiprocessor that runs the binary. Only folders whose sources
changed since are compiled again. With ``--check`` nothing is compiled or written: exit code 1 names
the folders whose report is of other sources than those that lie here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from perfmodel.errors import PerfModelError
from refkernels._compile import Compiled, KernelResources, compile_kernel
from refkernels._occupancy import arch_limits, blocks_per_sm, known_archs
from refkernels._record import write_json
from refkernels._sources import SourceSpec, all_sources, data_dir, read_spec, source_digest

SCHEMA = 1
HOPPER = "sm_90"
"""Portable kernels are reported for it too, where their launchers compile them for it."""

Job: TypeAlias = tuple[Path, str, tuple[tuple[str, str], ...]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Refresh, or check, the reports; returns the exit code."""
    options = list(sys.argv[1:] if arguments is None else arguments)
    if options not in ([], ["--check"]):
        sys.stderr.write("usage: python -m refkernels.resources [--check]\n")
        return 2
    folder = data_dir("specs") / "kernels"
    stale = [family for family in families() if not current(family, folder)]
    if options:
        sys.stdout.writelines(f"{family}: its report is of other sources\n" for family in stale)
        return 1 if stale else 0
    try:
        for family in stale:
            write_json(folder / f"{family}.json", report(family))
            sys.stdout.write(f"{family}: reported\n")
    except PerfModelError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def families() -> list[str]:
    """Folders of ``cuda/`` that hold sources."""
    return sorted({source.parent.name for source in all_sources()})


def current(family: str, folder: Path) -> bool:
    """Whether the report of ``family`` in ``folder`` is of the sources as they are now."""
    path = folder / f"{family}.json"
    return path.is_file() and json.loads(path.read_text())["sources"] == digests(family)


def digests(family: str) -> dict[str, str]:
    """Each source of ``family`` with a digest of it and of the headers it includes."""
    return {s.name: source_digest(s) for s in all_sources() if s.parent.name == family}


def report(family: str) -> dict[str, Any]:
    """The whole file of one family; compiles what is not in the cache, side by side."""
    jobs = list(_jobs(family))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = pool.map(lambda j: compile_kernel(j[0], arch=j[1], defines=dict(j[2])), jobs)
        entries = [e for job, done in zip(jobs, compiled, strict=True) for e in _entries(job, done)]
    return {"schema": SCHEMA, "sources": digests(family), "resources": entries}


def _jobs(family: str) -> Iterator[Job]:
    for source in all_sources():
        if source.parent.name == family:
            spec = read_spec(source)
            for arch in targets(spec.archs):
                yield from ((source, arch, variant) for variant in spec.variants)


def targets(archs: Sequence[str]) -> list[str]:
    """What a launcher compiles for: the header's architectures, and plain Hopper where they allow
    it without naming it.
    """
    plain = any(a[3:].isdecimal() and int(a[3:]) <= int(HOPPER[3:]) for a in archs)
    named = any(a.startswith(HOPPER) for a in archs)
    return [*archs, HOPPER] if plain and not named else list(archs)


def _entries(job: Job, compiled: Compiled) -> Iterator[dict[str, Any]]:
    source, arch, variant = job
    spec = read_spec(source)
    for kernel in compiled.resources.values():
        yield {
            "source": source.name,
            "kernel": kernel.name,
            "defines": " ".join(f"{name}={value}" for name, value in variant),
            "arch": arch,
            "registers": kernel.registers,
            "spill_bytes": kernel.spill_bytes,
            "smem_bytes": kernel.static_smem_bytes + spec.dynamic_smem,
            "threads": spec.threads,
            "resident": resident(kernel, arch, spec),
        }


def resident(
    kernel: KernelResources, arch: str, spec: SourceSpec
) -> Mapping[str, Mapping[str, float]]:
    """Blocks and share of the threads on each multiprocessor that runs ``arch``'s binary.

    With the most dynamic shared memory that the source's header names; 0 blocks: too little there.
    """
    found = {}
    for where in runs_on(arch):
        blocks = blocks_per_sm(
            kernel, arch=where, threads=spec.threads, dynamic_smem=spec.dynamic_smem
        )
        share = blocks * spec.threads / arch_limits(where).threads
        found[where] = {"blocks": blocks, "occupancy": round(share, 4)}
    return found


def runs_on(arch: str) -> list[str]:
    """Known architectures whose devices run a binary of ``arch``: of the same major number and no
    older, or that one alone where the code is specific to it.
    """
    if not arch[3:].isdecimal():
        return [arch]
    major, minor = divmod(int(arch[3:]), 10)
    known = sorted(int(a[3:]) for a in known_archs())
    return [f"sm_{k}" for k in known if k // 10 == major and k % 10 >= minor]


if __name__ == "__main__":
    sys.exit(main())
