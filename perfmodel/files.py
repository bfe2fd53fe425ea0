"""Files read whole or refused, and written whole or not at all; values as TOML."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from perfmodel.errors import BadValue, MalformedFile, MissingFile

MAX_BYTES = 2**20
"""Longer files are refused unread, unless a reader says otherwise."""


def existing_file(path: Path) -> Path:
    """``path`` if it is a file; raises MissingFile otherwise."""
    if os.path.isfile(path):  # noqa: PTH113 (unlike Path.is_file, False for any unusable path)
        return path
    msg, shown = "no such file", str(path)[:200]
    if os.path.isdir(path):  # noqa: PTH112
        msg = "is a folder, not a file"
    elif os.path.exists(path):  # noqa: PTH110
        msg = "is a device or pipe, not a file"
    raise MissingFile(f"{msg}: {shown}", field="file", fix="check the path")


def read_text(path: Path, *, max_bytes: int = MAX_BYTES) -> str:
    """A UTF-8 file of at most ``max_bytes``; a byte order mark is dropped.

    Raises:
        MissingFile, MalformedFile: as :func:`read_bytes`; not UTF-8.
    """
    try:
        return read_bytes(path, max_bytes=max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        refuse(path, "UTF-8 text", error)


def read_bytes(path: Path, *, max_bytes: int) -> bytes:
    """A file of at most ``max_bytes``.

    Raises:
        MissingFile: it cannot be opened.
        MalformedFile: it is larger.
    """
    try:
        with existing_file(path).open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise MissingFile(msg, fix="a file that you may read") from None
    if len(data) > max_bytes:
        msg = f"{path}: larger than {max_bytes} bytes"
        raise MalformedFile(msg, fix="a smaller file")
    return data


def read_json(path: Path, *, max_bytes: int = 16 * MAX_BYTES) -> dict[str, Any]:
    """A JSON file that holds an object, as a dictionary; NaN and infinities are refused.

    Raises:
        MissingFile: it cannot be opened.
        MalformedFile: larger than ``max_bytes``, not UTF-8, not JSON, or not an object.
    """
    text = read_text(path, max_bytes=max_bytes)
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        refuse(path, "JSON", error)
    if not isinstance(value, dict):
        msg = f"{path}: must hold a JSON object, got {type(value).__name__}"
        raise MalformedFile(msg, fix="put the fields between { and }")
    return value


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` beside ``path`` and move it there, so that a reader sees all or nothing.

    Raises:
        BadValue: it cannot be written there.
    """
    try:
        _write_beside(path, text)
    except OSError as error:
        _unwritable(path, error)


def check_writable(folder: Path) -> None:
    """Raise BadValue unless files can be made in ``folder``, which is made where it is absent:
    before long work, so that its result is not lost."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        _unwritable(folder, error)


def _unwritable(path: Path, error: OSError) -> NoReturn:
    msg = f"cannot write {str(path)[:200]}: {error.strerror}"
    raise BadValue(msg, field="out", fix="a folder that you may write to") from None


def _write_beside(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def toml_value(value: Any) -> str:
    """A string, number, boolean or list of these as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):  # JSON's escapes are TOML's, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return repr(value)


def toml_key(name: str) -> str:
    """A key as TOML writes it: bare where it may be."""
    return name if re.fullmatch(r"[A-Za-z0-9_]+", name) else toml_value(name)


def refuse(path: Path, what: str, error: Exception) -> NoReturn:
    """Raise MalformedFile: the file is not valid ``what``, as ``error`` says."""
    why = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
    if why.startswith("Exceeds the limit"):  # Python's, on digits
        why = "a whole number of more than 4300 digits"
    msg = f"{path}: not valid {what}: {why}"
    raise MalformedFile(msg, fix="check that the file is complete and its syntax") from None


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not a number"
    raise ValueError(msg)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand once each: of two values one would be lost in silence."""
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        msg = f"{next(n for n in names if names.count(n) > 1)[:60]!r} stands twice in one object"
        raise ValueError(msg)
    return table
