"""Attention's definition, its CPU kernel, what its launchers refuse, and its gates on a device."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from perfmodel.errors import BadValue
from refkernels._check import narrow_bf16, relative_rms, widen
from refkernels._compile import compile_kernel
from refkernels._sources import data_dir, kernel_source
from refkernels.attention import bench, decode, device, naive, timed
from refkernels.attention.cases import draw_bytes, from_e4m3, random_cases, random_decodes
from refkernels.attention.naive import Form
from refkernels.attention.problem import HostProblem
from refkernels.sigmoid_attention.device import RUNGS as SIGMOID
from refkernels.sigmoid_attention.device import accurate_form
from refkernels.sigmoid_attention.naive import attend_sigmoid, sigmoid_form, weights


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# ---------------------------------------------------------------- the definition


def test_softmax_by_hand():
    """Scores 0 and ln 3 give weights 1/4 and 3/4; lse = ln 4."""
    q, k = np.array([[[1.0]]]), np.array([[[0.0]], [[math.log(3)]]])
    v = np.array([[[4.0]], [[8.0]]])

    o, lse = naive.attend(q, k, v, Form(scale=1.0))

    assert o[0, 0, 0] == pytest.approx(7.0)
    assert lse[0, 0] == pytest.approx(math.log(4))


def test_sigmoid_by_hand():
    """Score ln 3 with bias 0 weighs 3/4; bias -ln 3 makes it 1/2; the default is -ln n."""
    q, k, v = (np.array([[[x]]]) for x in (1.0, math.log(3), 8.0))
    for bias, expected in ((0.0, 6.0), (-math.log(3), 4.0), (None, 6.0)):
        o = attend_sigmoid(q, k, v, sigmoid_form(scale=1.0, bias=bias))
        assert o[0, 0, 0] == pytest.approx(expected)
    two = [np.concatenate((x, x)) for x in (k, v)]
    # bias -ln 2: 1 / (1 + 2/3) = 0.6 each
    assert attend_sigmoid(q, *two, sigmoid_form(scale=1.0))[0, 0, 0] == pytest.approx(9.6)


def test_the_last_query_sees_all_keys_and_the_first_the_oldest():
    """Bottom-right: 2 queries of 4 keys see 3 and 4; with a window of 2, keys 1-2 and 2-3."""
    causal = naive.visible(2, 4, Form(causal=True))
    window = naive.visible(2, 4, Form(causal=True, window=2))

    assert causal.tolist() == [[True, True, True, False], [True] * 4]
    assert window.tolist() == [[False, True, True, False], [False, False, True, True]]


def test_a_query_before_all_keys_sees_nothing():
    """3 queries of 1 key: only the last sees it; the others are 0 and -inf."""
    o, lse = naive.attend(normal(3, 1, 4), normal(1, 1, 4), normal(1, 1, 4), Form(causal=True))

    assert (o[:2] == 0).all()
    assert np.isneginf(lse[0, :2]).all()
    assert np.isfinite(lse[0, 2])


def test_grouped_heads_share_keys():
    """Query heads 0 and 1 use KV head 0, heads 2 and 3 KV head 1."""
    q, k, v = normal(5, 4, 8), normal(9, 2, 8, seed=1), normal(9, 2, 8, seed=2)
    whole = naive.attend(q, k, v, Form())[0]
    for head in range(4):
        pick = slice(head // 2, head // 2 + 1)
        alone = naive.attend(q[:, head : head + 1], k[:, pick], v[:, pick], Form())[0]
        assert np.allclose(whole[:, head : head + 1], alone, rtol=1e-14)


def test_packed_sequences_are_alone():
    """Packing changes nothing."""
    q, k, v = normal(7, 2, 4), normal(9, 2, 4, seed=1), normal(9, 2, 4, seed=2)
    o, _ = naive.attend_packed(q, k, v, Form(causal=True), (0, 3, 7), (0, 5, 9))

    assert (o[3:] == naive.attend(q[3:], k[5:], v[5:], Form(causal=True))[0]).all()


def test_pages_are_gathered_in_order():
    """Page 2 then page 0, cut at the length."""
    pages = np.arange(3 * 4).reshape(3, 4, 1, 1)

    assert naive.gather_pages(pages, np.array([2, 0]), 6).ravel().tolist() == [8, 9, 10, 11, 0, 1]


def test_operands_that_do_not_fit_are_refused():
    """Each mismatch is named."""
    q, k = np.zeros((1, 3, 8)), np.zeros((1, 2, 8))
    with pytest.raises(BadValue, match="3 heads"):
        naive.attend(q, k, k, Form())
    with pytest.raises(BadValue, match="keys have shape"):
        naive.attend(q, k, k[..., :4], Form())


def test_e4m3_by_hand():
    """0x38 is 1; 0x7e is 448, the largest; 0x01 is 2**-9, the smallest; bit 7 is the sign."""
    assert from_e4m3(np.array([0x38, 0x7E, 0x01, 0xB8, 0x80], np.uint8)).tolist() == [
        1.0,
        448.0,
        2.0**-9,
        -1.0,
        -0.0,
    ]


def test_drawn_bytes_are_moderate():
    """Magnitudes of e4m3 stay below 4; int8 stays symmetric."""
    rng = np.random.default_rng(0)

    assert np.abs(from_e4m3(draw_bytes(rng, (1000,), "fp8"))).max() < 4
    assert draw_bytes(rng, (1000,), "int8").min() >= -127


# ---------------------------------------------------------------- the sigmoid's forms


def test_accurate_weights_are_accurate_weight_by_weight():
    """One and two terms stay within their bounds; the polynomials are within 2**-14 and 2**-11.4.

    The steps of cuda/sigmoid_attention/weights.cuh; ex2 and rcp add some 2**-22.
    """
    header = (data_dir("cuda") / "sigmoid_attention" / "weights.cuh").read_text()
    coefficients = [np.float32(c) for c in re.findall(r"(-?0\.\d{8})f", header)]
    assert len(coefficients) == 17
    y = np.linspace(-40, 20, 600_001).astype(np.float32)
    exact = 1 / (1 + np.exp2(-y.astype(np.float64)))
    packed = widen(narrow_bf16(np.exp2(y)), "bf16")
    two = widen(narrow_bf16(packed - packed * packed), "bf16")
    a = np.exp2(-np.abs(y))
    for terms, bits in ((coefficients[:6], 14), (coefficients[6:11], 11.6)):
        polynomial = np.polyval(terms, a) * np.where(y < 0, a, 1)
        assert np.abs(polynomial / exact - 1).max() < 2.0**-bits
    modest = ((coefficients[11:14], 2.0**-3, 14), (coefficients[14:], 2.0**-2, 11.4))
    for terms, bound, bits in modest:
        e = np.exp2(y)[y < np.log2(bound)]
        assert np.abs(np.polyval(terms, e) * (1 + e) - 1).max() < 2.0**-bits

    assert np.abs(two / exact - 1)[packed < 2.0**-6].max() < 2.0**-7
    assert np.abs(packed / exact - 1)[packed < 2.0**-8].max() < 1.5 * 2.0**-8


def test_balanced_weights_err_by_one_rounding_of_their_sum():
    """An absolute error of 2**-12 a weight is 2**-8 of a row's weights if they are 1/16 each.

    Eight of every 32 columns are summed, so the test may fail a row that would do, never pass one
    that does not.
    """
    rng = np.random.default_rng(2)
    for spread, offset in ((1.0, 0.0), (1.0, -3.0), (20.0, 0.0), (0.1, -2.8), (5.0, -20.0)):
        x = rng.normal(offset, spread, (200, 1024))
        exact = 1 / (1 + np.exp(-x))
        part = exact.reshape(200, -1, 32)[:, :, :8].sum((1, 2))
        passes = 16 * part >= x.shape[1]
        error = 2.0**-12 * x.shape[1] / exact.sum(1)
        assert (error[passes] <= 2.0**-8).all()
        assert passes.all() == (offset == 0.0)


def test_the_launcher_picks_the_form_by_the_bias():
    """-log n is modest from 404 keys on and small from 2981; 0 is balanced where tiles can be
    handed out again, and halved where the scale is a power of two."""
    cases = [
        ("02_persistent", None, 2981, 128, "bf16", "small"),
        ("02_persistent", None, 2980, 128, "bf16", "modest"),
        ("02_persistent", None, 404, 128, "bf16", "modest"),
        ("02_persistent", None, 403, 128, "bf16", "general"),
        ("02_persistent", 0.0, 64, 128, "bf16", "balanced"),
        ("02_persistent", 0.0, 64, 64, "bf16", "halved"),
        ("02_persistent", 0.0, 64, 256, "bf16", "halved"),
        ("02_persistent", 1.0, 64, 64, "bf16", "balanced"),
        ("02_persistent", None, 1, 64, "bf16", "balanced"),
        ("02_persistent", 0.0, 64, 64, "fp16", "general"),
        ("01_mma_sync", 0.0, 64, 64, "bf16", "general"),
        ("02_persistent", -3.0, 64, 64, "bf16", "general"),
    ]
    for rung, bias, kv_len, width, dtype, form in cases:
        x = SimpleNamespace(
            form=sigmoid_form(bias=bias), kv_len=kv_len, head_dim=width, dtype=dtype
        )
        assert accurate_form(SIGMOID[rung], x) == form


def test_weights_of_the_definition_are_about_one_over_n():
    """With the default bias and small scores a weight is 1 / (1 + n)."""
    w = weights(np.zeros((1, 8)), np.zeros((100, 8)), sigmoid_form())

    assert w == pytest.approx(np.full((1, 100), 1 / 101))


# ---------------------------------------------------------------- the CPU kernel


@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
@pytest.mark.parametrize("window", [None, 1, 40])
@pytest.mark.parametrize("causal", [False, True])
def test_host_kernel_is_the_definition(score, window, causal):
    """Lengths around the tiles, grouped heads, loud scores, packed sequences."""
    pytest.importorskip("numba")
    from refkernels.attention.host import flash_attention

    form = Form(causal=causal, window=window, score=score)
    bounds = (np.array([0, 33, 33, 130]), np.array([0, 65, 100, 231]))
    q = normal(130, 4, 64).astype(np.float32) * 10
    k, v = (normal(231, 2, 64, seed=s).astype(np.float32) for s in (1, 2))

    o, lse = flash_attention(q, k, v, form, *bounds)
    exact, logs = naive.attend_packed(q, k, v, form, *bounds)

    assert relative_rms(o, exact) < 1e-5
    seen = np.isfinite(logs)
    assert (np.isfinite(lse) == seen).all()
    assert not seen.any() or np.abs(lse[seen] - logs[seen]).max() < 1e-3


def test_host_gate_sees_a_wrong_key():
    """The registered problem's gate turns red if the result is another sequence's."""
    pytest.importorskip("numba")
    problem = HostProblem(replace(timed.prefill(64)[0], batch=1, heads=2, kv_heads=2), 0, 1)
    assert problem.gate().passed
    problem.inputs[0][1] = problem.inputs[0][1][::-1].copy()
    right = problem.out
    problem.run(0)

    assert relative_rms(problem.out, right.astype(np.float64)) > 0.1


# ---------------------------------------------------------------- launchers and cases


def test_random_cases_meet_every_hard_length():
    """300 shapes hold lengths 1, 17, 63 and 1025, unequal lengths, windows of 1, loud scores."""
    cases = list(random_cases(300, 1))

    lengths = {n for c in cases for n in (*c.q_lens, *c.kv_lens)}
    assert {1, 17, 63, 1025} <= lengths
    assert any(c.q_lens != c.kv_lens for c in cases)
    assert any(c.form.window == 1 for c in cases)
    assert any(c.form.window == max(c.kv_lens) for c in cases)
    assert any(c.packed for c in cases)
    assert sum(c.loudness > 1 for c in cases) >= 50
    assert all(c.heads % c.kv_heads == 0 for c in cases)


def test_random_decodes_stay_within_what_a_launch_takes():
    """1 to 16 queries, both layouts, pages or none."""
    cases = list(random_decodes(300, 3))

    assert {c.page for c in cases} == {0, 16, 64}
    assert {c.layout for c in cases} == {"bshd", "bhsd"}
    assert {c.q_len for c in cases} == {1, 2, 5, 16}


def test_tiles_are_as_wide_as_they_may_be():
    """176 keys where neither padding nor the diagonal wastes them, and all tiles fit."""
    assert device.tile_keys(128, Form(), 4096) == 176
    assert device.tile_keys(128, Form(), 1024) == 128
    assert device.tile_keys(128, Form(causal=True), 4096) == 128
    assert device.tile_keys(128, Form(causal=True), 16384) == 176
    for rung in device.RUNGS.values():
        for width in device.HEAD_DIMS:
            for codes in device.tile_choices(rung, width):
                shape = device.shape_of(rung, width, codes)
                assert shape.smem <= 232448
                assert shape.threads % 128 == 0


@pytest.mark.parametrize(("sequences", "kv_len"), [(1, 16384), (16, 1024), (7, 3000), (1, 400_000)])
@pytest.mark.parametrize("heads", [(16, 16), (16, 4), (5, 1)])
def test_sections_are_whole_and_stay_in_half_of_the_cache(sequences, kv_len, heads):
    """A section divides all pairs of sequence and head; its keys fit, if those of one pair do."""
    x = SimpleNamespace(
        heads=heads[0], kv_heads=heads[1], sequences=sequences, kv_len=kv_len, head_dim=128
    )
    section = device.section_of(x, 50 * 2**20)

    assert heads[0] * sequences % section == 0
    pair_bytes = 4 * kv_len * 128 * heads[1] / heads[0]
    assert section == 1 or section * pair_bytes <= 25 * 2**20


def test_the_benchmark_measures_enough_shapes():
    """At least 150 different workloads of prefill, decoding and sigmoid, with either bias."""
    shapes = [*timed.decodes(), *timed.other_prefills(), *timed.grouped_prefills()]
    grid = [w for d in (64, 128, 256) for w in timed.prefill(d)]
    shapes += [*grid, *(replace(w, score="sigmoid") for w in grid)]
    keys = {str(w.to_dict()) for w in shapes}

    assert len(keys) == len(shapes)
    assert len(keys) + len(grid) >= 150


def test_counted_work_is_that_of_the_workload():
    """FLOPs and bytes as the model counts them, up to the diagonal's half block."""
    from perfmodel.ops import count

    for w in (*timed.prefill(128), *timed.decodes(), *timed.other_prefills()):
        cost = count(w)
        assert timed.moved_bytes(w) == pytest.approx(float(cost.bytes_total), rel=0.5)
        if int(w.q_len) == 1 or not w.causal:
            continue
        assert timed.flops_of(w) == pytest.approx(float(cost.flops_total), rel=0.2)


def test_every_launch_is_a_compiled_variant():
    """What the benchmark compiles ahead includes what the gates' random shapes launch."""
    known = {
        (source, tuple(sorted(codes.items())))
        for source, codes in (*bench.prefill_variants(), *bench.decode_variants())
    }
    for case in random_cases(100, 1):
        for rung in device.RUNGS.values():
            codes = {"HEAD_DIM": case.head_dim, "FP16": 0}
            if rung.hopper:
                codes["TILE_N"] = device.tile_keys(case.head_dim, case.form, max(case.kv_lens))
            if rung.persistent and case.head_dim == 64:
                codes["CONSUMERS"] = 2 if case.form.causal and max(case.kv_lens) < 2048 else 3
            assert (rung.source, tuple(sorted(codes.items()))) in known


def test_the_ring_is_filled_by_whole_stages():
    """Two stages at least of whatever a tile is, and shared memory that sm_80 has too."""
    for width in device.HEAD_DIMS:
        for kind in ("bf16", "fp8", "int8"):
            tile_bytes, warps = decode.tile_shape(width, kind)
            assert decode.RING_BYTES % (2 * tile_bytes * warps) == 0
            assert decode.RING_BYTES // (2 * tile_bytes * warps) >= 2
            for strips in (1, 2) if width < 256 else (1,):
                codes = {"HEAD_DIM": width, "STRIPS": strips}
                assert decode.shared_bytes(codes, kind) <= 163 * 1024


# ---------------------------------------------------------------- the machine code


@pytest.mark.parametrize("defines", [{}, {"TILE_N": 176}, {"HEAD_DIM": 64}, {"HEAD_DIM": 256}])
def test_the_last_rung_fits_its_registers(defines):
    """No spill beside accumulators of 64 x N and 64 x D, for every head dimension."""
    pytest.importorskip("cupy")
    found = compile_kernel(
        kernel_source("attention/05_persistent.cu"), arch="sm_90a", defines=defines
    )

    assert found.warnings == ()
    assert all(k.spill_bytes == 0 for k in found.resources.values())


# ---------------------------------------------------------------- on a device


@pytest.mark.gpu
@pytest.mark.parametrize("name", device.RUNGS)
def test_rung_passes_its_gate(name):
    """Thirty random shapes; the benchmark runs ten times as many."""
    from refkernels._compile import device_capability
    from refkernels.attention.gates import rung, sweep

    if device.RUNGS[name].hopper and device_capability() != "90":
        pytest.skip("needs a Hopper device")
    result = sweep(random_cases(30, 11), rung(name), 11)

    assert result.passed, result.report()


@pytest.mark.gpu
@pytest.mark.parametrize("kv_dtype", ["bf16", "fp8", "int8"])
def test_decoding_passes_its_gate(kv_dtype):
    """Thirty random shapes."""
    from refkernels.attention.gates import sweep_decode

    result = sweep_decode(random_decodes(30, 12, kv_dtype=kv_dtype), 12)

    assert result.passed, result.report()


@pytest.mark.gpu
def test_attention_on_the_device_as_called():
    """The public call, with log-sum-exps."""
    import cupy

    q = narrow_bf16(normal(1, 100, 2, 64).astype(np.float32))
    o, lse = device.flash_attention(*(cupy.asarray(q) for _ in range(3)), Form(), lse=True)
    x = widen(q[0], "bf16")
    exact, logs = naive.attend(x, x, x, Form())

    assert relative_rms(cupy.asnumpy(widen(o, "bf16"))[0], exact) < 3e-3
    assert np.abs(cupy.asnumpy(lse) - logs).max() < 1e-3
