"""Dependencies point down only, and the leaves stay light."""

import pytest

HEAVY = ("pydantic", "pandas", "plotly", "rich", "typer", "scipy")
BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError("blocked: " + name)

sys.meta_path.insert(0, Block())
import {module}
"""
LOADED = """
import sys
import {module}
print(*sorted({{name.partition(".")[0] for name in sys.modules}} & set({names!r})))
"""


def test_contracts(python):
    """Every import contract of pyproject.toml is kept."""
    found = python(
        "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    )

    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("module", ["perfmodel", "perfmodel.workload", "perfmodel.ops"])
def test_leaves_need_numpy_alone(python, module):
    """The leaves import where only NumPy is installed, as on a machine that times kernels."""
    found = python("-c", BLOCKED.format(names=HEAVY, module=module))

    assert found.returncode == 0, found.stderr


def test_package_import_loads_nothing(python):
    """``import perfmodel`` pays for no dependency: names are resolved when first used."""
    found = python("-c", LOADED.format(names=(*HEAVY, "numpy"), module="perfmodel"))

    assert found.stdout.split() == []


def test_command_line_import_is_light(python):
    """The command line starts without the dependencies that cost most to import."""
    heavy = ("pydantic", "pandas", "plotly", "rich", "scipy")
    found = python("-c", LOADED.format(names=heavy, module="perfmodel.cli"))

    assert found.stdout.split() == []
