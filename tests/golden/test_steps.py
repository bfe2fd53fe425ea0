"""Lower bounds of whole steps, each derived by hand from published shapes and datasheet peaks.

A100 80 GB SXM (NVIDIA A100 datasheet): 312 TFLOP/s dense fp16/bf16, 2.039 TB/s, NVLink 300 GB/s in
one direction. The hand derivations count matrices, scores and cached tokens only; the model also
counts norms' weights, embedding rows and vector work, which is why 0.1 % is left.
"""

from __future__ import annotations

import pytest

from perfmodel.hw.load import load_device
from perfmodel.models.flow import Dtypes
from perfmodel.models.hf import load_model
from perfmodel.models.parallel import Split
from perfmodel.models.phases import ops
from perfmodel.models.timing import step
from perfmodel.ops import count

PEAK, BANDWIDTH, LINK = 312e12, 2.039e12, 300e9
FP16 = Dtypes(act="fp16", weight="fp16", kv="fp16")
CLOSE = 1e-3


@pytest.fixture(scope="module")
def a100():
    return load_device("a100-sxm-80gb")


def matrices(layers, hidden, heads, kv_heads, head_dim, width):
    """Matrix parameters of all layers of a Llama by group."""
    return {
        "qkv": layers * hidden * (heads + 2 * kv_heads) * head_dim,
        "out": layers * heads * head_dim * hidden,
        "mlp": layers * 3 * hidden * width,
    }


def by_group(shape, of, **kwargs):
    """The sum over operators of ``of(cost, operator)`` by group."""
    sums = {}
    for op in ops(shape, **kwargs):
        sums[op.group] = sums.get(op.group, 0.0) + float(op.count * of(count(op.workload), op))
    return sums


def test_llama_2_70b_decode_group_by_group():
    """Per device of four, batch 16, context 2048: bytes that rest in memory, and FLOPs.

    qkv 80 x 8192 x (64 + 16) x 128 = 6,710,886,400 parameters; out 80 x 8192^2 = 5,368,709,120;
    mlp 80 x 3 x 8192 x 28672 = 56,371,445,760; head 8192 x 32000; cache 16 x 2048 x 327,680 B.
    """
    llama = load_model("llama-2-70b")
    how = {"phase": "decode", "batch": 16, "context": 2048, "split": Split(tp=4), "dtypes": FP16}
    moved = by_group(llama, lambda cost, op: cost.weight_bytes + op.resting_bytes, **how)
    assert moved["qkv"] == 6_710_886_400 * 2 / 4
    assert moved["out"] == 5_368_709_120 * 2 / 4
    assert moved["mlp"] == 56_371_445_760 * 2 / 4
    assert moved["head"] == 8192 * 32000 * 2 / 4
    assert moved["attention"] == 16 * 2048 * 327_680 / 4
    assert moved["norm"] == 161 * 8192 * 2
    assert moved["embed"] == 16 * 8192 * 2
    flops = by_group(llama, lambda cost, op: cost.flops_total, **how)
    assert flops["mlp"] == 2 * 16 * 56_371_445_760 / 4
    assert flops["attention"] == 80 * 16 * 64 * 4 * 128 * 2048 / 4


def test_llama_2_70b_prefill_on_four_a100(a100):
    """229 ms: every layer's matrices once per token, the causal triangle, the head once.

    Layers: 80 x (8192 x (64 + 16) x 128 + 8192 x 8192 + 3 x 8192 x 28672) = 68,451,041,280;
    FLOPs 2 x that x 2048 + scores 80 x 64 x 4 x 128 x 2048 x 2049 / 2 + head 2 x 8192 x 32000, over
    four devices at 312 TFLOP/s.
    """
    found = step(load_model("llama-2-70b"), a100, phase="prefill", prompt=2048, tp=4, dtypes=FP16)
    layers = matrices(80, 8192, 64, 8, 128, 28672)
    scores = 80 * 64 * 4 * 128 * 2048 * 2049 / 2
    by_hand = (2 * sum(layers.values()) * 2048 + scores + 2 * 8192 * 32000) / 4 / PEAK
    assert found.lower_bound_s == pytest.approx(by_hand, rel=CLOSE)
    assert found.lower_bound_s == pytest.approx(0.229, rel=0.01)
    assert found.bound == "tensor"


def test_llama_2_70b_all_reduces_are_a_term_of_their_own(a100):
    """26.8 ms at 300 GB/s: 2 per layer, each 2 (4 - 1) / 4 of 2048 x 8192 fp16 rows per device."""
    found = step(load_model("llama-2-70b"), a100, phase="prefill", prompt=2048, tp=4, dtypes=FP16)
    by_hand = 2 * 80 * (2 * 3 / 4) * 2048 * 8192 * 2 / LINK
    assert found.facts["collective_lower_bound_s"] == pytest.approx(by_hand, rel=1e-12)
    assert by_hand == pytest.approx(0.0268, rel=0.01)
    assert found.terms["all_reduce"] > by_hand


def test_llama_2_70b_decode_on_four_a100(a100):
    """18.2 ms: all weights but the input table (a lookup), and 16 x 2048 cached tokens of 80
    layers x 2 x 8 heads x 128 x 2 B = 327,680 B, over four devices."""
    found = step(
        load_model("llama-2-70b"), a100, phase="decode", batch=16, context=2048, tp=4, dtypes=FP16
    )
    weights = (68_976_648_192 - 32000 * 8192) * 2 / 4
    cache = 16 * 2048 * 327_680 / 4
    by_hand = (weights + cache) / BANDWIDTH
    assert found.lower_bound_s == pytest.approx(by_hand, rel=CLOSE)
    assert found.lower_bound_s == pytest.approx(0.0182, rel=0.01)
    assert found.bound == "memory"


def test_yi_34b_prefill_of_50000_tokens(a100):
    """17.6 s: 2 x 33.47e9 x 50,000 for the matrices and 2.15e15 FLOP for the causal triangle of
    60 x 56 heads of 128."""
    found = step(load_model("yi-34b-200k"), a100, phase="prefill", prompt=50_000)
    layers = matrices(60, 7168, 56, 8, 128, 20480)
    scores = 60 * 56 * 4 * 128 * 50_000 * 50_001 / 2
    by_hand = (2 * sum(layers.values()) * 50_000 + scores + 2 * 7168 * 64000) / PEAK
    assert found.lower_bound_s == pytest.approx(by_hand, rel=CLOSE)
    assert found.lower_bound_s == pytest.approx(17.6, rel=0.01)


def test_yi_34b_decode_at_50000_tokens(a100):
    """39.3 ms: 33,930,000,000 parameters in bf16 and 50,000 x 245,760 B of cache at 2.039 TB/s."""
    found = step(load_model("yi-34b-200k"), a100, phase="decode", context=50_000)
    by_hand = ((34_388_917_248 - 64000 * 7168) * 2 + 50_000 * 245_760) / BANDWIDTH
    assert found.lower_bound_s == pytest.approx(by_hand, rel=CLOSE)
    assert found.lower_bound_s == pytest.approx(0.0393, rel=0.01)


def test_deepseek_v3_decodes_from_one_latent_per_token(a100):
    """One sequence, context 4096, bf16: 61 layers x (512 + 64) x 2 B = 70,272 B of latent a token.

    Weights: 61 layers' attention of 187,105,280, 3 dense feed-forwards of width 18432, 58 routers
    with 8 of 256 experts and the shared one active (9 x 3 x 7168 x 2048), the head 129280 x 7168:
    36,624,596,992 matrix elements for one token.
    """
    found = step(load_model("deepseek-v3"), a100, phase="decode", context=4096)
    attention = 7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256 + 128 * 128 * 7168
    dense, sparse = 3 * 7168 * 18432, 7168 * 256 + 9 * 3 * 7168 * 2048
    weights = 61 * attention + 3 * dense + 58 * sparse + 129_280 * 7168
    assert weights == 36_624_596_992
    by_hand = (weights * 2 + 4096 * 70_272) / BANDWIDTH
    assert found.lower_bound_s == pytest.approx(by_hand, rel=CLOSE)


def test_mamba_decode_moves_its_state_whatever_the_context(a100):
    """Mamba-2.8b, batch 32: 64 layers x 5120 channels x (16 states x 4 B + 3 taps x 2 B), read and
    written; the context changes nothing."""
    shape = load_model("mamba-2.8b")
    short = step(shape, a100, phase="decode", batch=32, context=100)
    long = step(shape, a100, phase="decode", batch=32, context=100_000)
    moved = 2 * 32 * 64 * 5120 * (16 * 4 + 3 * 2)
    assert short.lower_bound_s == long.lower_bound_s
    assert short.facts["bytes"] - short.facts["weight_bytes"] == pytest.approx(moved, rel=CLOSE)


def test_vit_b_16_is_17_6_gmac_an_image(a100):
    """17.58 GMAC at 224 x 224: Dosovitskiy et al., arXiv:2010.11929; patches 196 x 768 x 768, 12
    layers over 197 tokens, full scores 12 x 12 x 197^2 x 64 x 2, the head on one token."""
    found = step(load_model("vit-b-16"), a100, phase="encode", batch=8)
    layer = 197 * 12 * 768 * 768 + 2 * 12 * 197 * 197 * 64
    macs = 196 * 768 * 768 + 12 * layer + 768 * 1000
    assert macs / 1e9 == pytest.approx(17.58, rel=0.001)
    assert found.facts["flops"] == pytest.approx(2 * 8 * macs, rel=0.005)
    assert found.facts["flops"] >= 2 * 8 * macs
