"""Served models: composition from steps, the fit of engines, layers of a model, training runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perfmodel.hw.load import load_device
from perfmodel.measure import Measurement, read_measurements
from perfmodel.models.engines import engine_names, engine_of, load_engine
from perfmodel.models.hf import load_model
from perfmodel.models.host import FEATURES, EngineTimes, engine_times, host_fit
from perfmodel.models.parallel import Split
from perfmodel.models.timing import features, step
from perfmodel.planning.footprint import footprint
from perfmodel.validation import validate
from perfmodel.validation.engines import Served, fit_served, gather_served, held_back, host_table
from perfmodel.validation.score import factor
from perfmodel.validation.serving import compose
from perfmodel.validation.training import model_flops

H100 = load_device("h100-sxm-80gb")


def row(
    scenario, model="llama-3.1-8b", *, value=1.0, quantity="latency", framework="vllm", **cells
):
    told = {k: str(v) for k, v in ({"tp": 1, "isl": 1024, "osl": 128, "batch": 8} | cells).items()}
    return Measurement(
        file="t.csv", line=1, source="", device=cells.get("device", "h100-sxm-80gb"),
        scenario=scenario, quantity=quantity, value=value, question=told, model=model,
        dtype=cells.get("dtype", "bf16"), framework=framework,
    )  # fmt: skip


@pytest.mark.parametrize("engine", engine_names())
@pytest.mark.parametrize(("phase", "sizes"), [
    ("decode", {"batch": 32, "context": 2000}),
    ("prefill", {"batch": 2, "prompt": 777}),
    ("mixed", {"batch": 16, "context": 900, "chunk": 512, "prompts": 3}),
])  # fmt: skip
def test_features_times_factors_are_the_step(engine, phase, sizes):
    """What a fit adds up is what a step of that engine says, term by term."""
    shape, runs = load_model("llama-3.1-8b"), load_engine(engine)
    types = runs.dtypes("bf16")
    found = features(shape, H100, runs, phase=phase, tp=2, dtypes=types, **sizes)
    whole = step(shape, H100, phase=phase, tp=2, dtypes=types, engine=engine, **sizes)

    total = sum(
        float(found[name]) * factor
        for name, factor in zip(FEATURES, engine_times(runs)[0].coefficients, strict=True)
    )
    assert total == pytest.approx(float(whole.time_s), rel=1e-9)


def test_the_longest_pattern_names_the_engine():
    """Versions have engines of their own; whoever is unknown is typical; no name is no engine."""
    assert engine_of("trtllm-docs v0.9.0").name == "trtllm-0.9"
    assert engine_of("trtllm-docs v0.14.0").name == "trtllm-0.14"
    assert engine_of("TRTLLM-1.0.0rc3").name == "trtllm-1.0"
    assert engine_of("vllm-0.6").name == "vllm"
    assert engine_of("sglang").name == "typical"
    assert engine_of("") is None


def test_in_flight_batch_is_what_memory_keeps():
    """The batch fits the engine's share of memory and one more request would not."""
    engine = load_engine("trtllm-0.14")
    m = row("inflight_max_throughput", "llama-3-8b", framework="trtllm-0.14", dtype="fp16",
            quantity="throughput", isl=1000, osl=1000)  # fmt: skip
    (found,), refused = compose([m])
    assert not refused
    batch = int(found.composed.amount[0] / (3000 / (13 * 241)))  # 13 waves of 241 for 3000 requests
    held = footprint(
        load_model("llama-3-8b"), context=2000.0, split=Split(), dtypes=engine.dtypes("fp16"),
        page_size=16, reserve_bytes=engine.cache.reserve_bytes, chunk=2048,
    )  # fmt: skip
    fixed = held.weights + held.reserve + held.live * held.chunk
    free = engine.cache.share * (H100.memory.capacity_bytes - fixed)
    assert batch == 241
    assert batch * held.user_kv <= free < (batch + 1) * held.user_kv


def test_more_offered_than_memory_keeps_changes_nothing():
    """TPOT of a concurrency beyond memory is that of what fits."""
    told = [row("online_tpot", "llama-3-70b", tp=2, dtype="fp8", isl=8192, osl=1024, batch=b)
            for b in (64, 512)]  # fmt: skip
    few, many = (s.predicted for s in validate(told))
    assert few == many


def test_a_model_that_does_not_fit_is_refused():
    """70 billion 16-bit weights on one device leave no room for a request."""
    (found,) = validate([row("inflight_max_throughput", "llama-3-70b", quantity="throughput")])
    assert found.refusal is not None
    assert "no memory" in found.refusal


def test_a_request_too_long_refuses_no_other():
    """Of rows asked together only the one that memory cannot hold has no answer."""
    lengths = (1_000, 100_000_000, 2_000)
    rows = [row("inflight_max_throughput", quantity="throughput", isl=n) for n in lengths]
    told = {s.measurement.question["isl"]: s.refusal for s in validate(rows)}
    assert told["1000"] is told["2000"] is None
    assert "no memory" in told["100000000"]


def test_what_keeps_nothing_is_never_in_flight():
    """An encoder has no tokens to generate: a reason, not a division by zero."""
    (found,) = validate([row("online_tpot", "bert-base")])
    assert "keeps nothing" in found.refusal


def synthetic(times, count=60):
    """Served rows made by the model itself under known host times."""
    rng = np.random.default_rng(3)
    made = []
    for _ in range(count):
        framework = str(rng.choice(["vllm", "trtllm-1.0.0"]))
        cells = {"batch": int(2 ** rng.integers(0, 7)), "isl": int(rng.integers(64, 4096)),
                 "osl": int(rng.integers(16, 1024)), "tp": 2 ** int(rng.integers(3))}  # fmt: skip
        made.append(row("online_tpot", framework=framework, **cells))
    served = gather_served(made)
    truth = served.ratios({"": EngineTimes(), **times})
    return Served(
        features=served.features, measured_s=served.measured_s / truth, engines=served.engines,
        rows=tuple(replace(m, value=float(v)) for m, v in
                   zip(served.rows, served.measured_s / truth, strict=True)),
    )  # fmt: skip


def test_the_fit_recovers_host_times():
    """Noise-free rows give back the host times of each engine."""
    shared = {"stream_fraction": 0.8, "pointwise_share": 0.7, "all_reduce_share": 0.9}
    times = {
        "vllm": EngineTimes(step_s=3e-3, ranks_s=1e-3, **shared),
        "trtllm-1.0": EngineTimes(step_s=1e-3, ranks_s=4e-3, **shared),
    }
    found = fit_served(synthetic(times)).times()
    for name, told in times.items():
        assert found[name].step_s == pytest.approx(told.step_s, rel=0.02)
        assert found[name].ranks_s == pytest.approx(told.ranks_s, rel=0.05)
        assert found[name].stream_fraction == pytest.approx(0.8, rel=0.05)


def test_flagged_rows_are_not_fitted_on():
    """A row that its table doubts is scored, not learned from."""
    rows = [row("online_tpot"), replace(row("online_tpot"), flagged=True)]
    assert len(gather_served(rows).rows) == 1


def test_few_served_rows_make_no_fit():
    """Nothing is written from a handful of rows."""
    assert host_table([row("online_tpot")]) is None


@pytest.mark.parametrize(("op", "work"), [
    ("Q_K_V", 2 * 16384 * 9216 * 12288), ("Q_mul_K", 2 * 192 * 2048 * 2048 * 128),
    ("A_mul_V", 2 * 192 * 2048 * 2048 * 128), ("Wo_proj", 2 * 16384 * 12288 * 3072),
    ("W1_proj", 2 * 16384 * 12288 * 12288), ("W2_proj", 2 * 16384 * 12288 * 12288),
])  # fmt: skip
def test_operators_of_a_layer(op, work):
    """GPT-3's layer on four devices, 8 x 2048 tokens: the products have these FLOPs."""
    from perfmodel.ops import count

    m = row(op, "gpt-3-175b", dtype="fp16", tp=4, batch=8, q_len=2048, kv_len=2048, framework=None,
            device="a100-sxm-80gb")  # fmt: skip
    (found,) = validate([m])
    assert found.refusal is None
    assert float(count(found.measurement.workload).flops_total) == work


def test_a_layer_without_attention_is_refused():
    """A Mamba layer has no queries to multiply with keys."""
    (found,) = validate([row("Q_mul_K", "mamba2-2.7b")])
    assert found.refusal is not None


def training(**cells):
    told = {"num_gpus": 64, "gbs": 128, "mbs": 1, "seq": 4096, "tp": 4, "pp": 4, "cp": 1} | cells
    return replace(
        row("pretraining_bf16", "llama-2-70b", quantity="throughput", value=4e14, framework=None),
        question={k: str(v) for k, v in told.items()},
    )


def test_training_rows():
    """Answered in the row's unit; recomputation read off a row's own count; the rest refused."""
    shape = load_model("llama-2-70b")
    own = model_flops(shape, 4096)
    assert own == pytest.approx(6 * 68.7e9 + 12 * 80 * 8192 * 4096, rel=0.01)
    plain, counted, odd, context = validate(
        [
            training(), training(tok_s_per_gpu=4e14 / (4 / 3 * own)), training(gbs=127),
            training(cp=2),
        ]
    )  # fmt: skip
    assert plain.predicted < 989e12
    assert counted.predicted == pytest.approx(plain.predicted, rel=0.15)  # slower, but counts more
    assert "do not divide" in odd.refusal
    assert "context parallelism" in context.refusal


def test_training_intervals_are_assumed():
    """No run was fitted: the interval is that of devices of the kind, and says so."""
    (found,) = validate([training()])
    assert found.low <= 0.55 * found.predicted
    assert found.high >= 1.9 * found.predicted


@pytest.fixture(scope="module")
def served(data_dir):
    """Every served row of the open tables."""
    tables = sorted(data_dir.glob("e2e_*.csv"))
    return gather_served([m for f in tables for m in read_measurements(f)])


@pytest.mark.data
def test_served_rows_held_back(served):
    """Rows held back by shape lie within the factors that serving claims."""
    ratios, told = held_back(served, "shape")
    bars = {"static_batch_throughput": 1.09, "inflight_max_throughput": 1.09, "online_tpot": 1.07}
    for scenario, bar in bars.items():
        own = np.array([m.scenario == scenario for m in told])
        assert own.sum() > 40
        assert factor(ratios[own], 1.0) <= bar


@pytest.mark.data
def test_first_tokens_of_a_device_held_back(served):
    """Batch-1 TTFT of a device that the fit has not seen."""
    ratios, told = held_back(served, "device")
    own = np.array([m.scenario == "ttft_batch1" for m in told])
    assert factor(ratios[own], 1.0) <= 1.14


@pytest.mark.data
@pytest.mark.parametrize("split", ["shape", "model", "device"])
def test_served_rows_lie_inside_their_intervals(served, split):
    """The committed 90 % intervals hold 85 % and more of rows held back, however they were."""
    ratios, told = held_back(served, split)
    intervals = host_fit().residuals
    for scenario in {m.scenario for m in told}:
        own = ratios[[m.scenario == scenario for m in told]]
        q = intervals[scenario]
        assert np.mean((own >= q.low) & (own <= q.high)) >= 0.85
