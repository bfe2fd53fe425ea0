"""Who imports whom, read from the code: the picture and the table of ``docs/architecture.md``."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("perfmodel", "refkernels", "dashboards")
WIDTH, BOX, ROW = 760, (118, 30), 66


@cache
def imports() -> dict[str, frozenset[str]]:
    """Part -> parts that it imports; a part is a module or package right under a root package."""
    found: dict[str, set[str]] = {}
    for path in _modules():
        mine = found.setdefault(part_of(path), set())
        mine |= {p for p in _imported(path) if p != part_of(path)}
    known = {name: frozenset(uses & found.keys()) for name, uses in found.items()}
    return {name: known[name] for name in sorted(known)}


def _modules() -> Iterator[Path]:
    """Every module but the fronts that only re-export lazily."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path not in {ROOT / "perfmodel" / "__init__.py", ROOT / "perfmodel" / "__main__.py"}:
                yield path


def part_of(path: Path) -> str:
    """``perfmodel/ops/gemm.py`` -> ``ops``; kernels and pages are one part each."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "perfmodel" else parts[0]


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        if isinstance(node, ast.ImportFrom) and node.module == "perfmodel":
            names = [f"perfmodel.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            head, *rest = name.split(".")
            if head == "perfmodel" and rest:
                yield rest[0]
            elif head in {"refkernels", "dashboards"}:
                yield head


def levels(uses: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """The longest chain of imports under each part: 0 imports nothing of ours."""

    @cache
    def level(name: str) -> int:
        return 1 + max((level(other) for other in uses[name]), default=-1)

    return {name: level(name) for name in uses}


def reduced(uses: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Without the imports that a longer way implies."""

    @cache
    def below(name: str) -> frozenset[str]:
        return uses[name].union(*(below(other) for other in uses[name]))

    return {
        name: frozenset(u for u in mine if not any(u in below(v) for v in mine - {u}))
        for name, mine in uses.items()
    }


def table() -> str:
    """Every part and all that it imports, the highest first."""
    by_level = levels(imports())
    ordered = sorted(by_level, key=lambda n: (-by_level[n], n))
    used = {n: ", ".join(f"`{u}`" for u in sorted(imports()[n])) for n in ordered}
    rows = [f"| `{n}` | {used[n] or 'nothing of ours'} |" for n in ordered]
    return "\n".join(["| part | imports |", "|---|---|", *rows]) + "\n"


def picture() -> str:
    """The parts by level, the highest on top; a line runs from a part down to what it imports,
    where no other line says so already."""
    uses = reduced(imports())
    by_level = levels(imports())
    top = max(by_level.values())
    at = {}
    for level in range(top + 1):
        row = sorted(n for n, its in by_level.items() if its == level)
        for i, name in enumerate(row):
            at[name] = (WIDTH * (i + 1) / (len(row) + 1), ROW * (top - level) + 30)
    lines = [
        f'<path d="M{at[n][0]:.0f} {at[n][1] + BOX[1] / 2:.0f}L{at[u][0]:.0f}'
        f' {at[u][1] - BOX[1] / 2:.0f}"/>'
        for n in uses
        for u in sorted(uses[n])
    ]
    boxes = [_box(name, *place) for name, place in sorted(at.items())]
    height = ROW * top + 60
    said = "; ".join(
        f"{n} imports {', '.join(sorted(u)) or 'nothing'}" for n, u in imports().items()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="sans-serif" font-size="13">\n<title>Dependencies point down</title>\n'
        f"<desc>{escape(said)}</desc>\n"
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n'
        '<g stroke="#8a94a6" stroke-width="0.8" fill="none" opacity="0.55">'
        + "".join(lines)
        + "</g>\n"
        + "\n".join(boxes)
        + "\n</svg>\n"
    )


def _box(name: str, x: float, y: float) -> str:
    width, height = BOX
    return (
        f'<rect x="{x - width / 2:.0f}" y="{y - height / 2:.0f}" width="{width}" height="{height}" '
        'rx="6" fill="#eef3fb" stroke="#3d6fb4"/>'
        f'<text x="{x:.0f}" y="{y + 4.5:.0f}" text-anchor="middle" fill="#1b2a41">{name}</text>'
    )
