"""The assembled estimate: classes, sources, assumptions, links, and its derivation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perfmodel.errors import BadValue, MissingFigure, UnsupportedDtype
from perfmodel.hw.load import load_device
from perfmodel.ops import count
from perfmodel.report.derivation import derive, substituted
from perfmodel.roofline.bounds import lower_bound
from perfmodel.roofline.choice import kernel_class
from perfmodel.roofline.links import fastest_bandwidth, node_peer_bandwidth
from perfmodel.roofline.model import overlap
from perfmodel.roofline.time import estimate
from perfmodel.workload import (
    Attention,
    Collective,
    Conv,
    DeltaRule,
    Elementwise,
    Gemm,
    Norm,
    SelectiveScan,
)

A100 = load_device("a100-sxm-80gb")
DECODE = Attention(batch=16, q_len=1, kv_len=4096, heads=32, kv_heads=8, head_dim=128)

CLASSES = [
    (Gemm(m=1, n=1, k=1), "gemm"),
    (Gemm(m=1, n=1, k=1, dtype="fp16"), "gemm"),
    (Gemm(m=1, n=1, k=1, dtype="int8"), "gemm_int8"),
    (Gemm(m=1, n=1, k=1, dtype="fp8"), "gemm_narrow"),
    (Gemm(m=1, n=1, k=1, weight_dtype="int4"), "gemm_weight_only"),
    (Gemm(m=1, n=1, k=1, dtype="fp32"), "gemm_fp32"),
    (DECODE, "attention_decode"),
    (replace(DECODE, q_len=2), "attention_prefill"),
    (DeltaRule(batch=1, seq_len=1, key_heads=1, key_dim=8, value_dim=8), "recurrent_step"),
    (DeltaRule(batch=1, seq_len=9, key_heads=1, key_dim=8, value_dim=8), "recurrent_chunk"),
    (Norm(rows=1, cols=1), "pointwise"),
    (Elementwise(elements=1), "pointwise"),
    (Conv(in_channels=1, out_channels=1, width=1), "conv"),
    (Collective(bytes=1, ranks=2), "collective"),
]


@pytest.mark.parametrize(("work", "cls"), CLASSES)
def test_kernel_classes(work, cls):
    """Each operator belongs to the class whose kernels run it."""
    assert kernel_class(work) == cls


def test_a_mixed_grid_has_no_single_class():
    """One token and many run in different kernels; the estimate takes them apart."""
    mixed = replace(DECODE, q_len=np.array([1, 64]))
    with pytest.raises(BadValue, match="single tokens"):
        kernel_class(mixed)
    assert estimate(mixed, A100).shape == (2,)


def test_overlap_runs_from_maximum_to_sum():
    """s = 0 hides the shorter wholly, s = 1 not at all."""
    a, b = np.float64(3.0), np.float64(4.0)
    assert overlap(a, b, 0.0) == 4.0
    assert overlap(a, b, 1.0) == 7.0
    assert 4.0 < overlap(a, b, 0.1) < 7.0


def test_a_missing_dtype_propagates():
    """bf16 on a V100 is refused with the field and what exists instead."""
    with pytest.raises(UnsupportedDtype, match="bf16") as refusal:
        estimate(Gemm(m=1, n=1, k=1), load_device("v100-sxm2-32gb"))
    assert refusal.value.field == "dtype"
    assert "fp16" in str(refusal.value.fix)


def test_large_products_are_bound_by_the_matrix_unit_and_small_ones_by_launching():
    """The bound names the largest roof, the launch among them."""
    bounds = [estimate(Gemm(m=m, n=m, k=m), A100).bound.item() for m in (16, 8192)]
    assert bounds == ["launch", "tensor"]
    assert estimate(DECODE, A100).bound == "memory"


def test_unverified_figures_are_named_and_widen_the_interval():
    """The same device with its bandwidth in doubt: said so, and less sure."""
    path = "memory.dram.bandwidth"
    doubtful = replace(A100.figures[path], verified=False, reason="hearsay")
    unsure = replace(A100, figures={**A100.figures, path: doubtful})
    sure, answer = estimate(DECODE, A100), estimate(DECODE, unsure)
    assert answer.time_s == sure.time_s
    assert answer.high_s > sure.high_s
    assert any("hearsay" in a for a in answer.assumptions)
    assert not any("hearsay" in a for a in sure.assumptions)


def test_other_vendors_are_analytic():
    """Parameters fitted on one vendor's devices are a guess on another's."""
    assert estimate(DECODE, A100).source == "calibrated"
    assert estimate(DECODE, load_device("mi300x")).source == "analytic"


@pytest.mark.parametrize(
    ("work", "seen"),
    [
        (Gemm(m=64, n=64, k=64, dtype="int8"), True),
        (Gemm(m=64, n=64, k=64, dtype="fp8"), True),
        (Gemm(m=64, n=64, k=64, dtype="tf32"), False),
        (SelectiveScan(batch=1, seq_len=64, channels=64), False),
        (replace(DECODE, kv_dtype="fp8"), False),
        (replace(DECODE, dtype="fp16", kv_dtype="fp16"), True),
    ],
)
def test_what_no_row_covers_is_a_guess(work, seen):
    """Data types and operators that a class was not fitted on: said so, and a wide interval."""
    found = estimate(work, load_device("h100-sxm-80gb"))
    assert found.source == ("calibrated" if seen else "analytic")
    assert any("no row of" in a for a in found.assumptions) is not seen


def test_a_microcontroller_answers_from_its_ceiling():
    """A Cortex-M7 states no memory bandwidth: that roof is left out and the answer says so."""
    found = estimate(Gemm(m=1, n=128, k=640, dtype="int8"), load_device("stm32f746"))
    assert found.time_s > found.lower_bound_s > 0
    assert any("memory bandwidth" in a for a in found.assumptions)


def test_two_bridged_pairs_talk_over_the_host():
    """Four PCIe cards in pairs: NVLink for two, PCIe for four."""
    pcie = load_device("a100-pcie-80gb")
    two, four = (Collective(bytes=1, ranks=n, ranks_per_node=n) for n in (2, 4))
    assert node_peer_bandwidth(two, pcie) == pcie.peer_link.bandwidth_bytes_per_s
    assert node_peer_bandwidth(four, pcie) == pcie.host_link.bandwidth_bytes_per_s


def test_across_nodes_every_device_lends_its_network_link():
    """16 ranks, 8 a node: at most 8 network links of 25 GB/s, 200 GB/s, for 300 GB/s of NVLink."""
    work = Collective(bytes=10**9, ranks=16, ranks_per_node=8)
    assert fastest_bandwidth(work, A100) == 8 * A100.node_link.bandwidth_bytes_per_s


def test_no_link_is_a_missing_figure():
    """Two devices that cannot talk: refused; one rank needs no link."""
    alone = replace(A100, peer_link=None, host_link=None)
    with pytest.raises(MissingFigure, match="link"):
        estimate(Collective(bytes=1, ranks=2), alone)


def test_warm_operands_may_beat_main_memory():
    """A residual right after its producer fits the cache: the bound is the cache's, not DRAM's."""
    add = Elementwise(elements=10**6, reads=2)
    cold, warm = (lower_bound(count(add), A100, warm=w).time_s for w in (False, True))
    assert cold == pytest.approx(6e6 / A100.memory.bandwidth_bytes_per_s)
    assert warm == pytest.approx(6e6 / A100.memory.level("l2").bandwidth_bytes_per_s)


def test_naming_a_kernel_where_none_run_is_refused():
    """A processor runs no measured kernels."""
    with pytest.raises(BadValue, match="kernel"):
        estimate(Gemm(m=1, n=1, k=1, dtype="fp32"), load_device("xeon-8480plus"), kernel="trtllm")


def test_the_derivation_shows_the_numbers_it_used():
    """Roofs, formula, terms, sources, assumptions: what explains an operator."""
    found = estimate(DECODE, A100)
    text = derive(found)
    for needed in ("lower bound", "memory", "max+(", "rests on", "assumes", "dram.bandwidth"):
        assert needed in text
    assert "launch" not in text.split("estimate = ")[1].split("\n")[1]


def test_substitution_replaces_whole_names_only():
    """``memory`` inside another word stays."""
    terms = {"memory": np.float64(2e-6), "launch": np.float64(1e-6)}
    assert substituted("launch + memory + in_memory", terms) == "1 us + 2 us + in_memory"


def test_the_derivation_of_a_grid_is_refused():
    """One point at a time."""
    with pytest.raises(BadValue, match="one point"):
        derive(estimate(Gemm(m=np.array([1, 2]), n=1, k=1), A100))
