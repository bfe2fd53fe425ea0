"""Whatever is done to a spec file, it loads or ends in one typed error; what loads survives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel import catalog
from perfmodel.errors import MalformedFile
from perfmodel.hw.load import read_device
from perfmodel.hw.write import to_toml

TEMPLATE = (catalog.shipped_dir() / "hw" / "_template.toml").read_text()
WORDS = st.sampled_from(
    ["-1", "nan", '"1 parsec"', "[]", "{}", "true", '"', "\x00", "1e400", "9" * 400, "\U0001f600"]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("specs")


def read(folder, text):
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return read_device(path)


def refusal(folder, text):
    """The MalformedFile that ``text`` ends in, or None; anything else escapes."""
    try:
        read(folder, text)
    except MalformedFile as error:
        return error
    return None


@given(cut=st.integers(0, len(TEMPLATE)), junk=st.one_of(st.just(""), WORDS, st.text(max_size=5)))
def test_truncated_or_littered(folder, cut, junk):
    """A file cut anywhere, with anything in place of the rest, never raises but MalformedFile."""
    error = refusal(folder, TEMPLATE[:cut] + junk)
    assert error is None or (error.fix and "mine.toml" in str(error))


@given(line=st.integers(0, TEMPLATE.count("\n")), value=WORDS)
def test_any_value_replaced(folder, line, value):
    """Any value replaced by something absurd never raises but MalformedFile."""
    lines = TEMPLATE.split("\n")
    key, equals, _ = lines[line].partition("=")
    lines[line] = f"{key}{equals} {value}" if equals else lines[line]
    error = refusal(folder, "\n".join(lines))
    assert error is None or (error.fix and "mine.toml" in str(error))


FIGURE = st.floats(min_value=1e-3, max_value=1e6, allow_nan=False)
WORD = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    lambda s: s.strip() == s
)


@given(
    title=WORD,
    source=WORD,
    condition=WORD,
    units=st.integers(1, 10_000),
    clock=FIGURE,
    size=FIGURE,
    read_fraction=st.floats(0.01, 1.0),
)
def test_round_trip(folder, title, source, condition, units, clock, size, read_fraction):
    """TOML -> device -> TOML -> device is the identity on devices."""
    import json

    def quoted(text):
        return json.dumps(text, ensure_ascii=False)

    text = f"""
title = {quoted(title)}
kind = "gpu"
vendor = "V"
architecture = "x"
source = {quoted(source)}
os_reserve = "1 GiB"
[compute]
units = {units}
clock_vector = "{clock!r} GHz"
[compute.vector]
fp32.fp32 = {{ per_clk = {{ value = 2, condition = {quoted(condition)} }} }}
[memory.dram]
capacity = {{ value = "{size!r} GiB", verified = false, reason = {quoted(condition)} }}
[measured]
dram_read_fraction = {read_fraction!r}
"""
    device = read(folder, text)
    assert device.title == title
    assert read(folder, to_toml(device)) == device
