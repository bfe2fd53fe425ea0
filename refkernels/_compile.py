"""CUDA source to machine code, with a resource report; needs CuPy's NVRTC but no GPU.

Each compilation runs in a child process (a crash of the compiler becomes an error message) and
ends in a cubin in CuPy's cache folder, named by a digest of the source, every project header it
includes, the options and the compiler version: an edited header can never meet a stale binary.
The same cubin serves the report, the tests and the launch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from perfmodel.errors import BadValue, MalformedFile, MissingData, MissingExtra
from refkernels._sources import data_dir, read_spec, source_digest

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for")
_MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SMEM = re.compile(r"(\d+) bytes smem")
# C7517 is left out: one wait set where a register is next needed, not products in single file.
_SLOW = re.compile(r"\(C75(?!17)\d\d\)[^\n]*wgmma[^\n]*|[^\n]*setmaxnreg[^\n]*ignored[^\n]*")
GPU_EXTRA = "pip install 'perfmodel[gpu]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelResources:
    """What one kernel takes, as the assembler reports it."""

    name: str
    registers: int
    stack_bytes: int
    spill_bytes: int
    static_smem_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """One source compiled for one architecture with one set of defines."""

    source: Path
    arch: str
    cubin: Path
    digest: str
    resources: Mapping[str, KernelResources]
    warnings: tuple[str, ...]
    """Remarks that cost speed: serialised wgmma, an ignored setmaxnreg."""


def compile_kernel(
    source: Path, *, arch: str | None = None, defines: Mapping[str, object] | None = None
) -> Compiled:
    """Compile ``source`` for ``arch`` (default: the current device) or find it in the cache.

    Raises:
        MissingExtra: CuPy is not installed.
        MissingData: no ``arch`` was given and there is no device.
        BadValue: the source's header does not allow this device.
        MalformedFile: the source does not compile, or crashes the compiler.
    """
    spec = read_spec(source)
    target = arch or pick_arch(spec.archs, device_capability())
    options = _options(target, spec.options, defines or {})
    digest = _digest(source, options)
    cubin = _cache_dir() / f"{source.stem}-{target}-{digest}.cubin"
    log = cubin.with_suffix(".log")
    if not (cubin.is_file() and log.is_file()):
        _run_nvrtc(source, options, cubin, log)
    text = log.read_text()
    return Compiled(
        source=source,
        arch=target,
        cubin=cubin,
        digest=digest,
        resources=parse_resources(text),
        warnings=tuple(m.strip() for m in _SLOW.findall(text)),
    )


def compile_all(sources: Iterable[Path]) -> None:
    """Compile every variant of ``sources`` for the current device, side by side, into the cache.

    Sources written for other devices are left out; raises as :func:`compile_kernel`.
    """
    capability = device_capability()
    jobs = [
        (source, pick_arch(spec.archs, capability), dict(variant))
        for source in sources
        if runs_on((spec := read_spec(source)).archs, capability)
        for variant in spec.variants
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = [pool.submit(compile_kernel, s, arch=a, defines=d) for s, a, d in jobs]
        for job in waiting:
            job.result()


def runs_on(archs: tuple[str, ...], capability: str) -> bool:
    """Whether a source whose header names ``archs`` compiles for a device of ``capability``."""
    try:
        pick_arch(archs, capability)
    except BadValue:
        return False
    return True


def pick_arch(archs: tuple[str, ...], capability: str) -> str:
    """The target for a device of compute ``capability`` ("90") among a header's ``archs``.

    The architecture-specific target (``sm_90a``) if the header names it, else the device's plain
    target if the header names a plain one no newer than the device.

    Raises:
        BadValue: the header allows neither.
    """
    specific = f"sm_{capability}a"
    if specific in archs:
        return specific
    plain = [int(a[3:]) for a in archs if a[3:].isdecimal()]
    if any(p <= int(capability) for p in plain):
        return f"sm_{capability}"
    msg = f"the kernel is written for {' '.join(archs)}, this device is sm_{capability}"
    raise BadValue(msg, field="arch", fix="another variant of the kernel")


def device_capability() -> str:
    """The current device's compute capability as CuPy writes it ("90"); raises MissingData."""
    try:
        import cupy
    except ImportError:
        msg = "CuPy is not installed"
        raise MissingExtra(msg, fix=GPU_EXTRA) from None
    try:
        return str(cupy.cuda.Device().compute_capability)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        msg = f"no CUDA device is usable here: {error}"
        raise MissingData(msg, field="device", fix="name an architecture to compile for") from None


def parse_resources(log: str) -> dict[str, KernelResources]:
    """The kernels in an assembler report (``--ptxas-options=-v``), by name."""
    found: dict[str, KernelResources] = {}
    for block in re.split(r"(?=Compiling entry function)", log):
        entry, memory, used = _ENTRY.search(block), _MEMORY.search(block), _USED.search(block)
        if not (entry and memory and used):
            continue
        smem = _SMEM.search(block)
        found[entry[1]] = KernelResources(
            name=entry[1],
            registers=int(used[1]),
            stack_bytes=int(memory[1]),
            spill_bytes=int(memory[2]) + int(memory[3]),
            static_smem_bytes=int(smem[1]) if smem else 0,
        )
    return found


def _options(arch: str, extra: tuple[str, ...], defines: Mapping[str, object]) -> list[str]:
    # NVRTC's own cache would answer a source that preprocesses to a known one, without a report.
    report = ["--no-cache", "--ptxas-options=-v"]
    flags = ["--std=c++17", f"-arch={arch}", "-lineinfo", *report, *extra]
    flags += [f"-D{name}={value}" for name, value in sorted(defines.items())]
    return flags


def _digest(source: Path, options: list[str]) -> str:
    identity = json.dumps([_compiler_version(), options, source_digest(source)])
    return hashlib.sha256(identity.encode()).hexdigest()[:20]


@cache
def _compiler_version() -> tuple[int, int]:
    try:
        from cupy_backends.cuda.libs import nvrtc
    except ImportError:
        msg = "CuPy is not installed"
        raise MissingExtra(msg, fix=GPU_EXTRA) from None
    major, minor = nvrtc.getVersion()
    return int(major), int(minor)


def _cache_dir() -> Path:
    root = os.environ.get("CUPY_CACHE_DIR", str(Path.home() / ".cupy" / "kernel_cache"))
    folder = Path(root) / "refkernels"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run_nvrtc(source: Path, options: list[str], cubin: Path, log: Path) -> None:
    """Compile in a child; the outputs appear under their final names only when complete."""
    partial = {p: p.with_name(f"{p.name}.{os.getpid()}.{id(options)}") for p in (cubin, log)}
    job: dict[str, Any] = {
        "code": source.read_text(),
        "name": source.name,
        "options": [*options, f"-I{data_dir('cuda')}", *_cuda_includes()],
        "cubin": str(partial[cubin]),
        "log": str(partial[log]),
    }
    child = Path(__file__).with_name("_nvrtc.py")
    run = subprocess.run(  # noqa: S603 -- our own file, no shell
        [sys.executable, "-P", str(child)],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise _refused(source, options, run, partial)
    for final, path in partial.items():
        path.replace(final)


def _refused(
    source: Path, options: list[str], run: subprocess.CompletedProcess[str], partial: Any
) -> MalformedFile:
    logs = [path for final, path in partial.items() if final.suffix == ".log" and path.is_file()]
    text = "".join(p.read_text() for p in logs) or run.stderr
    for path in partial.values():
        path.unlink(missing_ok=True)
    how = "crashes the compiler" if run.returncode < 0 else "does not compile"
    msg = f"{source.name} {how} with {' '.join(options)}:\n{text[-4000:]}"
    return MalformedFile(msg, field="source")


@cache
def _cuda_includes() -> tuple[str, ...]:
    """Include options for CUDA's own headers (cuda_fp16.h), where their wheel is installed."""
    from cuda.pathfinder import find_nvidia_header_directory

    folder = find_nvidia_header_directory("cudart")
    return (f"-I{folder}",) if folder else ()
