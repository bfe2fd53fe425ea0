"""Counts of work against arithmetic done by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from perfmodel.ops import count
from perfmodel.ops.attention import kv_tokens, pairs_per_head
from perfmodel.ops.conv import macs, output_size
from perfmodel.workload import (
    Attention,
    Collective,
    Conv,
    DeltaRule,
    Elementwise,
    Gemm,
    LinearAttention,
    Norm,
    SelectiveScan,
    Ssd,
)

BF16 = ("tensor", "bf16", "fp32")
VECTOR = ("vector", "fp32", "fp32")


def attention(**changes):
    shape = {"batch": 2, "q_len": 16, "kv_len": 16, "heads": 8, "kv_heads": 8, "head_dim": 64}
    return Attention(**(shape | changes))


def test_gemm_is_2mnk_and_reads_everything_once():
    """4096 x 4096 x 1024 in bf16: 2 * 4096 * 4096 * 1024 = 34,359,738,368 FLOP."""
    cost = count(Gemm(m=4096, n=4096, k=1024))
    assert cost.flops == {BF16: 34_359_738_368}
    assert cost.read_bytes == 2 * 4096 * 1024 * 2  # activations and weights, 8 MiB each
    assert cost.weight_bytes == 4096 * 1024 * 2
    assert cost.write_bytes == 4096 * 4096 * 2


def test_int8_gemm_accumulates_in_int32_and_writes_bf16():
    """W8A8: one byte an operand, products at the int8 rate, outputs dequantised to 16 bits."""
    cost = count(Gemm(m=16, n=4096, k=4096, dtype="int8"))
    assert cost.flops == {("tensor", "int8", "int32"): 2 * 16 * 4096 * 4096}
    assert cost.read_bytes == 16 * 4096 + 4096 * 4096
    assert cost.write_bytes == 16 * 4096 * 2


def test_int4_weights_carry_group_scales_and_compute_in_bf16():
    """W4A16, groups of 128: 4096 * 4096 / 2 = 8,388,608 B of weights and
    4096 / 128 * 4096 = 131,072 scales of 2 B = 262,144 B; products at the bf16 rate."""
    cost = count(Gemm(m=1, n=4096, k=4096, weight_dtype="int4", group_size=128))
    assert cost.weight_bytes == 8_388_608 + 262_144
    assert cost.flops == {BF16: 2 * 4096 * 4096}
    assert cost.read_bytes == 4096 * 2 + 8_650_752


def test_int8_weights_without_groups_have_one_scale_a_column():
    """W8A16: 1 B a weight, and 512 columns of 2 B of scale."""
    cost = count(Gemm(m=1, n=512, k=100, weight_dtype="int8"))
    assert cost.weight_bytes == 512 * 100 + 512 * 2


def test_group_that_does_not_divide_k_rounds_up():
    """k = 200 in groups of 128 needs 2 scales a column."""
    cost = count(Gemm(m=1, n=10, k=200, weight_dtype="int4", group_size=128))
    assert cost.weight_bytes == 10 * 200 * 0.5 + 10 * 2 * 2


def test_fp6_weights_take_three_quarters_of_a_byte():
    """W6A6: k n * 0.75 B."""
    cost = count(Gemm(m=1, n=64, k=64, dtype="fp6"))
    assert cost.weight_bytes == 64 * 64 * 0.75


def test_causal_prefill_is_a_triangle():
    """S = 16: 16 * 17 / 2 = 136 pairs, not 256; FLOPs 2 * (64 + 64) * 136 * 8 heads * 2."""
    work = attention()
    assert pairs_per_head(work) == 136
    assert count(work).flops == {BF16: 2 * 128 * 136 * 8 * 2}
    assert count(attention(causal=False)).flops == {BF16: 2 * 128 * 256 * 8 * 2}


def test_a_chunk_of_a_prefill_sees_what_came_before():
    """4 queries against 16 keys, bottom-right: 13 + 14 + 15 + 16 = 58 pairs."""
    assert pairs_per_head(attention(q_len=4)) == 58


def test_softmax_counts_one_exponential_a_pair_and_one_reciprocal_a_row():
    """136 pairs and 16 rows in each of 2 * 8 heads; sigmoid needs no row sum."""
    assert count(attention()).special == 16 * (136 + 16)
    assert count(attention(score="sigmoid")).special == 16 * 136


def test_grouped_heads_cut_kv_bytes_but_no_flops():
    """8 query heads on 2 KV heads: KV bytes a quarter, FLOPs the same.

    KV of 8 heads: 2 sequences * 16 tokens * 8 heads * 128 elements * 2 B = 65,536 B.
    """
    full, grouped = count(attention()), count(attention(kv_heads=2))
    assert grouped.flops == full.flops
    q = 2 * 16 * 8 * 64 * 2
    assert full.read_bytes == q + 65_536
    assert grouped.read_bytes == q + 16_384


def test_decode_reads_the_cache_once():
    """One query against 1000 keys: 1000 pairs a head, 4 d FLOP a pair;
    KV 4 * 1000 * 8 * 256 * 2 B, q and o 4 * 32 * 128 * 2 B each."""
    cost = count(Attention(batch=4, q_len=1, kv_len=1000, heads=32, kv_heads=8, head_dim=128))
    assert cost.flops == {BF16: 4 * 32 * 1000 * 4 * 128}
    assert cost.read_bytes == 4 * 1000 * 8 * 256 * 2 + 4 * 32 * 128 * 2
    assert cost.write_bytes == 4 * 32 * 128 * 2


def test_fp8_cache_halves_its_bytes():
    """KV at 1 B an element; queries stay bf16."""
    cost = count(attention(q_len=1, kv_len=100, kv_dtype="fp8"))
    assert cost.read_bytes == 2 * 100 * 8 * 128 * 1 + 2 * 8 * 64 * 2


def test_window_caps_what_each_query_sees():
    """16 tokens, window 4: 1 + 2 + 3 + 13 * 4 = 58 pairs; a later chunk of 4 sees 4 * 4 = 16
    pairs and needs the last 4 + 3 = 7 tokens of the cache."""
    assert pairs_per_head(attention(window=4)) == 58
    assert pairs_per_head(attention(window=4, q_len=4)) == 16
    assert kv_tokens(attention(window=4, q_len=4)) == 7
    assert kv_tokens(attention(window=4, q_len=1)) == 4


def test_window_over_a_grid_equals_the_sum_over_queries():
    """The closed form against the definition, min(window, visible) query by query."""
    q, kv, window = np.meshgrid([1, 3, 8], [8, 9, 20], [1, 5, 8, 50], indexing="ij")
    slow = [
        sum(min(w, k - n + i + 1) for i in range(n))
        for n, k, w in zip(q.flat, kv.flat, window.flat, strict=True)
    ]
    fast = pairs_per_head(attention(q_len=q, kv_len=kv, window=window))
    assert fast.ravel().tolist() == slow


def test_latent_attention_reads_one_latent_for_all_heads():
    """Absorbed MLA of DeepSeek-V3: 512 + 64 elements a token and layer, 1152 B in bf16, read once;
    scores over 576, values over 512: 2 (576 + 512) FLOP a pair."""
    cost = count(
        Attention(
            batch=1,
            q_len=1,
            kv_len=100,
            heads=128,
            kv_heads=1,
            head_dim=576,
            v_head_dim=512,
            shared_kv=True,
        )
    )
    assert cost.read_bytes == 100 * 1152 + 128 * 576 * 2
    assert cost.flops == {BF16: 2 * 1088 * 128 * 100}


def test_gated_linear_attention_matches_the_published_count():
    """d = 128, C = 64: 4 C d + 4 d^2 = 98,304 FLOP, and 8 d + 4 d = 1536 B a token with an fp32
    gate; the final state is 128 * 128 * 4 B."""
    cost = count(
        LinearAttention(
            batch=1, seq_len=128, heads=1, key_dim=128, value_dim=128, gate_dtype="fp32"
        )
    )
    assert cost.flops == {BF16: 128 * 98_304}
    assert cost.bytes_total == 128 * 1536 + 128 * 128 * 4
    assert cost.depth == 2


def test_linear_attention_step_reads_and_writes_its_state():
    """One token: state 64 KiB in and out, 5 FLOP an element on the vector unit."""
    cost = count(LinearAttention(batch=1, seq_len=1, heads=1, key_dim=128, value_dim=128))
    assert cost.flops == {VECTOR: 5 * 128 * 128}
    assert cost.read_bytes == 65_536 + (3 * 128 + 128) * 2
    assert cost.write_bytes == 65_536 + 128 * 2


def test_delta_rule_counts_the_wy_form():
    """d = 128, C = 64, equal heads: 10 C d + 6 d^2 + C^2 / 3 = 81,920 + 98,304 + 1365 1/3."""
    cost = count(DeltaRule(batch=1, seq_len=64, key_heads=1, key_dim=128, value_dim=128))
    assert cost.flops[BF16] / 64 == pytest.approx(81_920 + 98_304 + 4096 / 3)
    assert cost.bytes_total == 64 * (4 * 128 + 2) * 2 + 128 * 128 * 4


def test_grouped_keys_share_their_products():
    """8 key and 32 value heads: 4 C dk once for each key head, the rest for each value head."""
    shape = {"batch": 1, "seq_len": 64, "key_dim": 128, "value_dim": 128}
    grouped = count(DeltaRule(key_heads=8, value_heads=32, **shape)).flops[BF16]
    equal = count(DeltaRule(key_heads=32, **shape)).flops[BF16]
    assert equal - grouped == 64 * 24 * 4 * 64 * 128


def test_selective_scan_is_bound_by_exponentials():
    """N = 16, gated, a token and channel: 20 special functions, 75 issue slots (150 FLOP), 8 B."""
    cost = count(SelectiveScan(batch=1, seq_len=1000, channels=512))
    per = 1000 * 512
    assert cost.special == 20 * per
    assert cost.flops == {VECTOR: 150 * per}
    own = 8 * per
    shared = 1000 * 2 * 16 * 2  # B and C
    parameters = 512 * 17 * 4  # A and D
    state = 512 * 16 * 4
    assert cost.bytes_total == own + shared + parameters + state


def test_ssd_counts_chunks():
    """P = 64, N = 128, 80 heads in one group, C = 128. FLOPs a token: 2 C N once and
    2 C P + 4 N P = 16,384 + 32,768 a head; bytes 4 P + 2 a head and 4 N a group."""
    cost = count(Ssd(batch=1, seq_len=256, heads=80, chunk=128))
    assert cost.flops == {BF16: 256 * (2 * 128 * 128 + 80 * 49_152)}
    assert cost.bytes_total == 256 * (80 * (4 * 64 + 2) + 4 * 128) + 80 * 64 * 128 * 4


def test_norm_reads_input_and_weight_and_writes_once():
    """RMSNorm of 1 x 5120 in 16 bits: (5120 + 5120 + 5120) * 2 = 30,720 B; with a residual two
    more rows."""
    assert count(Norm(rows=1, cols=5120)).bytes_total == 30_720
    assert count(Norm(rows=1, cols=5120, residual=True)).bytes_total == 30_720 + 2 * 5120 * 2


def test_elementwise_add_moves_three_streams():
    """1000 fp32 additions: 2 reads and 1 write of 4 B each."""
    cost = count(Elementwise(elements=1000, reads=2, dtype="fp32"))
    assert cost.bytes_total == 12_000
    assert cost.flops == {VECTOR: 1000}


def test_output_sizes():
    """Same: ceil(size / stride); valid: floor((size - kernel) / stride) + 1."""
    same = Conv(in_channels=1, out_channels=1, width=49, height=10, kernel_w=10, stride=2)
    assert output_size(same) == (5, 25)
    valid = Conv(
        in_channels=1, out_channels=1, width=49, height=10, kernel_w=10, stride=2, padding="valid"
    )
    assert output_size(valid) == (5, 20)


def test_depthwise_has_one_input_channel_a_group():
    """8 channels of 48 x 48, 3 x 3: 48 * 48 * 8 * 9 = 165,888 MAC, 72 weights."""
    work = Conv(
        in_channels=8, out_channels=8, width=48, height=48, kernel_w=3, kernel_h=3, groups=8
    )
    assert macs(work) == 165_888
    assert count(work).weight_bytes == 72 * 2
    assert count(work).flops == {VECTOR: 2 * 165_888}


def conv(cin, cout, size, kernel, stride=1, groups=1):
    height, width = size
    kernel_h, kernel_w = kernel
    return Conv(
        in_channels=cin,
        out_channels=cout,
        height=height,
        width=width,
        kernel_h=kernel_h,
        kernel_w=kernel_w,
        stride=stride,
        groups=groups,
        dtype="int8",
    )


def dense(k, n):
    return Gemm(m=1, n=n, k=k, dtype="int8")


def network_macs(layers):
    return sum(count(layer).flops_total for layer in layers) / 2


def test_resnet8_of_mlperf_tiny():
    """CIFAR-10 32 x 32 x 3: stem 442,368; stack of 16: 2 * 2,359,296; stacks of 32 and of 64:
    1,179,648 + 2,359,296 + 131,072 each; dense 640. Sum 12,501,632."""
    layers = [
        conv(3, 16, (32, 32), (3, 3)),
        conv(16, 16, (32, 32), (3, 3)),
        conv(16, 16, (32, 32), (3, 3)),
        conv(16, 32, (32, 32), (3, 3), stride=2),
        conv(32, 32, (16, 16), (3, 3)),
        conv(16, 32, (32, 32), (1, 1), stride=2),
        conv(32, 64, (16, 16), (3, 3), stride=2),
        conv(64, 64, (8, 8), (3, 3)),
        conv(32, 64, (16, 16), (1, 1), stride=2),
        dense(64, 10),
    ]
    assert network_macs(layers) == 12_501_632


def test_ds_cnn_of_mlperf_tiny():
    """49 x 10 spectrogram: stem 25 * 5 * 64 * 40 = 320,000; four blocks of 72,000 depthwise and
    512,000 pointwise; dense 768. Sum 2,656,768."""
    block = [conv(64, 64, (25, 5), (3, 3), groups=64), conv(64, 64, (25, 5), (1, 1))]
    layers = [conv(1, 64, (49, 10), (10, 4), stride=2), *block * 4, dense(64, 12)]
    assert network_macs(layers) == 2_656_768


def test_mobilenet_v1_quarter_of_mlperf_tiny():
    """96 x 96 x 3 at width 0.25: stem 48 * 48 * 8 * 27 = 497,664, 13 separable blocks, dense 512.
    Sum 7,489,664."""
    plan = [(8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2)]
    plan += [(128, 128, 1)] * 5 + [(128, 256, 2), (256, 256, 1)]
    layers, size = [conv(3, 8, (96, 96), (3, 3), stride=2)], 48
    for cin, cout, stride in plan:
        layers.append(conv(cin, cin, (size, size), (3, 3), stride=stride, groups=cin))
        size //= stride
        layers.append(conv(cin, cout, (size, size), (1, 1)))
    assert network_macs([*layers, dense(256, 2)]) == 7_489_664


def test_autoencoder_of_mlperf_tiny():
    """640-128-128-128-128-8-128-128-128-128-640: 2 (81,920 + 3 * 16,384 + 1024) = 264,192."""
    widths = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    assert network_macs([dense(k, n) for k, n in pairwise(widths)]) == 264_192


@pytest.mark.parametrize(
    ("kind", "sent", "steps"),
    [
        ("all_reduce", 1_500_000, 6),  # 2 * 3 / 4 of 1 MB, 2 * 3 steps of the ring
        ("all_gather", 750_000, 3),
        ("reduce_scatter", 750_000, 3),
        ("all_to_all", 750_000, 3),
        ("send_recv", 1_000_000, 1),
    ],
)
def test_collectives_over_four_devices(kind, sent, steps):
    """1 MB over 4 devices."""
    cost = count(Collective(bytes=1_000_000, ranks=4, kind=kind))
    assert cost.link_bytes == sent
    assert cost.depth == steps


def test_one_rank_has_nothing_to_say():
    """A collective over one device moves nothing and launches nothing."""
    cost = count(Collective(bytes=1_000_000, ranks=np.array([1, 2])))
    assert cost.link_bytes.tolist() == [0, 1_000_000]
    assert cost.launches.tolist() == [0, 1]
    assert cost.bytes_total[0] == 0


def test_a_causal_step_keeps_its_state():
    """One token through 1536 channels of 4 taps, bf16: input, output, and 3 kept inputs read and
    written are 8 * 2 B a channel; 4 weights a channel are 8 B more."""
    work = Conv(
        in_channels=1536, out_channels=1536, width=1, kernel_w=4, groups=1536, padding="causal"
    )
    assert count(work).bytes_total == 1536 * (16 + 8)
