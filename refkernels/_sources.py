"""Where the CUDA sources lie, what each file's header promises, and what a file depends on."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import perfmodel.errors
from perfmodel.errors import MalformedFile, MissingFile

_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
_HEADER_LINE = re.compile(r"^//\s*(\w+):\s*(.+?)\s*$")
_ENTRY = re.compile(
    r'extern "C" __global__ void\s+(?:__\w+__\((?:[^()]|\([^()]*\))*\)\s*)*([a-z]\w*)\s*\('
)
_ARCH = re.compile(r"sm_\d+[af]?")


def data_dir(name: str) -> Path:
    """The folder ``cuda`` or ``specs``: of the repository (also an editable install) or the wheel.

    Raises:
        MissingFile: the folder is in neither place.
    """
    repository = Path(__file__).resolve().parent.parent / name
    installed = Path(perfmodel.errors.__file__).resolve().parent / "_data" / name
    for folder in (installed, repository):
        if folder.is_dir():
            return folder
    msg = f"the folder {name}/ is neither at {installed} nor at {repository}"
    raise MissingFile(msg, field=name, fix="reinstall perfmodel")


def kernel_source(relative: str) -> Path:
    """The ``.cu`` file at ``relative`` below ``cuda/``; raises MissingFile."""
    path = data_dir("cuda") / relative
    if not path.is_file():
        msg = f"no CUDA source {relative}"
        raise MissingFile(msg, field="source", fix=f"a file below {data_dir('cuda')}")
    return path


def all_sources() -> list[Path]:
    """Every ``.cu`` file, in a stable order."""
    return sorted(data_dir("cuda").rglob("*.cu"))


def entry_points() -> list[str]:
    """The names of all kernels below ``cuda/``, as a profiler or a sanitizer sees them."""
    files = sorted(data_dir("cuda").rglob("*.cu*"))
    return sorted({name for path in files for name in _ENTRY.findall(path.read_text())})


def included_headers(source: Path) -> list[Path]:
    """The project's headers that ``source`` includes, directly or not, each once.

    Raises:
        MissingFile: an include in quotes that is not below ``cuda/``.
    """
    found: dict[Path, None] = {}
    waiting = [source]
    while waiting:
        for name in _INCLUDE.findall(waiting.pop().read_text()):
            header = data_dir("cuda") / name
            if not header.is_file():
                msg = f"{source.name} includes {name}, which is not below cuda/"
                raise MissingFile(msg, field="include")
            if header not in found:
                found[header] = None
                waiting.append(header)
    return sorted(found)


def source_digest(source: Path) -> str:
    """A digest of the source and of every project header it includes."""
    digest = hashlib.sha256()
    for path in (source, *included_headers(source)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """What the comment at the top of a ``.cu`` file promises; the gate test holds it to that.

    Lines ``// key: value`` before the first line of code::

        // arch: sm_80 sm_90a        architectures that must compile
        // registers: 168            most registers a thread of any kernel here may use
        // threads: 384              threads per block at launch
        // dynamic_smem: 200704      most dynamic shared memory per block, bytes
        // cluster: 2                blocks per cluster (__cluster_dims__)
        // options: --use_fast_math  extra compiler options
        // defines: TILE_N=64        one line per variant that must compile
    """

    archs: tuple[str, ...]
    registers: int = 255
    threads: int = 1024
    dynamic_smem: int = 0
    cluster: int = 1
    options: tuple[str, ...] = ()
    variants: tuple[tuple[tuple[str, str], ...], ...] = ((),)


def read_spec(source: Path) -> SourceSpec:
    """The promises in the header comment of ``source``.

    Raises:
        MalformedFile: no ``// arch:`` line, or a value that is not what its key needs.
    """
    lines = _header_lines(source)
    archs = tuple(lines.get("arch", [""])[-1].split())
    if not archs or not all(_ARCH.fullmatch(a) for a in archs):
        msg = f"{source.name} needs a header line '// arch: sm_80 sm_90a', got {' '.join(archs)!r}"
        raise MalformedFile(msg, field="arch")
    counts = {
        key: _count(source, key, lines[key][-1])
        for key in ("registers", "threads", "dynamic_smem", "cluster")
        if key in lines
    }
    options = tuple(word for line in lines.get("options", []) for word in line.split())
    variants = tuple(_defines(source, line) for line in lines.get("defines", [])) or ((),)
    return SourceSpec(archs=archs, options=options, variants=variants, **counts)


def _header_lines(source: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in source.read_text().splitlines():
        if line.strip() and not line.startswith("//"):
            break
        if match := _HEADER_LINE.match(line):
            found.setdefault(match[1], []).append(match[2])
    return found


def _count(source: Path, key: str, text: str) -> int:
    if not text.isdecimal():
        msg = f"{source.name}: '// {key}:' must be a whole number, got {text!r}"
        raise MalformedFile(msg, field=key)
    return int(text)


def _defines(source: Path, line: str) -> tuple[tuple[str, str], ...]:
    pairs = [word.partition("=") for word in line.split()]
    if not all(name and sep for name, sep, _ in pairs):
        msg = f"{source.name}: '// defines:' needs NAME=VALUE words, got {line!r}"
        raise MalformedFile(msg, field="defines")
    return tuple((name, value) for name, _, value in pairs)
