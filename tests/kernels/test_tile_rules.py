"""The model cuts attention and int8 products as the launchers do: tiles, steps, strips, forms."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.hw.load import load_device
from perfmodel.roofline.classes import own_attention as rules
from perfmodel.roofline.classes.own_gemm import (
    GEMM_PAIRED,
    GEMM_ROWS,
    GEMM_SQUARE,
    GEMM_WARPS,
    GEMM_WIDE,
    WEIGHT_ROWS,
)
from perfmodel.roofline.model import Run
from perfmodel.roofline.parameters import class_of_kernel
from perfmodel.workload import Attention, Gemm
from refkernels.attention import decode, device
from refkernels.attention.naive import Form
from refkernels.sigmoid_attention import device as sigmoid

H200 = load_device("h200-sxm")
RUNG = device.RUNGS["05_persistent"]
widths = st.sampled_from([64, 128, 256])
lengths = st.integers(1, 20_000)


@st.composite
def prompts(draw):
    """A few queries or many, at the end of as many keys or more; masks and windows."""
    q_len, causal = draw(lengths), draw(st.booleans())
    return Attention(
        batch=draw(st.integers(1, 4)), q_len=q_len, kv_len=q_len + draw(st.sampled_from([0, 1000])),
        heads=draw(st.sampled_from([1, 16])), head_dim=draw(widths), causal=causal,
        window=draw(st.sampled_from([None, 128, 4096])) if causal else None,
    )  # fmt: skip


def form_of(w):
    """The mask of a workload as launchers take it."""
    return Form(causal=w.causal, window=w.window)


def steps_of(w, rows, keys):
    """Blocks of keys that tiles of queries need, one tile after another (schedule.cuh)."""
    found = []
    for first in range(0, w.q_len, rows):
        last = min(first + rows, w.q_len) - 1
        shift = w.kv_len - w.q_len
        end = min(w.kv_len, last + 1 + shift) if w.causal else w.kv_len
        begin = max(0, first + 1 + shift - w.window) if w.window else 0
        found.append(-(-end // keys) - begin // keys)
    return found


@given(w=prompts())
def test_tiles_of_a_prefill(w):
    """base_defines and shape_of; the steps of all tiles within one of each."""
    x = SimpleNamespace(head_dim=w.head_dim, dtype=w.dtype, form=form_of(w), kv_len=w.kv_len)
    codes = device.base_defines(RUNG, x, {})
    shape = device.shape_of(RUNG, w.head_dim, codes)
    found, heads = rules.tiles_of(w), w.batch * w.heads
    assert (found.rows, found.keys) == (shape.tile_m, shape.tile_n)
    steps = steps_of(w, shape.tile_m, shape.tile_n)
    assert found.count == heads * len(steps)
    assert abs(found.steps - heads * sum(steps)) <= heads * len(steps)
    assert abs(found.longest - max(steps)) <= 1
    assert abs(found.shortest - min(steps)) <= 1


@given(tiles=st.integers(1, 64), width=widths, causal=st.booleans())
def test_whole_tiles_are_counted_exactly(tiles, width, causal):
    """No end is ragged and no diagonal crosses a step."""
    w = Attention(batch=1, q_len=384 * tiles, kv_len=384 * tiles, heads=1, head_dim=width,
                  causal=causal)  # fmt: skip
    found = rules.tiles_of(w)
    if found.rows % found.keys == 0 or (not causal and w.kv_len % found.keys == 0):
        assert found.steps == sum(steps_of(w, int(found.rows), int(found.keys)))


@given(q_len=st.integers(1, 16), group=st.sampled_from([1, 4, 8]), width=widths)
def test_strips_of_decoding(q_len, group, width):
    """decode_defines, and the lists that a sequence's rows make."""
    w = Attention(batch=3, q_len=q_len, kv_len=5000, heads=2 * group, kv_heads=2, head_dim=width)
    x = SimpleNamespace(
        q=SimpleNamespace(shape=(3, q_len, 2 * group, width)), kv_heads=2, kv_dtype="bf16",
        dtype="bf16", lengths=None, table=None,
    )  # fmt: skip
    strips = decode.decode_defines(x)["STRIPS"]
    found = rules.shares_of(w, H200)
    assert found.strips == strips
    assert found.rows == min(q_len * group, 16 * strips)


@given(kv_len=lengths)
def test_the_form_of_a_sigmoid_follows_its_keys(kv_len):
    """accurate_form of the usual bias: one special function where weights are small or large."""
    x = SimpleNamespace(form=Form(score="sigmoid"), kv_len=kv_len, dtype="bf16", head_dim=128)
    form = sigmoid.accurate_form(sigmoid.RUNGS["02_persistent"], x)
    w = Attention(batch=1, q_len=1, kv_len=kv_len, heads=1, head_dim=128, score="sigmoid")
    assert (rules.by_keys(w) == 1.0) == (form != "general")


def columns(root, name):
    """Columns of a rung's tile, as its source states them."""
    source = (root / "cuda" / "int8_gemm" / f"{name}.cu").read_text(encoding="utf-8")
    found = re.search(r"kTileN = (\d+);", source)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("name", ["02_mma_sync", "03_wgmma_tma", "04_warp_specialised",
                                  "05_cluster_multicast"])  # fmt: skip
def test_every_rung_has_the_tile_of_its_class(name, root):
    """The class's columns are the source's."""
    cls = class_of_kernel("gemm", f"refkernels.int8_gemm/{name}")
    model = {m.name: m for m in (GEMM_WARPS, GEMM_SQUARE, GEMM_WIDE, GEMM_PAIRED)}[str(cls)]
    w = Gemm(m=4096, n=4096, k=4096, dtype="int8")
    assert model.predict(w, H200, model.start, Run()).details["tile_cols"] == columns(root, name)


def test_few_rows_stream_tiles_of_weights(root):
    """Rung 6 puts weights where others have columns."""
    assert class_of_kernel("gemm", "refkernels.int8_gemm/06_skinny") == GEMM_ROWS.name
    assert columns(root, "06_skinny") == WEIGHT_ROWS
