"""Header comments are read strictly; includes are followed."""

from __future__ import annotations

import pytest

from perfmodel.errors import MalformedFile, MissingFile
from refkernels._sources import (
    SourceSpec,
    included_headers,
    kernel_source,
    read_spec,
    source_digest,
)


def written(tmp_path, text):
    path = tmp_path / "k.cu"
    path.write_text(text)
    return path


def test_every_key(tmp_path):
    """All keys of a header comment, with variants and options, up to the first line of code."""
    path = written(
        tmp_path,
        "// A kernel: prose with a colon.\n//\n// arch: sm_80 sm_90a\n// registers: 168\n"
        "// threads: 384\n// dynamic_smem: 200704\n// cluster: 2\n// options: -ftz=true\n"
        "// defines: N=64 KIND=1\n// defines: N=128 KIND=2\nint x;\n// registers: 1\n",
    )

    assert read_spec(path) == SourceSpec(
        archs=("sm_80", "sm_90a"),
        registers=168,
        threads=384,
        dynamic_smem=200704,
        cluster=2,
        options=("-ftz=true",),
        variants=((("N", "64"), ("KIND", "1")), (("N", "128"), ("KIND", "2"))),
    )


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("// no promises\n", "arch"),
        ("// arch: hopper\n", "arch"),
        ("// arch: sm_80\n// registers: many\n", "registers"),
        ("// arch: sm_80\n// defines: N\n", "defines"),
    ],
)
def test_a_bad_header_names_the_field(tmp_path, text, field):
    """A missing or malformed promise is refused, naming its key."""
    with pytest.raises(MalformedFile) as caught:
        read_spec(written(tmp_path, text))

    assert caught.value.field == field


def test_includes_are_followed():
    """A header included by a header counts, once."""
    names = [h.name for h in included_headers(kernel_source("roofs/bulk.cu"))]

    assert names == ["barrier.cuh", "tma.cuh", "types.cuh", "stopwatch.cuh"]


def test_digest_covers_the_source(tmp_path):
    """Another source, another digest."""
    one = source_digest(written(tmp_path, "// arch: sm_80\nint x;\n"))

    assert one != source_digest(written(tmp_path, "// arch: sm_80\nint y;\n"))


def test_missing_files_are_named(tmp_path):
    """An include or a source that does not exist is named."""
    with pytest.raises(MissingFile, match=r"absent\.cuh"):
        included_headers(written(tmp_path, '#include "absent.cuh"\n'))
    with pytest.raises(MissingFile, match=r"roofs/absent\.cu"):
        kernel_source("roofs/absent.cu")
