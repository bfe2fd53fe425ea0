"""The CUDA sources of attention, run on the host: indices, layouts, barriers.

Asynchronous copies and products happen as late as they may there, and their targets are NaN until
then; a wrong stage, parity, swizzle or mask shows as NaN, as an error, or as a deadlock.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from refkernels._check import narrow_bf16, relative_rms, widen
from refkernels.attention import decode, device, naive
from refkernels.attention.cases import draw, draw_bytes, from_e4m3
from refkernels.attention.naive import Form
from refkernels.sigmoid_attention.device import FORMS, accurate_form
from refkernels.sigmoid_attention.device import RUNGS as SIGMOID

ROUNDED = {"bf16": 3e-3, "fp16": 4e-4}
"""One rounding of weights and one of outputs; a wrong index is off by tenths."""

MASKS = {
    "all keys": ((130, 300), Form()),
    "causal, fewer queries": ((130, 300), Form(causal=True)),
    "causal, rows without keys": ((200, 90), Form(causal=True)),
    "window": ((150, 150), Form(causal=True, window=20)),
    "window, not causal": ((65, 400), Form(window=70)),
    "one key": ((17, 1), Form()),
}


@pytest.fixture
def run_prefill(emulate, on_host, tile_map, monkeypatch):
    """Launches a rung as ``device`` would, on NumPy arrays; returns (o, lse)."""
    monkeypatch.setattr(device, "tensor_map", tile_map)

    def run(rung, q, k, v, form, dtype="bf16", q_starts=None, kv_starts=None, defines=None):
        wrapped = {n: on_host(x) for n, x in (("q", q), ("k", k), ("v", v))}
        out = np.full(q.shape, 0x7FC1, np.uint16)
        lse = np.full(q.shape[1::-1], np.nan, np.float32)
        wants = form.score == "softmax"
        bounds = [None if s is None else on_host(s) for s in (q_starts, kv_starts)]
        lens = [
            x.shape[0] if s is None else int(np.diff(s).max())
            for x, s in ((q, q_starts), (k, kv_starts))
        ]
        x = device.Operands(
            **wrapped,
            out=on_host(out),
            lse=on_host(lse) if wants else None,
            q_starts=bounds[0],
            kv_starts=bounds[1],
            sequences=1 if q_starts is None else len(q_starts) - 1,
            q_len=lens[0],
            kv_len=lens[1],
            form=form,
            dtype=dtype,
        )
        codes = device.base_defines(rung, x, defines or {})
        shape = device.shape_of(rung, x.head_dim, codes)
        kernel = emulate(rung.source, rung.entry, 3 * rung.hopper, codes)
        assert kernel.threads == shape.threads
        assert kernel.shared_bytes <= shape.smem <= 232448
        counters = np.zeros(2, np.uint32)
        params = device.problem(x, on_host(counters), section=2)
        blocks = -(-x.q_len // shape.tile_m)
        grid = (3,) if rung.persistent else (blocks, x.heads, x.sequences)
        tiles = ((wrapped["q"], 64), (wrapped["k"], shape.tile_n), (wrapped["v"], shape.tile_n))
        maps = [device._tile_map(t, rows) for t, rows in tiles] if rung.hopper else []
        kernel.run(grid, params, maps)
        assert (counters == 0).all()
        return widen(out, "bf16") if dtype == "bf16" else out.view(np.float16), lse

    return run


def drawn(rng, tokens, heads, width, dtype="bf16", loudness=1.0):
    return draw(rng, (tokens, heads, width), dtype, loudness).view(np.uint16)


def values(bits, dtype):
    return widen(bits, "bf16") if dtype == "bf16" else bits.view(np.float16)


def squash(rung, bias, kv_len, dtype="bf16"):
    """The define that the launcher would choose."""
    form = Form(score="sigmoid", bias=bias)
    x = SimpleNamespace(form=form, kv_len=kv_len, head_dim=64, dtype=dtype)
    return {"FORM": FORMS[accurate_form(rung, x)]}


def agrees(run, rung, lens, heads, form, width, dtype="bf16", loudness=1.0, defines=None):
    rng = np.random.default_rng(7)
    q = drawn(rng, lens[0], heads[0], width, dtype, loudness)
    k, v = (drawn(rng, lens[1], heads[1], width, dtype) for _ in range(2))
    o, lse = run(rung, q, k, v, form, dtype, defines=defines)
    exact, logs = naive.attend(*(values(x, dtype) for x in (q, k, v)), form)

    assert relative_rms(o, exact) < ROUNDED[dtype]
    if form.score == "softmax":
        seen = np.isfinite(logs)
        assert np.abs(np.where(seen, lse, 0) - np.where(seen, logs, 0)).max() < 1e-4
        assert np.isneginf(lse[~seen]).all()


def seldom(name, kept):
    """Each kernel takes seconds to build for the host: all but a few run in the long check only."""
    return name if name in kept else pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    "name", [seldom(n, ("01_mma_sync", "05_persistent")) for n in device.RUNGS]
)
def test_every_rung_computes_attention(run_prefill, name, mask):
    """Each rung agrees with the definition under every kind of mask, with grouped heads."""
    lens, form = MASKS[mask]
    agrees(run_prefill, device.RUNGS[name], lens, (2, 1), form, 64)


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("width", "dtype"), [(128, "bf16"), (256, "bf16"), (128, "fp16")])
def test_wide_heads(run_prefill, width, dtype, causal):
    """Two panels and four, both 16-bit types, with the tiles that the launcher picks."""
    rung = device.RUNGS["05_persistent"]
    agrees(run_prefill, rung, (140, 370), (1, 1), Form(causal=causal), width, dtype)


def test_loud_scores(run_prefill):
    """Scores of about +-80 neither overflow nor lose the maximum."""
    rung = device.RUNGS["05_persistent"]
    agrees(run_prefill, rung, (130, 300), (1, 1), Form(causal=True), 64, loudness=20.0)


@pytest.mark.parametrize("name", ["01_mma_sync", "05_persistent"])
def test_packed_sequences_do_not_meet(run_prefill, name):
    """Sequences of any length side by side, an empty one among them: each as if alone."""
    q_starts = np.array([0, 100, 100, 301, 302], np.int32)
    kv_starts = np.array([0, 130, 180, 381, 500], np.int32)
    rng, form = np.random.default_rng(1), Form(causal=True)
    q = drawn(rng, 302, 2, 64)
    k, v = (drawn(rng, 500, 1, 64) for _ in range(2))
    rung = device.RUNGS[name]

    o, lse = run_prefill(rung, q, k, v, form, q_starts=q_starts, kv_starts=kv_starts)
    exact, logs = naive.attend_packed(
        *(widen(x, "bf16") for x in (q, k, v)), form, q_starts, kv_starts
    )

    assert relative_rms(o, exact) < ROUNDED["bf16"]
    assert np.abs(lse - logs).max() < 1e-4


@pytest.mark.parametrize("name", [seldom(n, ("02_persistent",)) for n in SIGMOID])
@pytest.mark.parametrize("bias", [None, 0.0, 3.0, -9.0])
def test_sigmoid(run_prefill, name, bias):
    """Both rungs, in every branch of the weights: small ones, tiny ones, any, most near 1."""
    form = Form(causal=True, score="sigmoid", bias=bias)
    rung = SIGMOID[name]
    agrees(run_prefill, rung, (140, 500), (2, 1), form, 64, defines=squash(rung, bias, 500))


def test_sigmoid_where_small_weights_were_expected(run_prefill):
    """A bias that promises small weights, and scores of +-80 that break it."""
    form = Form(score="sigmoid", bias=-9.0)
    rung = SIGMOID["02_persistent"]
    codes = squash(rung, -9.0, 300)
    agrees(run_prefill, rung, (70, 300), (1, 1), form, 64, loudness=20.0, defines=codes)


@pytest.mark.parametrize("lens", [(70, 300), (400, 129)])
def test_sigmoid_where_balanced_weights_were_expected(run_prefill, lens):
    """A bias of 0 and rows of weights of 1e-3 and less: their tiles are computed again."""
    rng = np.random.default_rng(3)
    q, k = (np.abs(rng.standard_normal((n, 1, 64))).astype(np.float32) for n in lens)
    q[: lens[0] // 2] *= -0.6
    q, k, v = (narrow_bf16(x) for x in (q, k, rng.standard_normal(k.shape).astype(np.float32)))
    form = Form(score="sigmoid", bias=0.0)
    rung = SIGMOID["02_persistent"]
    o, _ = run_prefill(rung, q, k, v, form, defines=squash(rung, 0.0, lens[1]))
    exact, _ = naive.attend(*(widen(x, "bf16") for x in (q, k, v)), form)
    small = slice(0, lens[0] // 2)

    assert relative_rms(o[small], exact[small]) < ROUNDED["bf16"]
    assert relative_rms(o, exact) < ROUNDED["bf16"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "tanh", "general"])
def test_sigmoid_in_fp16_keeps_small_weights(run_prefill, name):
    """Weights of 1/n lie where fp16 loses digits; they travel scaled up."""
    form, codes = Form(score="sigmoid"), {"FORM": FORMS[name]}
    rung = SIGMOID["02_persistent"]
    agrees(run_prefill, rung, (64, 4000), (1, 1), form, 64, "fp16", defines=codes)


# ---------------------------------------------------------------- decoding


@pytest.fixture
def run_decode(emulate, on_host):
    """Launches decoding as ``decode`` would, on NumPy arrays; returns (o, lse)."""

    def run(
        q,
        k,
        v,
        form,
        ctas,
        dtype="bf16",
        kv_dtype="bf16",
        layout="bshd",
        **optional,
    ):
        out = np.full(q.shape, 0x7FC1, np.uint16)
        lse = np.full((q.shape[2], q.shape[0], q.shape[1]), np.nan, np.float32)
        names = ("lengths", "table", "k_scale", "v_scale")
        found = {n: optional.get(n) for n in names}
        x = decode.DecodeOperands(
            q=on_host(q),
            k=on_host(k),
            v=on_host(v),
            out=on_host(out),
            lse=on_host(lse),
            **{n: None if a is None else on_host(a) for n, a in found.items()},
            layout=layout,
            form=form,
            dtype=dtype,
            kv_dtype=kv_dtype,
        )
        decode._check(x)
        codes = decode.decode_defines(x)
        kernel = emulate("attention/decode_split_kv.cu", "attention_decode", 0, codes)
        assert kernel.shared_bytes <= decode.shared_bytes(codes, kv_dtype) <= 232448
        assert kernel.threads == 32 * decode.tile_shape(q.shape[3], kv_dtype)[1]
        letters = np.full(decode.letters_shape(codes, ctas), decode.NO_SUM, np.float32)
        params = decode._problem(x, on_host(letters), decode.row_groups(x, codes))
        kernel.cluster = ctas  # resident together
        kernel.run((ctas,), params)
        assert (letters[..., 3] == decode.NO_SUM).all()
        return widen(out, "bf16") if dtype == "bf16" else out.view(np.float16), lse

    return run


def paged(rng, x, size):
    """``x`` [sequences, tokens, ...] cut into pages in random order, and the table."""
    count = -(-x.shape[1] // size)
    padded = np.zeros((x.shape[0], count * size, *x.shape[2:]), x.dtype)
    padded[:, : x.shape[1]] = x
    order = rng.permutation(x.shape[0] * count)
    pages = np.empty((order.size, size, *x.shape[2:]), x.dtype)
    pages[order] = padded.reshape(order.size, size, *x.shape[2:])
    return pages, order.reshape(x.shape[0], count).astype(np.int32), order


DECODES = {
    "one sequence, several CTAs": {"lens": (700,), "ctas": 5},
    "ragged, more lists than CTAs": {"lens": (700, 1, 333), "ctas": 3},
    "no keys at all": {"lens": (300, 0), "ctas": 4},
    "one length, two CTAs to a list": {"lens": (300, 300), "ctas": 9},
    "one length, two lists to a CTA": {"lens": (130,) * 4, "ctas": 4},
    "one length, cut anywhere": {"lens": (300,) * 3, "ctas": 4},
    "no lengths given": {"lens": (300, 300), "ctas": 8, "given": False},
    "three queries": {"lens": (200, 65), "q_len": 3, "ctas": 7},
    "two strips": {"lens": (400, 65), "q_len": 16, "ctas": 4},
    "window": {"lens": (1000, 65), "q_len": 2, "window": 100, "ctas": 4},
    "more CTAs than units": {"lens": (700, 65), "ctas": 40},
    "pages of 16": {"lens": (300, 65), "page": 16, "ctas": 4},
    "pages of 64": {"lens": (300, 65), "page": 64, "ctas": 1},
    "more pages than lanes": {"lens": (4500,), "page": 16, "width": 64, "ctas": 1},
    "heads before tokens": {"lens": (300, 65), "layout": "bhsd", "ctas": 4},
    "narrow heads": {"lens": (300, 65), "width": 64, "ctas": 4},
    "wide heads": {"lens": (300, 65), "width": 256, "ctas": 4},
    "e4m3": {"lens": (300, 165), "kv_dtype": "fp8", "ctas": 3},
    "e4m3, narrow heads, pages": {
        "lens": (300, 165),
        "kv_dtype": "fp8",
        "width": 64,
        "page": 16,
        "ctas": 3,
    },
    "int8": {"lens": (300, 165), "kv_dtype": "int8", "q_len": 5, "ctas": 3},
    "int8, fp16 queries": {
        "lens": (300, 165),
        "kv_dtype": "int8",
        "dtype": "fp16",
        "width": 256,
        "ctas": 3,
    },
}


QUICK = (
    "one sequence, several CTAs",
    "more CTAs than units",
    "ragged, more lists than CTAs",
    "no keys at all",
    "one length, two CTAs to a list",
    "one length, two lists to a CTA",
    "one length, cut anywhere",
    "no lengths given",
    "three queries",
    "window",
    "pages of 16",
    "pages of 64",
    "more pages than lanes",
    "heads before tokens",
    "e4m3, narrow heads, pages",
)


@pytest.mark.parametrize("name", [seldom(n, QUICK) for n in DECODES])
def test_decoding(run_decode, name):
    """Every list of keys, however it is cut into shares, pages and bytes, gives the definition."""
    c = SimpleNamespace(
        q_len=1,
        width=128,
        window=None,
        page=0,
        layout="bshd",
        kv_dtype="bf16",
        dtype="bf16",
        given=True,
    )
    c.__dict__.update(DECODES[name])
    rng, (heads, kv_heads) = np.random.default_rng(3), (8, 2)
    longest, n = max(c.lens), len(c.lens)
    q = draw(rng, (n, c.q_len, heads, c.width), c.dtype).view(np.uint16)
    shape = (n, longest, kv_heads, c.width)
    scale = np.array([0.02, 0.03], np.float32)
    if c.kv_dtype == "bf16":
        k, v = (narrow_bf16(rng.standard_normal(shape)) for _ in range(2))
        exact_kv = [widen(x, "bf16").astype(np.float64) for x in (k, v)]
    else:
        k, v = (draw_bytes(rng, shape, c.kv_dtype) for _ in range(2))
        decoded = from_e4m3 if c.kv_dtype == "fp8" else np.float64
        exact_kv = [decoded(x) * scale[:, None] for x in (k, v)]
    optional = {"k_scale": scale, "v_scale": scale}
    if c.given:
        optional["lengths"] = np.array(c.lens, np.int32)
    if c.page:
        k, optional["table"], order = paged(rng, k, c.page)
        padded = np.zeros((n, optional["table"].shape[1] * c.page, *shape[2:]), v.dtype)
        padded[:, :longest] = v
        v = np.empty_like(k)
        v[order] = padded.reshape(order.size, c.page, *shape[2:])
    if c.layout == "bhsd":
        k, v = (np.ascontiguousarray(x.transpose(0, 2, 1, 3)) for x in (k, v))
    form = Form(causal=True, window=c.window)

    o, lse = run_decode(q, k, v, form, c.ctas, c.dtype, c.kv_dtype, c.layout, **optional)

    for i, length in enumerate(c.lens):
        keys, vals = (x[i, :length] for x in exact_kv)
        exact, logs = naive.attend(values(q[i], c.dtype), keys, vals, form)
        assert relative_rms(o[i], exact) < ROUNDED[c.dtype]
        seen = np.isfinite(logs)
        assert np.isneginf(lse[:, i][~seen]).all()
        assert not seen.any() or np.abs(lse[:, i][seen] - logs[seen]).max() < 1e-4


@pytest.mark.slow
def test_a_second_run_of_other_shares_differs_by_rounding_only(run_decode):
    """Cutting the same keys among more CTAs changes the order of sums, not the result."""
    rng = np.random.default_rng(5)
    q = draw(rng, (1, 1, 4, 64), "bf16")
    k, v = (draw(rng, (1, 900, 1, 64), "bf16") for _ in range(2))
    one, many = (run_decode(q, k, v, Form(causal=True), ctas)[0] for ctas in (1, 6))

    assert relative_rms(one, many.astype(np.float64)) < ROUNDED["bf16"]
