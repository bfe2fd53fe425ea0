"""What one sequence keeps, in exact bytes."""

import numpy as np
import pytest

from perfmodel.models.cache import kv_bytes, kv_bytes_per_token, state_bytes
from perfmodel.models.hf import load_model


@pytest.mark.parametrize(
    ("name", "dtype", "per_token"),
    [
        # 2 (key, value) x layers x kv heads x head_dim x bytes
        ("yi-34b-200k", "bf16", 2 * 60 * 8 * 128 * 2),  # 245,760
        ("llama-3-70b", "bf16", 2 * 80 * 8 * 128 * 2),  # 327,680
        ("llama-3-70b", "fp8", 2 * 80 * 8 * 128),
        ("llama-2-7b", "fp16", 2 * 32 * 32 * 128 * 2),
        ("falcon-7b", "bf16", 2 * 32 * 1 * 64 * 2),
        # 61 layers x (latent 512 + rotary key 64) x 2 bytes = 70,272
        ("deepseek-v3", "bf16", 61 * (512 + 64) * 2),
        # 4 attention layers of 32
        ("jamba-v0.1", "bf16", 2 * 4 * 8 * 128 * 2),
        ("nemotron-h-56b", "bf16", 2 * 10 * 8 * 128 * 2),
        # an encoder and a recurrent model keep no keys
        ("bert-base", "bf16", 0),
        ("mamba-2.8b", "bf16", 0),
    ],
)
def test_bytes_per_token(name, dtype, per_token):
    """One more token adds a key and a value per KV head, or one latent, in attention layers."""
    assert kv_bytes_per_token(load_model(name), dtype) == per_token


def test_yi_34b_at_fifty_thousand_tokens():
    """50,000 tokens of Yi-34B in bf16 are 12,288,000,000 bytes: 245,760 x 50,000."""
    assert kv_bytes(load_model("yi-34b-200k"), 50_000) == 12_288_000_000


def test_window_caps_half_of_gemma_2():
    """Gemma 2 9B at 10,000 tokens: 21 layers keep 4096 tokens, 21 keep all; 8 KV heads of 256."""
    layer_token = 2 * 8 * 256 * 2
    expected = layer_token * (21 * 4096 + 21 * 10_000)
    assert kv_bytes(load_model("gemma-2-9b"), 10_000) == expected


def test_pages_round_up():
    """33 tokens in pages of 16 take three pages: 48 tokens."""
    shape = load_model("llama-2-7b")
    assert kv_bytes(shape, 33, page_size=16) == 48 * 524_288


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # 64 layers x (5120 x 16 states x 4 bytes + 5120 channels x 3 inputs x 2 bytes)
        ("mamba-2.8b", 64 * (5120 * 16 * 4 + 5120 * 3 * 2)),
        # 64 x (80 x 64 x 128 x 4 + (5120 + 2 x 128) x 3 x 2)
        ("mamba2-2.7b", 64 * (80 * 64 * 128 * 4 + (5120 + 256) * 3 * 2)),
        # 54 Mamba-2 layers: 256 x 64 x 256 x 4 + (16384 + 2 x 8 x 256) x 3 x 2
        ("nemotron-h-56b", 54 * (256 * 64 * 256 * 4 + (16384 + 4096) * 3 * 2)),
        # 48 delta layers: 48 x 128 x 128 x 4 + (2 x 16 x 128 + 48 x 128) x 3 x 2
        ("qwen3.5-27b", 48 * (48 * 128 * 128 * 4 + (4096 + 6144) * 3 * 2)),
        ("llama-2-7b", 0),
    ],
)
def test_state_bytes(name, expected):
    """The recurrent state in fp32 and the last ``conv - 1`` inputs of the convolution in bf16."""
    assert state_bytes(load_model(name)) == expected


def test_split_heads_replicate():
    """Eight KV heads over 16 devices: each holds one whole head, as over eight."""
    split = kv_bytes_per_token(load_model("llama-3-70b"), tp=np.array([1, 2, 8, 16]))
    assert split.tolist() == [327_680, 163_840, 40_960, 40_960]


def test_latent_is_not_split():
    """The latent of multi-head latent attention serves all heads: every device holds it whole."""
    assert kv_bytes_per_token(load_model("deepseek-v3"), tp=8) == 70_272
