"""How kernels cut their work and start it: the rules behind the classes of attention and others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.calibration.calibrate import TELLING_ROWS, drawn_towards, rows_of
from perfmodel.calibration.dataset import gather
from perfmodel.calibration.fit import fit
from perfmodel.calibration.heldback import by_file
from perfmodel.hw.load import load_device
from perfmodel.measure import Measurement
from perfmodel.ops.numbers import ceil_div
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.classes.tiles import flash, plain_decode, plain_prefill
from perfmodel.roofline.model import Run
from perfmodel.roofline.time import estimate
from perfmodel.workload import Attention, Elementwise, Norm

H200, A100 = load_device("h200-sxm"), load_device("a100-sxm-80gb")
FLASH = "torch/flash/sdpa"
sizes = st.integers(1, 1 << 18)


def decode(**changes):
    """A token of two sequences against a long cache."""
    shape = {"batch": 2, "q_len": 1, "kv_len": 8192, "heads": 32, "kv_heads": 8, "head_dim": 128}
    return Attention(**shape | changes)


def rows(w):
    """Query rows that share keys in decoding."""
    return np.float64(w.q_len * w.heads / w.kv_heads)


@pytest.mark.parametrize("plan", [flash, plain_decode])
@given(batch=st.integers(1, 300), kv_len=sizes, group=st.sampled_from([1, 4, 16]),
       head_dim=st.sampled_from([64, 128, 256]))  # fmt: skip
def test_splits_cover_all_keys_and_leave_none_idle(plan, batch, kv_len, group, head_dim):
    """Splits times their tiles cover the keys; one split less would not."""
    w = decode(batch=batch, kv_len=kv_len, heads=8 * group, head_dim=head_dim)
    cut = plan(w, rows(w), H200)
    blocks = ceil_div(kv_len, cut.keys)
    assert 1 <= cut.splits <= max(blocks, 1)
    assert cut.splits * cut.chunk >= blocks
    assert (cut.splits - 1) * cut.chunk < blocks


def test_few_walkers_are_split_and_many_are_not():
    """FlashAttention-2 splits until two thread blocks a multiprocessor have work."""
    few, many = decode(batch=1), decode(batch=64)
    assert flash(few, rows(few), H200).splits > 8
    assert flash(many, rows(many), H200).splits == 1
    assert plain_decode(few, rows(few), H200).splits == 32
    assert plain_decode(many, rows(many), H200).splits == 1


def test_serving_engines_split_shared_heads_only():
    """Sequences of any length, keys in pages: no split where every head has its own keys."""
    own = decode(batch=1, kv_heads=32, page_size=16)
    assert flash(own, rows(own), H200).splits == 1
    assert flash(replace(own, page_size=None), rows(own), H200).splits > 1


def test_tiles_follow_the_head_and_the_shared_memory():
    """128 query rows, 64 where two blocks of wide heads fit a multiprocessor."""
    prompt = Attention(batch=8, q_len=4096, kv_len=4096, heads=32, head_dim=256)
    own = np.float64(prompt.q_len)
    assert (flash(prompt, own, H200).rows, flash(prompt, own, A100).rows) == (64, 128)
    assert plain_prefill(prompt, own, H200).splits == 1


def test_a_cache_of_pages_is_written_first():
    """The kernel that puts new tokens into pages is part of the row, as serving engines time it."""
    for w in (decode(), decode(q_len=512)):
        paged = estimate(replace(w, page_size=16), H200)
        assert paged.terms["cache_write"] > 0
        assert estimate(w, H200).terms["cache_write"] == 0


def test_an_eager_call_takes_the_longer_of_host_and_device():
    """A small operator waits for the host, a large one hides it."""
    small, large = Elementwise(elements=1024), Elementwise(elements=1 << 28)
    host = estimate(small, H200, launch="eager")
    assert host.time_s == host.terms["host"]
    assert (
        estimate(large, H200, launch="eager").time_s
        == estimate(large, H200, launch="stream").time_s
    )


def test_one_block_reduces_short_arrays_step_by_step():
    """torch.sum of 100,000 numbers takes longer than of 200,000, which many blocks share."""
    one, many = (
        estimate(Elementwise(elements=n, writes=0.0, dtype="fp32"), H200, kernel="torch/aten/sum")
        for n in (100_000, 200_000)
    )
    assert one.time_s > many.time_s


@pytest.mark.parametrize("kernel", [None, FLASH, "vllm/vllm_flash_attn"])
def test_a_device_is_its_figures_not_its_name(kernel):
    """No parameter belongs to a device: another name, the same times."""
    other = replace(A100, name="nobody-measured-this")
    for w in (decode(), decode(q_len=512)):
        assert estimate(w, other, kernel=kernel).time_s == estimate(w, A100, kernel=kernel).time_s


def test_warp_instructions_reach_less_of_a_warp_group_unit():
    """FlashAttention-2 runs on single warps' instructions: Hopper's peak takes warp groups."""
    assert A100.compute.warp_share == 1.0
    assert 0.6 < H200.compute.warp_share < 0.7


def timed(kernel, count, seed, launch_clk=3000.0):
    """Norms as the class itself times them under a launch of so many cycles, with little noise."""
    rng, model = np.random.default_rng(seed), CLASS_MODELS["pointwise"]
    made = []
    for i in range(count):
        w = Norm(rows=int(2 ** rng.uniform(0, 14)), cols=4096)
        values = model.start | {"fixed_clk": launch_clk}
        value = model.predict(w, H200, values, Run()).time_s * np.exp(0.01 * rng.standard_normal())
        made.append(
            Measurement(file="own.csv", line=i, source="lab", device="h200-sxm", scenario="norm",
                        quantity="latency", value=float(value), workload=w, framework="lab",
                        kernel=kernel)
        )  # fmt: skip
    return made


def test_few_rows_stay_near_the_rest_of_their_class():
    """What an implementation's rows do not tell is taken from the others; with rows enough the
    declared model stands as it is."""
    model = CLASS_MODELS["pointwise"]
    groups = gather(timed("a", 80, 1) + timed("b", 8, 2))
    of = {k: [g for g in groups if g.implementation == f"lab/{k}"] for k in "ab"}
    assert len(timed("a", 80, 1)) >= TELLING_ROWS
    assert drawn_towards(model, of["a"], of["b"]) is model
    drawn = drawn_towards(model, of["b"], of["a"])
    (launch,) = (p for p in drawn.parameters if p.name == "fixed_clk")
    assert launch.prior > 0
    assert launch.start == pytest.approx(3000, rel=0.3)
    assert fit(drawn, of["b"]).values["fixed_clk"] == pytest.approx(3000, rel=0.3)


def test_a_typical_class_sees_the_rows_of_known_implementations():
    """Lent rows are predicted by the class that borrows them, their implementation unsaid."""
    row = Measurement(file="a.csv", line=1, source="lab", device="h200-sxm", scenario="attention",
                      quantity="latency", value=1e-3, workload=decode(), framework="torch",
                      kernel="flash/sdpa")  # fmt: skip
    groups = gather([row])
    assert groups[0].kernel_class == "attention_flash_decode"
    (lent,) = rows_of("attention_decode", groups)
    assert (lent.kernel_class, lent.implementation) == ("attention_decode", "")


def test_one_run_of_ours_is_one_table():
    """However many files it went into."""
    first, second = (
        Measurement(file=f, line=1, source="perfmodel", device="h200-sxm", scenario="gemm",
                    quantity="latency", value=1.0) for f in ("a.json", "b.json")
    )  # fmt: skip
    assert by_file(first) == by_file(second)
    assert by_file(replace(first, source="lab")) != by_file(replace(second, source="lab"))
