"""Lower bounds of whole steps on other models and devices, derived here from published sizes.

Peaks are the datasheets': A100 SXM 312 TFLOP/s, 2.039 TB/s; H100 SXM 989.4 TFLOP/s, 3.35 TB/s;
H200 4.8 TB/s. A decode reads weights and cache once; embedding rows, biases and norms
are less than 1 %.
"""

import pytest

import perfmodel as pm

A100, H100, H200 = 2.039e12, 3.35e12, 4.8e12


def bound(model, device, **how):
    """The lower bound of a step in seconds."""
    return float(pm.step(model, device, **how).lower_bound_s)


def test_mixtral_decode_on_two_a100():
    """16 tokens visit 8 (1 - (3/4)^16) of 8 experts; attention, experts, head and cache are halved,
    the router is not.
    """
    batch, context = 16, 2048
    experts = 8 * (1 - 0.75**batch)
    attention = 2 * 4096 * 4096 + 2 * 4096 * 1024
    layer = (attention + experts * 3 * 4096 * 14336) / 2 + 4096 * 8
    weights = (32 * layer + 32000 * 4096 / 2) * 2
    cache = batch * context * 32 * 2 * 4 * 128 * 2
    found = bound(
        "mixtral-8x7b", "a100-sxm-80gb", phase="decode", batch=batch, context=context, tp=2
    )

    assert found == pytest.approx((weights + cache) / A100, rel=0.01)


def test_deepseek_v3_decode_on_eight_h200():
    """fp8 weights and cache, 32 whole experts per device; latents and router are held whole, the
    router and the head in 16 bits; every device reads the latent cache of all users.
    """
    batch, context, h = 64, 4096, 7168
    experts = 256 * (1 - (1 - 8 / 256) ** batch)
    attention = h * (1536 + 576) + (1536 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * h) / 8
    dense = 3 * h * 18432 / 8
    sparse = (experts + 1) / 8 * 3 * h * 2048 + 2 * h * 256
    weights = 61 * attention + 3 * dense + 58 * sparse + 2 * 129280 * h / 8
    cache = batch * context * 61 * 576
    found = bound(
        "deepseek-v3",
        "h200-sxm",
        phase="decode",
        batch=batch,
        context=context,
        tp=8,
        ep=8,
        dtype="fp8",
        kv_dtype="fp8",
    )

    assert found == pytest.approx((weights + cache) / H200, rel=0.01)


def test_mamba2_decode_on_h100():
    """2.7B: weights once, and every user's state (fp32) and convolution inputs read and written."""
    batch, inner, state = 8, 5120, 128
    matrices = 2560 * (2 * inner + 2 * state + 80) + inner * 2560
    weights = (64 * matrices + 50288 * 2560) * 2
    moved = 2 * batch * 64 * (80 * 64 * state * 4 + (inner + 2 * state) * 3 * 2)
    found = bound("mamba2-2.7b", "h100-sxm-80gb", phase="decode", batch=batch, context=1000)

    assert found == pytest.approx((weights + moved) / H100, rel=0.01)


def test_gemma_2_prefill_on_h100():
    """27B, 8192 tokens: 23 layers see the causal triangle, 23 a band of 4096; one row of logits."""
    tokens, window, h = 8192, 4096, 4608
    matrices = 2 * h * 32 * 128 + 2 * h * 16 * 128 + 3 * h * 36864
    linear = 2 * tokens * 46 * matrices + 2 * h * 256000
    full = tokens * (tokens + 1) / 2
    band = window * (window + 1) / 2 + (tokens - window) * window
    attention = 23 * 4 * 128 * 32 * (full + band)
    found = bound("gemma-2-27b", "h100-sxm-80gb", phase="prefill", batch=1, prompt=tokens)

    assert found == pytest.approx((linear + attention) / 989.4e12, rel=0.01)


def test_falcon_180b_on_eight_a100():
    """One of eight KV heads per device; attention and feed-forward side by side share one
    all-reduce a layer.
    """
    h, layers, vocab = 14848, 80, 65024
    matrices = h * (232 + 16) * 64 + h * 232 * 64 + 8 * h * h
    weights = (layers * matrices + vocab * h) / 8 * 2
    cache = 32 * 2048 * layers * 2 * 64 * 2
    decode = bound("falcon-180b", "a100-sxm-80gb", phase="decode", batch=32, context=2048, tp=8)
    prefill = pm.step("falcon-180b", "a100-sxm-80gb", phase="prefill", batch=1, prompt=1024, tp=8)
    linear = (2 * 1024 * layers * matrices + 2 * h * vocab) / 8
    attention = layers * 4 * 64 * 29 * 1024 * 1025 / 2
    reduced = layers * 2 * 7 / 8 * 1024 * h * 2

    assert decode == pytest.approx((weights + cache) / A100, rel=0.01)
    assert float(prefill.lower_bound_s) == pytest.approx((linear + attention) / 312e12, rel=0.01)
    links = float(prefill.facts["collective_lower_bound_s"])
    assert links == pytest.approx(reduced / 300e9, rel=1e-9)


@pytest.mark.parametrize(
    ("q_len", "kv_len", "window"),
    [(17, 17, None), (5, 33, None), (5, 33, 7), (1, 100, 30), (40, 50, 10), (33, 33, 64)],
)
def test_attention_pair_by_pair(q_len, kv_len, window):
    """Every (query, key) pair is looked at: FLOPs, exponentials and the keys that anyone sees."""
    from perfmodel.ops import count

    seen, pairs = set(), 0
    for query in range(kv_len - q_len, kv_len):
        keys = range(0 if window is None else max(0, query - window + 1), query + 1)
        seen.update(keys)
        pairs += len(keys)
    cost = count(
        pm.Attention(
            batch=3, q_len=q_len, kv_len=kv_len, heads=8, kv_heads=2, head_dim=16, window=window
        )
    )

    assert cost.flops_total == 3 * 8 * pairs * 4 * 16
    assert cost.special == 3 * 8 * (pairs + q_len)
    assert cost.read_bytes == 2 * 3 * 16 * (8 * q_len + 2 * 2 * len(seen))
