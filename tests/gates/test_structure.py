"""Small modules, small functions, documented public names, nothing left undone."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("perfmodel", "refkernels", "dashboards", "tools")
MODULE_LINES = 400
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
FUNCTION_LINES = 80
TYPICAL_LINES, LONG_LINES = 12, 35
"""The median function, and the one that nine in ten do not exceed."""
TEXT = {".py", ".cu", ".cuh", ".toml", ".md", ".json", ".csv", ".yml", ".sh", "", ".txt"}
UNDONE = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
# Spelled in pieces, so that this file does not contain what it forbids.
FOREIGN = re.compile(
    "|".join(
        (
            r"(?<![\w.])/(?:work|opt|root|home|Users)/\w",
            r"pypi\." + "org",
            r"files\.python" + "hosted",
            r"registry\." + "npmjs",
            r"deb\." + "debian",
            r"download\." + "pytorch",
        )
    )
)


def sources() -> list[Path]:
    return sorted(p for name in PACKAGES for p in (ROOT / name).rglob("*.py"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, FUNCTION))


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions of a module and methods of its public classes; not those local to a function."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(ast.Module(body=node.body, type_ignores=[]))
        elif isinstance(node, FUNCTION) and not node.name.startswith("_"):
            yield node


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    lines = (node.end_lineno or 0) - node.lineno + 1
    if ast.get_docstring(node) is None:
        return lines
    said = node.body[0]
    return lines - ((said.end_lineno or 0) - said.lineno + 1)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.fail(f"git ls-files: {listed.stderr}")
    files = (ROOT / name for name in listed.stdout.splitlines())
    return [f for f in files if f.suffix in TEXT and f.is_file()]


def test_modules_are_short():
    """No module is longer than 400 lines."""
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in sources()}

    assert {p: n for p, n in lengths.items() if n > MODULE_LINES} == {}


def test_functions_are_short():
    """No function is longer than 80 lines, the median is at most 12, nine in ten at most 35."""
    lengths = {
        (str(p.relative_to(ROOT)), f.name): length(f) for p in sources() for f in functions(p)
    }

    assert {f: n for f, n in lengths.items() if n > FUNCTION_LINES} == {}
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) // 2] <= TYPICAL_LINES
    assert ordered[len(ordered) * 9 // 10] <= LONG_LINES


def test_public_functions_are_documented():
    """Every public function and method says what it does."""
    silent = [
        f"{path.relative_to(ROOT)}:{f.lineno} {f.name}"
        for path in sources()
        for f in public_functions(ast.parse(path.read_text()))
        if ast.get_docstring(f) is None
    ]

    assert silent == []


def test_nothing_is_left_undone():
    """No marker of unfinished work in the code."""
    found = [
        f"{p.relative_to(ROOT)}:{n}"
        for p in sources()
        for n, line in enumerate(p.read_text().splitlines(), 1)
        if UNDONE.search(line)
    ]

    assert found == []


def test_no_machine_paths_or_registry_hosts():
    """No file speaks of the machine it was written on or of a package registry's host."""
    found = [
        f"{p.relative_to(ROOT)}:{n}: {line.strip()[:80]}"
        for p in tracked()
        for n, line in enumerate(p.read_text(errors="replace").splitlines(), 1)
        if FOREIGN.search(line)
    ]

    assert found == []
