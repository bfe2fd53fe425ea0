"""Documents tell the truth: what they show is what the program prints and does today."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from perfmodel.cli import main

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("docs", "specs", "refkernels", "dashboards")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.md"))])
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACEHOLDERS = ("path/to", "my-", "measurements.csv", "perfmodel dash", "<")
"""Words of commands that need something of the reader's own, or that do not end."""

COMMANDS = sorted(
    {
        line
        for path in DOCUMENTS
        for block in SHELL.findall(path.read_text())
        for line in block.splitlines()
        if line.startswith("perfmodel ") and not any(word in line for word in PLACEHOLDERS)
    }
)
DOCTESTED = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "perfmodel").rglob("*.py")
    if ">>> " in path.read_text()
)
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#]+)")


def test_pasted_output_is_what_the_program_prints(python):
    """Every command shown with its output prints exactly that output (else: make docs)."""
    found = python("tools/docs.py", "--check")

    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_shown_answer(line, capsys):
    """Every command that a document offers is answered as it stands."""
    assert main(shlex.split(line, comments=True)[1:]) in (0, 1), capsys.readouterr().err


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_snippets_run(path):
    """Python sessions (>>>) in a document print what they say."""
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    parser = doctest.DocTestParser()
    text = path.read_text()
    for block in PYTHON.finditer(text):
        line = text.count("\n", 0, block.start(1))
        runner.run(parser.get_doctest(block[1], {}, path.name, str(path), line))

    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("module", DOCTESTED)
def test_docstrings_run(module):
    """Python sessions (>>>) in a docstring print what they say."""
    found = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)

    assert found.attempted
    assert found.failed == 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    """A relative link names a file of the repository."""
    targets = LINK.findall(path.read_text())

    assert [t for t in targets if not (path.parent / t).exists()] == []


MAPS = {
    "specs/README.md": ("specs", lambda p: p.name != "README.md"),
    "docs/architecture.md": ("perfmodel", lambda p: not p.name.startswith(("_", "py."))),
    "refkernels/README.md": ("refkernels", lambda p: p.suffix == ".py" and p.stem != "__init__"),
}
"""Documents whose table says what lies in a folder, and which of its entries count."""


@pytest.mark.parametrize("document", MAPS)
def test_maps_name_every_part(document):
    """The table of a folder names each of its entries; that of the specs nothing else."""
    folder, counts = MAPS[document]
    there = {p.name for p in (ROOT / folder).iterdir() if counts(p)}
    cells = re.findall(r"^\| (`.+?) \|", (ROOT / document).read_text(), re.MULTILINE)
    words = {w for cell in cells for w in re.findall(r"`([^`]+)`", cell)}
    named = {w.removeprefix(f"{folder}/").split("/")[0] for w in words}
    loose = [re.compile(n.replace(".", r"\.").replace("*", ".*")) for n in named]

    assert {n for n in there if not any(pattern.fullmatch(n) for pattern in loose)} == set()
    if document == "specs/README.md":
        assert named <= there


def test_readme_is_short_and_names_the_two_commands():
    """Under 150 lines, with the demo and the test command."""
    readme = (ROOT / "README.md").read_text()

    assert len(readme.splitlines()) < 150
    assert "make demo" in readme
    assert "make test" in readme


def test_ci_runs_the_test_command_of_the_readme():
    """Continuous integration ends in the command that people are told to run."""
    assert (ROOT / ".ci" / "run").read_text().rstrip().splitlines()[-1] == "make test"


def test_changelog_has_this_version():
    """The newest entry of the changelog is the version of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert newest is not None
    assert newest[1] == project["version"]
