"""The command line's shell: verbs load lazily, every ending has its exit code and one message."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from perfmodel import cli
from perfmodel.errors import BadValue, MissingFile


@pytest.fixture
def verb(monkeypatch):
    """Adds a verb whose body the test gives."""

    def add(body):
        module = types.ModuleType("verb_under_test")
        module.command = body
        monkeypatch.setitem(sys.modules, "verb_under_test", module)
        monkeypatch.setitem(cli.VERBS, "tried", ("verb_under_test", "A verb under test."))

    return add


def raising(error):
    def body() -> int:
        raise error

    return body


@pytest.mark.parametrize("code", [0, 1])
def test_verb_returns_the_exit_code(verb, code):
    """What a verb returns is the exit code: 0 answered, 1 the answer is no."""

    def body() -> int:
        return code

    verb(body)

    assert cli.main(["tried"]) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadValue("must be positive, got -1", field="batch", fix="--batch 1"), 2),
        (MissingFile("no such file: x.json", fix="check the path"), 3),
    ],
)
def test_refusals(verb, capsys, error, code):
    """A refusal is one message on stderr with what to try, and its class's exit code."""
    verb(raising(error))

    assert cli.main(["tried"]) == code
    said = capsys.readouterr()
    assert said.err == f"error: {error.headline}\n  try: {error.fix}\n"
    assert said.out == ""


def test_refusals_as_json(verb, capsys):
    """With --json the refusal is JSON on stdout too, exit code included."""

    def body(json: bool = False) -> int:
        raise BadValue("is odd", field="heads", fix="an even number")

    verb(body)

    assert cli.main(["tried", "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {
        "error": "BadValue",
        "message": "is odd",
        "field": "heads",
        "fix": "an even number",
        "exit_code": 2,
    }


@pytest.mark.parametrize(
    ("argv", "field"),
    [
        (["nonesuch"], "arguments"),
        (["docter"], "arguments"),
        (["doctor", "--nonesuch"], "--nonesuch"),
        (["doctor", "extra"], "arguments"),
        (["--nonesuch"], "--nonesuch"),
    ],
)
def test_usage_errors(capsys, argv, field):
    """A wrong verb, option or argument is exit 2 and points to the help."""
    assert cli.main([*argv, "--json"] if argv[0] == "doctor" else argv) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert "--help" in said.err.splitlines()[-1]
    if said.out:
        assert json.loads(said.out)["field"] == field


def test_option_of_the_wrong_type(verb, capsys):
    """A value of the wrong type names its option."""

    def body(batch: int = 1) -> int:
        return batch

    verb(body)

    assert cli.main(["tried", "--batch", "many"]) == 2
    assert "--batch" in capsys.readouterr().err


def test_misspelt_verb_is_offered(capsys):
    """A near miss offers the verb that was meant."""
    cli.main(["docter"])

    assert "doctor" in capsys.readouterr().err


def test_unexpected_errors(verb, capsys, monkeypatch):
    """A bug in the program is one line, exit 70, and no traceback unless asked for."""
    verb(raising(RuntimeError("a bug")))

    assert cli.main(["tried"]) == 70
    said = capsys.readouterr().err
    assert said.startswith("internal error: RuntimeError: a bug\n")
    assert "Traceback" not in said
    monkeypatch.setenv("PERFMODEL_DEBUG", "1")
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["tried"])


def test_interrupt(verb, capsys):
    """Ctrl-C ends quietly with the shell's usual code."""
    verb(raising(KeyboardInterrupt()))

    assert cli.main(["tried"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_closed_pipe(root):
    """A reader that goes away ends the program silently: no message, no traceback."""
    script = "import sys; from perfmodel.cli import main; sys.exit(main(['doctor', '--json']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)

    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_full_output(root):
    """An output that takes no more is said in one line, and is no bug of ours."""
    script = "import sys; from perfmodel.cli import main; sys.exit(main(['doctor', '--json']))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=root, stdout=full, stderr=subprocess.PIPE, text=True
        )

    assert done.returncode == 74
    assert done.stderr.startswith("error: cannot write the answer")


def test_only_the_asked_verb_is_loaded(capsys, monkeypatch):
    """Listing the verbs, or asking for one, imports no other verb's module."""
    monkeypatch.setitem(cli.VERBS, "broken", ("no_such_module_anywhere", "Never loaded."))

    assert cli.main(["--help"]) == 0
    assert "Never loaded." in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == 0


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_listed_verb_exists(verb, capsys):
    """Every verb of the table has help, and --json where it answers (dash opens a page)."""
    assert cli.main([verb, "--help"]) == 0
    assert ("--json" in capsys.readouterr().out) == (verb != "dash")


def test_help_fits_one_screen(python):
    """40 lines of 80 columns: the questions first, then what the program knows, exit codes last."""
    lines = python("-m", "perfmodel", "--help").stdout.splitlines()

    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert list(cli.VERBS)[:3] == ["estimate", "capacity", "plan"]
    assert "Exit codes" in "".join(lines)


def test_bare_command_is_help(capsys):
    """Without arguments the help is shown."""
    assert cli.main([]) == 0
    assert "doctor" in capsys.readouterr().out


def test_version(capsys, python):
    """--version prints the version, and ``python -m perfmodel`` is the same program."""
    assert cli.main(["--version"]) == 0
    assert python("-m", "perfmodel", "--version").stdout == capsys.readouterr().out


def test_no_colour_on_pipes(python):
    """Piped output carries no escape codes, with and without NO_COLOR."""
    assert "\x1b" not in python("-m", "perfmodel", "doctor").stdout
    assert "\x1b" not in python("-m", "perfmodel", "--help").stdout
