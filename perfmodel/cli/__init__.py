"""The ``perfmodel`` command: one verb per module, imported only when it is asked for.

A verb's module exposes ``command``, a typer-compatible function that returns the exit code:
0 answered, 1 the answer is no. Badly posed questions (2) and absent data (3) are raised as
errors of :mod:`perfmodel.errors` and end here, in one message; nothing else reaches a user.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from perfmodel.errors import BadValue, PerfModelError

PROGRAM = "perfmodel"

VERBS: dict[str, tuple[str, str]] = {
    "estimate": ("perfmodel.cli.estimate", "How long an operator or a model step takes."),
    "capacity": ("perfmodel.cli.capacity", "Does it fit, for how many users, what would help."),
    "plan": ("perfmodel.cli.plan", "What serves a load within its service levels, ranked."),
    "compare": ("perfmodel.cli.compare", "One question on several devices, side by side."),
    "sweep": ("perfmodel.cli.sweep", "A grid of predictions as a table, CSV or JSON."),
    "crossover": ("perfmodel.cli.crossover", "Token mixers by context, with break-evens."),
    "arena": ("perfmodel.cli.arena", "Does a network fit a microcontroller, and where."),
    "devices": ("perfmodel.cli.devices", "List devices: peaks, memory, power, price."),
    "models": ("perfmodel.cli.models", "List models, or show one: layers, parameters, cache."),
    "show": ("perfmodel.cli.show", "Show every figure of a device with its source."),
    "validate": ("perfmodel.cli.validate", "Score predictions against measured tables."),
    "calibrate": ("perfmodel.cli.calibrate", "Fit the kernel classes on measured tables."),
    "probe": ("perfmodel.cli.probe", "Measure this machine's roofs; write it as a device."),
    "dash": ("perfmodel.cli.dash", "Open the explorer in a browser (extra dash)."),
    "doctor": ("perfmodel.cli.doctor", "Show versions, extras, specs and devices seen."),
}
"""verb -> (module, the line that ``perfmodel --help`` shows for it), in the order shown."""

OPTION_OF = {
    "page_size": "page", "ttft_s": "ttft", "tpot_s": "tpot", "clock_hz": "clock",
    "memory_bytes": "memory", "reserve_bytes": "reserve",
}  # fmt: skip
"""Keywords of the functions whose option has a shorter name."""

EXIT_INTERNAL = 70
EXIT_UNWRITTEN = 74
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141


class _PipeClosed(Exception):
    """The reader of our output went away; carried past typer, which would call it exit 1."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; ``argv`` defaults to the process's own."""
    args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        code = _answer(args)
        if sys.stdout is not None:  # None where the caller closed it
            sys.stdout.flush()
    except PerfModelError as error:
        return _refuse(error, args)
    except (_PipeClosed, BrokenPipeError):
        _drop_output()
        return EXIT_PIPE_CLOSED
    except OSError as error:
        _drop_output()
        print(f"error: cannot write the answer: {error.strerror}", file=sys.stderr)
        return EXIT_UNWRITTEN
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
        return _confess(error)
    return code


def _answer(args: list[str]) -> int:
    asked = _asked_verb(args)
    app = _app(asked)
    if asked in VERBS:
        _refuse_repeats(app, asked, args)
    try:
        code = app(args=args, prog_name=PROGRAM, standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):  # only typer's usage errors have it
            raise
        raise _usage_error(error, args) from None
    return int(code or 0)


def _app(asked: str | None) -> typer.Typer:
    app = typer.Typer(
        name=PROGRAM,
        help="How fast, how many users, what binds, at what cost, and how sure.",
        epilog="Answers take --json and --csv. Exit codes: 0 answered, 1 the answer is no, "
        "2 badly posed, 3 a file or calibration is absent.",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_top_level)
    completing = f"_{PROGRAM.upper()}_COMPLETE" in os.environ
    for verb, (module, line) in VERBS.items():
        if completing or verb == asked:
            app.command(verb)(_guarded(importlib.import_module(module).command))
        else:
            app.command(verb, help=line)(_listed)
    return app


def _refuse_repeats(app: typer.Typer, verb: str, args: list[str]) -> None:
    """An option that takes one value must not be given two: the first would be lost in silence."""
    group: Any = typer.main.get_command(app)
    given = [a.partition("=")[0] for a in args if a.startswith("--")]
    for param in group.commands[verb].params:
        times = sum(given.count(name) for name in param.opts)
        if times > 1 and not (param.multiple or param.is_flag):
            msg = f"is given {times} times and takes one value"
            raise BadValue(msg, field=param.opts[0], fix=_help_line(args))


def _asked_verb(args: list[str]) -> str | None:
    return next((a for a in args if not a.startswith("-")), None)


def _guarded(command: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> int:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError as error:
            raise _PipeClosed from error

    return run


def _listed() -> None:
    """Stand for a verb that was not asked for: it is listed, its module stays unloaded."""


def _show_version(wanted: bool) -> None:
    if wanted:
        from perfmodel import __version__

        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _top_level(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Options of the program itself."""


def _usage_error(error: Any, args: list[str]) -> BadValue:
    """A wrong option or argument, told like every other refusal."""
    param = getattr(error, "param", None)
    opts = param.opts if param is not None else ()
    field = opts[0] if opts else getattr(error, "option_name", None) or "arguments"
    message = error.message if opts and error.message else error.format_message()
    return BadValue(message.rstrip("."), field=field, fix=_help_line(args))


def _help_line(args: list[str]) -> str:
    """What to try where an error knows nothing better: the help of the verb asked for."""
    verb = _asked_verb(args)
    return f"{PROGRAM} {verb} --help" if verb in VERBS else f"{PROGRAM} --help"


def _refuse(error: PerfModelError, args: list[str]) -> int:
    if _wants_traceback():
        raise error
    fix = error.fix or _help_line(args)
    error.field = OPTION_OF.get(error.field or "", error.field)
    print(f"error: {error.headline}\n  try: {fix}", file=sys.stderr)
    if "--json" in args:
        told = error.to_dict() | {"fix": fix, "exit_code": error.exit_code}
        print(json.dumps(told, indent=2))
    return error.exit_code


def _confess(error: Exception) -> int:
    if _wants_traceback():
        raise error
    print(
        f"internal error: {type(error).__name__}: {error}\n"
        "  please report it; PERFMODEL_DEBUG=1 shows the traceback",
        file=sys.stderr,
    )
    return EXIT_INTERNAL


def _wants_traceback() -> bool:
    return os.environ.get("PERFMODEL_DEBUG", "0") not in {"", "0"}


def _drop_output() -> None:
    """Point standard output at nothing, so that the interpreter's last flush cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
