"""Damage that files and command lines meet: cut, swapped, repeated, hostile in value or shape."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

HOSTILE = (
    "", " ", "nan", "-nan", "inf", "-inf", "1e400", "-1", "0", "-0", "1e-400", "9" * 40, "0x10",
    "1.5", "true", "null", "[]", "{}", "4096 GB", "80 GiB", "3 parsecs", "../../../etc/passwd",
    "\x00", "\ufeff", "é" * 300, "a" * 10_000, "'; DROP TABLE", "{{7*7}}", "$(reboot)", "%s%n",
    "--",    "-", "=", "1,2,,3", "bf17", "llama", "h100", "\U0001f680", "2024-13-45", "1_000",
)  # fmt: skip
"""Text where a value should be."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, 1e-308, "", "x",
    [],    {}, [[]], {"a": {}}, [1, "two", None], "nan", "1e400", "a" * 5_000,
)  # fmt: skip
"""JSON values where another one should be."""

BURIED = "buried deep"
"""Stands for a value inside thousands of brackets, which the encoder cannot write itself."""

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """One to four wounds of a binary file."""
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(_WOUNDS)(data, rng)
    return data


def damaged_text(text: str, rng: random.Random) -> bytes:
    """One to three wounds of a text file; now and then it is no longer text."""
    for _ in range(rng.randint(1, 3)):
        text = rng.choice(_EDITS)(text, rng)
    data = text.encode("utf-8", "surrogatepass")
    return damaged_bytes(data, rng) if rng.random() < 0.15 else data


def damaged_json(tree: Any, rng: random.Random) -> bytes:
    """One to three nodes of a document replaced, removed, added or buried; or its text damaged."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.randint(1, 3)):
        tree = _hurt(tree, rng)
    depth = rng.randint(50, 5_000)
    text = json.dumps(tree).replace(json.dumps(BURIED), "[" * depth + "1" + "]" * depth)
    return damaged_text(text, rng) if rng.random() < 0.3 else text.encode()


def damaged_words(words: list[str], rng: random.Random) -> list[str]:
    """A command line with words dropped, repeated, swapped, spoilt or slipped in."""
    words = list(words)
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(len(words) + 1)
        kind = rng.randrange(6)
        if kind == 0 and len(words) > 1:
            del words[min(i, len(words) - 1)]
        elif kind == 1:
            words.insert(i, rng.choice(HOSTILE))
        elif kind == 2 and words:
            words.insert(i, rng.choice(words))
        elif kind == 3 and words:
            j = rng.randrange(len(words))
            i = min(i, len(words) - 1)
            words[i], words[j] = words[j], words[i]
        elif words:
            i = min(i, len(words) - 1)
            words[i] = _spoilt(words[i], rng)
    return words


def _spoilt(word: str, rng: random.Random) -> str:
    name, equals, _ = word.partition("=")
    if equals:
        return f"{name}={rng.choice(HOSTILE)}"
    if rng.random() < 0.5:
        return rng.choice(HOSTILE)
    return NUMBER.sub(lambda _: rng.choice(HOSTILE), word) if NUMBER.search(word) else word[::-1]


# ---------------------------------------------------------------- bytes


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return bytes(changed)


def _drop(data: bytes, rng: random.Random) -> bytes:
    i = rng.randrange(len(data) + 1)
    return data[:i] + data[i + rng.randint(1, 64) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    i = rng.randrange(len(data) + 1)
    return data[:i] + data[i : i + 256] * rng.randint(2, 20) + data[i:]


def _word(data: bytes, rng: random.Random) -> bytes:
    """A 32-bit word, as offsets and lengths of binary formats are, at its worst values."""
    i = rng.randrange(len(data) + 1) // 4 * 4
    value = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(data), len(data) * 2 % 2**32))
    return data[:i] + value.to_bytes(4, "little") + data[i + 4 :]


_WOUNDS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _cut,
    _flip,
    _flip,
    _drop,
    _repeat,
    _word,
    _word,
)


# ---------------------------------------------------------------- text


def _number(text: str, rng: random.Random) -> str:
    found = list(NUMBER.finditer(text))
    if not found:
        return text + rng.choice(HOSTILE)
    hit = rng.choice(found)
    return text[: hit.start()] + rng.choice(HOSTILE) + text[hit.end() :]


def _line(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    i = rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[i]
    elif kind == 1:
        lines.insert(i, lines[rng.randrange(len(lines))])
    elif kind == 2:
        lines[i] = rng.choice(HOSTILE) + "\n"
    else:
        cells = lines[i].split(",")
        cells[rng.randrange(len(cells))] = rng.choice(HOSTILE)
        lines[i] = ",".join(cells)
    return "".join(lines)


def _character(text: str, rng: random.Random) -> str:
    i = rng.randrange(len(text) + 1)
    return text[:i] + rng.choice("{}[]\"'=,:#\n\t\\\x00\u2028é") + text[i + rng.randrange(2) :]


_EDITS: tuple[Callable[[str, random.Random], str], ...] = (
    _number,
    _number,
    _line,
    _line,
    _character,
)


# ---------------------------------------------------------------- trees


def _hurt(tree: Any, rng: random.Random) -> Any:
    """Walk to a random node and damage it there."""
    if isinstance(tree, dict) and tree and rng.random() < 0.85:
        key = rng.choice(list(tree))
        kind = rng.random()
        if kind < 0.12:
            return {k: v for k, v in tree.items() if k != key}
        if kind < 0.2:
            return tree | {rng.choice(HOSTILE): rng.choice(VALUES)}
        return tree | {key: _hurt(tree[key], rng)}
    if isinstance(tree, list) and tree and rng.random() < 0.85:
        i = rng.randrange(len(tree))
        if rng.random() < 0.1:
            return tree * rng.randint(2, 30) if len(tree) < 100 else tree[:i]
        return [*tree[:i], _hurt(tree[i], rng), *tree[i + 1 :]]
    if rng.random() < 0.05:
        return BURIED
    return rng.choice(VALUES)
