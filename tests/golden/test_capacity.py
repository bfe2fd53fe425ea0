"""Capacity against numbers derived by hand from the published shapes."""

import pytest

import perfmodel as pm


def test_yi_34b_on_one_a100():
    """60 layers x 8 KV heads x (128 + 128) x 2 B = 245,760 B per token; 50,000 tokens are 3,125
    pages of 16 exactly, 12,288,000,000 B. 34,388,917,248 parameters x 2 B leave 17.12 GB of
    80 GiB: with 1.5 GB reserve and 0.31 GB of activations one user fits, a second does not.
    """
    answer = pm.capacity("yi-34b-200k", "a100-sxm-80gb", context=50_000)

    assert answer.params == 34_388_917_248
    assert answer.weights_bytes == 2 * 34_388_917_248
    assert answer.kv_bytes_per_token == 245_760
    assert answer.kv_bytes_per_user == 12_288_000_000
    assert answer.state_bytes_per_user == 0
    assert answer.budget_bytes == 80 * 2**30
    assert (answer.max_users, answer.fits) == (1, True)


def test_yi_34b_in_80_decimal_gigabytes():
    """80e9 - 68.78e9 - 1.5e9 = 9.72e9 B are less than one user's 12.288e9."""
    answer = pm.capacity("yi-34b-200k", "a100-sxm-80gb", context=50_000, memory_bytes=80e9)

    assert (answer.max_users, answer.fits) == (0, False)
    assert answer.relax


def test_activations_of_yi_34b():
    """Residual and normalised input 2 x 7168, gate, up and product 3 x 20480, in 2 B, for 2048
    tokens; and 64,000 fp32 scores of the one sequence.
    """
    answer = pm.capacity("yi-34b-200k", "a100-sxm-80gb", context=50_000)

    live = 2 * 2048 * (2 * 7168 + 3 * 20480)
    assert answer.stack["activations"] == live + 4 * 64_000


def test_totals_and_per_device_under_tensor_parallelism():
    """Llama-3-70B: 80 layers x 8 KV heads x 256 x 2 B = 327,680 B per token over the group; on
    each of four devices two KV heads, a quarter.
    """
    answer = pm.capacity("llama-3-70b", "h100-sxm-80gb", context=8192, tp=4)

    assert answer.kv_bytes_per_token == 327_680
    assert answer.per_device["kv_bytes_per_token"] == 327_680 / 4
    assert answer.kv_bytes_per_user == 327_680 * 8192
    assert answer.budget_bytes == 4 * answer.per_device["budget_bytes"]


def test_kv_heads_replicate():
    """8 KV heads on 16 devices: each holds one, so the group holds them twice."""
    answer = pm.capacity("llama-3-70b", "h100-sxm-80gb", context=1024, tp=16)

    assert answer.kv_bytes_per_token == 2 * 327_680


def test_latent_cache():
    """DeepSeek-V3: 61 layers x (512 + 64) x 2 B = 70,272 B per token, held whole by every device
    of a tensor-parallel group."""
    one = pm.capacity("deepseek-v3", "b200-sxm", context=1024)
    two = pm.capacity("deepseek-v3", "b200-sxm", context=1024, tp=2)

    assert one.kv_bytes_per_token == 70_272
    assert two.kv_bytes_per_token == 2 * 70_272


def test_recurrent_state_does_not_depend_on_context():
    """Mamba-2.8B: 64 layers x 5120 channels x (16 states x 4 B + 3 taps x 2 B)."""
    short, long = (
        pm.capacity("mamba-2.8b", "a100-sxm-80gb", context=c) for c in (1_000, 1_000_000)
    )

    assert short.state_bytes_per_user == 64 * 5120 * (16 * 4 + 3 * 2)
    assert short.state_bytes_per_user == long.state_bytes_per_user
    assert short.kv_bytes_per_token == 0
    assert long.max_context is None


def test_swap_over_the_host_link():
    """12.288e9 B over the host link's bytes per second."""
    device = pm.device("a100-sxm-80gb")
    answer = pm.capacity("yi-34b-200k", device, context=50_000)

    moved = 12_288_000_000 / device.host_link.bandwidth_bytes_per_s
    assert answer.swap_s == pytest.approx(device.host_link.latency_s + moved)


def test_pages_round_up():
    """50,001 tokens take 3,126 pages of 16."""
    paged = pm.capacity("yi-34b-200k", "a100-sxm-80gb", context=50_001)
    whole = pm.capacity("yi-34b-200k", "a100-sxm-80gb", context=50_001, page_size=None)

    assert paged.kv_bytes_per_user == 3126 * 16 * 245_760
    assert whole.kv_bytes_per_user == 50_001 * 245_760


def test_copies_are_said():
    """16 devices hold each of 8 KV heads twice: totals count both, and the answer says so."""
    copied = pm.capacity("llama-3-70b", "h100-sxm-80gb", context=4096, tp=16)
    split = pm.capacity("llama-3-70b", "h100-sxm-80gb", context=4096, tp=8)

    assert copied.kv_bytes_per_token == 2 * split.kv_bytes_per_token == 2 * 327_680
    assert any("copies" in note for note in copied.assumptions)
    assert not any("copies" in note for note in split.assumptions)
