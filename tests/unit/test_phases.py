"""Phases as operators and as time: what is listed, how often, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perfmodel.catalog import using_specs
from perfmodel.errors import BadValue, MalformedFile, UnknownName, UnsupportedDtype
from perfmodel.hw.load import load_device
from perfmodel.models.flow import Dtypes
from perfmodel.models.hf import load_model
from perfmodel.models.parallel import Split
from perfmodel.models.phases import ops
from perfmodel.models.shape import PatchEmbedding
from perfmodel.models.timing import step


@pytest.fixture(scope="module")
def h100():
    return load_device("h100-sxm-80gb")


@pytest.fixture(scope="module")
def llama():
    return load_model("llama-3-8b")


def named(listed):
    """Operators by (group, name)."""
    return {(op.group, op.name): op for op in listed}


def test_identical_layers_collapse_into_counts(llama):
    """Thirty-two layers of a Llama are twelve operators; q, k and v are one product, as are gate
    and up, and KV heads replicate beyond eight devices."""
    found = named(ops(llama, phase="decode", batch=4, context=100, split=Split(tp=16)))
    assert [key[1] for key in found] == [
        *("lookup", "norm", "qkv", "rope", "attention", "out", "gate_up", "silu", "down"),
        *("all_reduce", "final_norm", "head", "sample"),
    ]
    qkv = found["qkv", "qkv"]
    assert (qkv.count, qkv.workload.k, qkv.workload.n) == (32, 4096, (2 + 1 + 1) * 128)
    assert found["norm", "norm"].count == 64
    assert found["all_reduce", "all_reduce"].count == 64
    assert found["mlp", "gate_up"].workload.n == 2 * 14336 / 16
    assert found["head", "head"].workload.n == 128_256 / 16


def test_windowed_and_full_layers_attend_apart():
    """Gemma-2 alternates: half the layers see 4096 tokens at most."""
    found = named(
        op
        for op in ops(load_model("gemma-2-9b"), phase="decode", context=9000)
        if op.group == "attention"
    )
    windowed, full = found["attention", "attention_window_4096"], found["attention", "attention"]
    assert windowed.count == full.count == 21
    assert windowed.resting_bytes * 9000 == full.resting_bytes * 4096


def test_a_parallel_block_needs_one_all_reduce():
    """GPT-J's mixer and feed-forward share a norm and a sum."""
    found = ops(load_model("gpt-j-6b"), phase="decode", context=9, split=Split(tp=2))
    (joined,) = (op for op in found if op.group == "all_reduce")
    assert joined.count == 28


def test_layers_of_one_block_need_one_all_reduce():
    """Nemotron-H alternates mixer-only and feed-forward-only layers: one sum each."""
    shape = load_model("nemotron-h-8b")
    found = ops(shape, phase="decode", context=9, split=Split(tp=2))
    assert sum(op.count for op in found if op.group == "all_reduce") == shape.depth


def test_sequence_parallelism_scatters_gathers_and_cuts_norms(llama):
    """As many bytes as the all-reduce it replaces, and norms over a TP-th of the rows."""
    how = {"phase": "prefill", "prompt": 1024}
    plain = named(ops(llama, split=Split(tp=4), **how))
    cut = named(ops(llama, split=Split(tp=4, sequence_parallel=True), **how))
    assert ("all_reduce", "all_reduce") not in cut
    for kind in ("reduce_scatter", "all_gather"):
        whole = plain["all_reduce", "all_reduce"]
        assert cut[kind, kind].workload.bytes == whole.workload.bytes
        assert cut[kind, kind].count == whole.count
    assert cut["norm", "norm"].workload.rows * 4 == plain["norm", "norm"].workload.rows


def test_pipeline_stages_hand_rows_on(llama, h100):
    """Four stages pass the hidden rows three times; layers still follow each other."""
    alone = step(llama, h100, phase="decode", batch=8, context=100)
    staged = step(llama, h100, phase="decode", batch=8, context=100, pp=4)
    listed = named(ops(llama, phase="decode", batch=8, context=9, split=Split(pp=4)))
    op = listed["send_recv", "stage"]
    assert (op.count, op.workload.bytes) == (3, 8 * 4096 * 2)
    assert staged.time_s == pytest.approx(alone.time_s + staged.terms["send_recv"], rel=1e-12)
    assert staged.facts["pipeline_stages"] == 4


def test_experts_beyond_tp_exchange_tokens():
    """EP 8 over TP 1: eight replicas' tokens meet in each expert; two all-to-alls a layer."""
    shape = load_model("mixtral-8x7b")
    how = {"phase": "decode", "batch": 16, "context": 100}
    found = named(ops(shape, split=Split(ep=8), **how))
    sent = found["all_to_all", "experts"]
    assert (sent.count, sent.workload.ranks) == (64, 8)
    assert sent.workload.bytes == 16 * 2 * 4096 * 2
    assert ("all_to_all", "experts") not in named(ops(shape, split=Split(tp=8, ep=8), **how))


def test_only_the_last_token_reaches_the_head(llama):
    """The head of a prefill sees one row per sequence; a mixed step's also the chunk's last."""
    assert ops(llama, phase="prefill", batch=3, prompt=500)[-2].workload.m == 3
    mixed = ops(llama, phase="mixed", batch=3, context=90, chunk=128)
    assert mixed[-2].name == "head"
    assert mixed[-2].workload.m == 4


def test_chunks_attend_to_all_tokens_before_them(llama):
    """Prompt 1000 in chunks of 256: three whole ones that see 256, 512 and 768 tokens, and 232
    that see 1000."""
    found = ops(llama, phase="prefill", prompt=1000, chunk=256)
    whole, last = (op for op in found if op.group == "attention")
    assert whole.summed
    assert whole.workload.kv_len.tolist() == [256, 512, 768]
    assert whole.count.tolist() == [32, 32, 32]
    assert (last.workload.q_len, last.workload.kv_len, last.count) == (232, 1000, 32)
    assert [op.count for op in found if op.name == "qkv"] == [96, 32]


def test_parts_of_a_chunked_prefill_show_the_mean_chunk(llama, h100):
    """A part's time times its count is its share of the step, chunks included."""
    found = step(llama, h100, phase="prefill", batch=2, prompt=5000, chunk=512)
    assert found.shape == ()
    shares = {}
    for part in found.parts:
        shares.setdefault(part.group, []).append(part.count * part.estimate.time_s)
    for group, seconds in found.terms.items():
        assert sum(shares[group]) == pytest.approx(seconds, rel=1e-9)
    assert sum(found.terms.values()) == pytest.approx(found.time_s, rel=1e-12)


def test_a_chunk_of_the_prompt_or_more_is_a_whole_prefill(llama, h100):
    """One chunk equals no chunking, whether it fits exactly or leaves room."""
    whole = step(llama, h100, phase="prefill", prompt=512)
    for chunk in (512, 4096):
        one = step(llama, h100, phase="prefill", prompt=512, chunk=chunk)
        assert one.time_s == pytest.approx(whole.time_s, rel=1e-12)
        assert one.lower_bound_s == pytest.approx(whole.lower_bound_s, rel=1e-12)


def test_a_mixed_step_reads_weights_once(llama, h100):
    """Decode and a chunk together cost less than apart, and no less than either."""
    decode = step(llama, h100, phase="decode", batch=32, context=2000)
    chunk = step(llama, h100, phase="prefill", prompt=256)
    mixed = step(llama, h100, phase="mixed", batch=32, context=2000, chunk=256)
    assert max(decode.time_s, chunk.time_s) < mixed.time_s < decode.time_s + chunk.time_s
    assert mixed.facts["tokens"] == 32 + 256


def test_mixed_latent_attention_reads_its_up_projection_once(h100):
    """Absorbed and expanded products of one step share their weights."""
    shape = load_model("deepseek-v2-lite")
    how = {"phase": "mixed", "batch": 4, "context": 900, "chunk": 128}
    decode = step(shape, h100, phase="decode", batch=132, context=900)
    mixed = step(shape, h100, **how)
    assert mixed.facts["weight_bytes"] == pytest.approx(decode.facts["weight_bytes"], rel=1e-12)


def test_an_encoder_keeps_no_cache_and_sees_both_ways(h100):
    """BERT: full scores, no bytes of cache, the pooler on one token per sequence."""
    found = named(ops(load_model("bert-base"), phase="encode", batch=4, prompt=128))
    attention = found["attention", "attention"]
    assert not attention.workload.causal
    assert attention.resting_bytes == 0.0
    assert found["head", "pooler"].workload.m == 4
    assert ("rope", "rope") not in found


def test_a_vision_model_reads_patches():
    """ViT-B/16: 196 patches by convolution, 197 tokens through the layers, one to the head."""
    found = named(ops(load_model("vit-b-16"), phase="encode", batch=2))
    assert found["embed", "patches"].workload.out_channels == 768
    assert found["qkv", "qkv"].workload.m == 2 * 197
    assert found["head", "head"].workload.m == 2


def test_narrow_activations_feed_products_only(llama):
    """W8A8: products in int8 with a bf16 output; attention, norms and head stay bf16."""
    types = Dtypes(act="int8", weight="int8", kv="fp8")
    found = named(ops(llama, phase="decode", context=9, dtypes=types))
    assert found["qkv", "qkv"].workload.dtype == "int8"
    assert found["qkv", "qkv"].workload.out_dtype == "bf16"
    assert found["head", "head"].workload.dtype == "bf16"
    attention = found["attention", "attention"].workload
    assert (attention.dtype, attention.kv_dtype) == ("bf16", "fp8")


def test_a_device_without_bf16_keeps_narrow_activations_in_fp16(llama):
    """W8A8 on a T4: attention and norms run in fp16, which it has; a stated type is kept."""
    t4, int8 = load_device("t4"), {"act": "int8", "weight": "int8", "kv": "fp16"}
    assert Dtypes(**int8).on(t4).wide == "fp16"
    assert Dtypes(**int8).on(load_device("h100-sxm-80gb")).wide == "bf16"
    found = step(llama, t4, phase="decode", context=9, dtypes=Dtypes(**int8))
    assert any("activations are fp16: the device has no bf16" in n for n in found.assumptions)
    assert Dtypes(act="bf16").on(t4).wide == "bf16"
    with pytest.raises(BadValue, match="too narrow"):
        Dtypes(wide="fp8")


def test_four_bit_weights_carry_group_scales(llama):
    """W4A16 keeps one 16-bit scale for 128 weights along k; the head is not quantised."""
    found = named(ops(llama, phase="decode", context=9, dtypes=Dtypes(weight="int4")))
    assert found["mlp", "down"].workload.group_size == 128
    assert found["head", "head"].workload.weight_dtype == "bf16"


@pytest.mark.parametrize(
    ("name", "how", "field"),
    [
        ("llama-3-8b", {"phase": "generate"}, "phase"),
        ("llama-3-8b", {"phase": "decode"}, "context"),
        ("llama-3-8b", {"phase": "decode", "context": 9, "prompt": 9}, "prompt"),
        ("llama-3-8b", {"phase": "decode", "context": 9, "batch": 0}, "batch"),
        ("llama-3-8b", {"phase": "decode", "context": 9.5}, "context"),
        ("llama-3-8b", {"phase": "prefill"}, "prompt"),
        ("llama-3-8b", {"phase": "prefill", "prompt": 9, "context": 9}, "context"),
        ("llama-3-8b", {"phase": "prefill", "prompt": 10**9, "chunk": 1}, "chunk"),
        ("llama-3-8b", {"phase": "prefill", "prompt": 2**40, "batch": 2**40}, "batch x tokens"),
        ("llama-3-8b", {"phase": "mixed", "context": 9}, "chunk"),
        ("llama-3-8b", {"phase": "mixed", "context": 9, "chunk": 9, "prompt": 3}, "prompt"),
        ("llama-3-8b", {"phase": "encode", "prompt": 9}, "phase"),
        ("bert-base", {"phase": "encode"}, "prompt"),
        ("bert-base", {"phase": "prefill", "prompt": 9}, "phase"),
        ("vit-b-16", {"phase": "encode", "prompt": 9}, "prompt"),
        (
            "llama-3-8b",
            {"phase": "decode", "context": np.ones(2, int), "batch": np.ones(3, int)},
            "batch",
        ),
    ],
)
def test_a_meaningless_question_names_its_field(name, how, field):
    """What a phase lacks, or has no use for, is refused by name with a way out."""
    with pytest.raises(BadValue) as caught:
        ops(load_model(name), **how)
    assert caught.value.field == field


def test_dtypes_are_checked(llama):
    """Weights wider than activations have no product; a device without the rate is said so."""
    with pytest.raises(BadValue, match="wider"):
        Dtypes(act="int8", weight="bf16")
    fp8 = Dtypes(act="fp8", weight="fp8")
    with pytest.raises(UnsupportedDtype):
        step(llama, load_device("a100-sxm-80gb"), phase="decode", context=9, dtypes=fp8)


def test_lengths_beyond_the_model_are_said_not_refused(llama, h100):
    """Llama-3 was made for 8192 tokens; more is answered with a note."""
    notes = step(llama, h100, phase="decode", context=9000).assumptions
    assert any("9000 exceeds" in note for note in notes)
    assert not any("exceeds" in n for n in step(llama, h100, phase="decode", context=9).assumptions)


ENGINE = """title = "{0}"
rows = ["{0}*"]
host = "{1}"
[kernels]
power_of_two_groups = {2}
"""

HOST = """[fit]
rows = 1
factor = 1.0
vendors = ["NVIDIA"]
dtypes = ["bf16"]
[residuals]
step = { coverage = 0.9, low = 0.8, high = 1.25 }
bare = { coverage = 0.9, low = 0.8, high = 1.5 }
[shared]
stream_fraction = { value = 0.9 }
reread_fraction = { value = 0.5 }
pointwise_share = { value = 1.0 }
all_reduce_share = { value = 1.0 }
[engines]
slow = { step_s = { value = 0.003 }, ranks_s = { value = 0.001 } }
fast = { step_s = { value = 0.0 }, ranks_s = { value = 0.0 } }
replayed = { step_s = { value = 0.001 }, ranks_s = { value = 0.0 } }
"""


@pytest.fixture
def engine_specs(tmp_path):
    """Two engines and their fit, as a folder of specs."""
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "slow.toml").write_text(ENGINE.format("slow", "launched", "true"))
    (tmp_path / "engines" / "fast.toml").write_text(ENGINE.format("fast", "replayed", "false"))
    (tmp_path / "calibration").mkdir()
    (tmp_path / "calibration" / "host.toml").write_text(HOST)
    return tmp_path


YOUNGER = 0.5**0.5
"""Host times of servers one generation younger than those the constants belong to."""


def test_host_time_of_an_engine_is_added_by_name(engine_specs, llama, h100):
    """A fitted engine adds a term per step, an unknown one is refused, none is noted as zero."""
    how = {"phase": "decode", "context": 9}
    bare = step(llama, h100, **how)
    assert "host" not in bare.terms
    assert any("no serving engine" in note for note in bare.assumptions)
    with using_specs(engine_specs):
        slow = step(llama, h100, **how, engine="slow")
        assert slow.terms["host"] == pytest.approx(0.003 * YOUNGER)
        assert slow.lower_bound_s == bare.lower_bound_s
        split = step(llama, h100, **how, engine="slow", tp=2)
        assert split.terms["host"] == pytest.approx((0.003 + 0.001) * YOUNGER)
        chunked = step(llama, h100, phase="prefill", prompt=1000, chunk=256, engine="slow")
        assert chunked.terms["host"] == pytest.approx(4 * 0.003 * YOUNGER)
        with pytest.raises(UnknownName, match="slow"):
            step(llama, h100, **how, engine="slwo")


def test_an_engine_without_rows_takes_the_times_of_its_class(engine_specs, llama, h100):
    """vLLM is not in this fit, but another engine that replays graphs is."""
    with using_specs(engine_specs):
        found = step(llama, h100, phase="decode", context=9, engine="vllm")
    assert found.terms["host"] == pytest.approx(0.001 * YOUNGER)
    assert any("the median of replayed engines" in note for note in found.assumptions)


def test_the_interval_of_a_step_is_that_of_whole_served_steps(engine_specs, llama, h100):
    """Inside the fit's data types and vendor; elsewhere operators' intervals add up."""
    how = {"phase": "decode", "batch": 64, "context": 4096}
    with using_specs(engine_specs):
        served = step(llama, h100, **how, engine="slow")
        bare = step(llama, h100, **how)
        apart = step(llama, h100, **how, pp=2)
    assert served.coverage == bare.coverage == 0.9
    assert served.low_s == pytest.approx(0.8 * served.time_s)
    assert served.high_s == pytest.approx(1.25 * served.time_s)
    assert bare.high_s == pytest.approx(1.5 * bare.time_s)
    assert apart.high_s != pytest.approx(1.5 * apart.time_s)


def test_kernels_that_an_engine_lacks_cost_time(engine_specs, h100):
    """29 query heads per key head: without such a kernel the cache is read once per query head."""
    falcon = load_model("falcon-180b")
    how = {"phase": "decode", "batch": 64, "context": 2048, "tp": 8}
    with using_specs(engine_specs):
        able = step(falcon, h100, **how, engine="fast").terms["attention"]
        lacking = step(falcon, h100, **how, engine="slow").terms["attention"]
    assert lacking > 3 * able


def test_a_malformed_engine_is_refused_in_one_message(engine_specs, llama, h100):
    """A share above one, an unknown host class, times that are words."""
    path = engine_specs / "engines" / "odd.toml"
    for line in ('host = "sideways"', 'host = "replayed"\n[cache]\nshare = 2.0'):
        path.write_text('title = "odd"\nrows = []\n' + line + "\n")
        with using_specs(engine_specs), pytest.raises(MalformedFile):
            step(llama, h100, phase="decode", context=9, engine="odd")
    (engine_specs / "calibration" / "host.toml").write_text("[shared]\nstream_fraction = 1\n")
    with using_specs(engine_specs), pytest.raises(MalformedFile):
        step(llama, h100, phase="decode", context=9, engine="slow")


def test_a_vision_model_with_other_patches_changes_its_tokens():
    """Patch 32 quarters the patches of patch 16."""
    shape = load_model("vit-b-16")
    assert shape.patch is not None
    coarse = replace(shape, patch=PatchEmbedding(image=224, patch=32))
    found = named(ops(coarse, phase="encode"))
    assert found["qkv", "qkv"].workload.m == 49 + 1


def test_the_answer_is_json_ready(llama, h100):
    """to_dict of a step holds plain values only, parts and facts included."""
    import json

    found = step(
        llama, h100, phase="prefill", prompt=3000, chunk=512, tp=2, engine="vllm"
    ).to_dict()
    assert json.loads(json.dumps(found))["terms"]["attention"] > 0
    assert found["bound"] == "tensor"
