"""The parts of planning: demand, price, Pareto set, live activations, data types."""

import dataclasses

import numpy as np
import pytest

import perfmodel as pm
from perfmodel.errors import BadValue, UnknownName
from perfmodel.hw.link import Price
from perfmodel.planning.activations import live_bytes_per_token, logit_bytes_per_sequence
from perfmodel.planning.answers import Level
from perfmodel.planning.cost import (
    hourly_price,
    joules_per_million_tokens,
    usd_per_million_tokens,
)
from perfmodel.planning.demand import Demand
from perfmodel.planning.pareto import pareto_mask
from perfmodel.planning.running import Wish
from perfmodel.planning.serving import Span

H100 = pm.device("h100-sxm-80gb")


def test_cost_of_tokens():
    """8 devices at 3 dollars an hour making 2400 tokens/s: 24 dollars for 8.64 million."""
    assert usd_per_million_tokens(3.0, np.float64(8), np.float64(2400)) == pytest.approx(24 / 8.64)


def test_energy_of_tokens():
    """2 devices of 700 W making 1000 tokens/s: 1.4 J per token."""
    assert joules_per_million_tokens(700.0, np.float64(2), np.float64(1000)) == pytest.approx(1.4e6)


def test_price_names_its_origin():
    """The on-demand price comes first, with provider and date; a given one replaces it."""
    spot = Price(usd_per_hour=1.0, provider="p", date="2026-01-01", kind="spot")
    fixed = Price(usd_per_hour=2.0, provider="q", date="2026-02-02")
    device = dataclasses.replace(H100, prices=(spot, fixed))

    assert hourly_price(device).usd_per_hour == 2.0
    assert hourly_price(device).origin == "q, on-demand, 2026-02-02"
    assert hourly_price(device, 2.5).usd_per_hour == 2.5


def test_no_price_is_no_guess():
    """A device without a price has none, and the reason says how to give one."""
    price = hourly_price(dataclasses.replace(H100, prices=()))

    assert price.usd_per_hour is None
    assert "--price" in price.origin


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf"), "2"])
def test_price_must_be_a_price(wrong):
    """Dollars are positive and finite."""
    with pytest.raises(BadValue, match=r"^price: "):
        hourly_price(H100, wrong)


def test_pareto_set():
    """A point stays unless another is nowhere worse and somewhere better."""
    costs = np.array([[1, 4], [2, 2], [4, 1], [2, 3], [2, 2]], dtype=float)

    assert pareto_mask(costs).tolist() == [True, True, True, False, True]


def test_pareto_ignores_the_unknown():
    """A criterion without an answer decides nothing."""
    costs = np.array([[np.nan, 1], [5, 2], [np.nan, 3]])

    assert pareto_mask(costs).tolist() == [True, False, False]


def test_live_set_of_a_gated_mlp():
    """Llama-2-7B: residual, normalised input, then gate, up and product of 11008, in 2 bytes."""
    llama = pm.model("llama-2-7b")

    assert live_bytes_per_token(llama, "bf16") == 2 * (2 * 4096 + 3 * 11008)
    assert live_bytes_per_token(llama, "bf16", tp=4) == 2 * (2 * 4096 + 3 * 11008 / 4)


def test_live_set_of_experts():
    """Mixtral: two copies of each token, in and out, with three inner tensors of 14336 each."""
    width = 2 * 4096 + 2 * (2 * 4096 + 3 * 14336)

    assert live_bytes_per_token(pm.model("mixtral-8x7b"), "bf16") == 2 * width


@pytest.mark.parametrize("name", ["mamba-2.8b", "mamba2-2.7b", "deepseek-v3", "jamba-v0.1"])
def test_every_mixer_has_a_live_set(name):
    """More devices share it, and it is at least the residual stream and its copy."""
    shape = pm.model(name)
    whole, half = (live_bytes_per_token(shape, "bf16", tp=tp) for tp in (1, 2))

    assert 2 * 2 * shape.hidden < half < whole


def test_logits_are_fp32():
    """One row of the vocabulary per sequence."""
    assert logit_bytes_per_sequence(pm.model("llama-3-8b")) == 4 * 128_256


def test_demand_counts():
    """Half the prompt cached leaves half to prefill; decode attends to it all."""
    demand = Demand(users=4, prompt=1001, output=512, prefix_hit=0.5)

    assert demand.fresh == 501
    assert demand.mean_context == 1001 + 256
    assert demand.peak_context == 1513


def test_a_whole_prompt_cached_still_prefills_its_last_token():
    """Something must produce the first token."""
    assert Demand(users=1, prompt=100, output=1, prefix_hit=1.0).fresh == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"users": None},
        {"rate": 2.0},
        {"users": 0},
        {"prompt": 1.5},
        {"output": [1, 2]},
        {"ttft_s": 0.0},
        {"tpot_s": float("nan")},
        {"prefix_hit": 1.01},
        {"prefix_hit": -0.1},
    ],
)
def test_bad_demands(wrong):
    """Each is refused by the field that is wrong."""
    with pytest.raises(BadValue) as caught:
        Demand(**({"users": 1, "prompt": 10, "output": 10} | wrong))

    assert caught.value.field in {*wrong, "users"}


@pytest.mark.parametrize(
    ("model", "device", "wish", "expected"),
    [
        ("llama-3-8b", "h100-sxm-80gb", {}, ("bf16", "bf16", "bf16")),
        ("llama-3-8b", "v100-sxm2-32gb", {}, ("fp16", "fp16", "fp16")),
        ("llama-3-8b", "h100-sxm-80gb", {"dtype": "fp8"}, ("fp8", "fp8", "bf16")),
        ("llama-3-8b", "h100-sxm-80gb", {"kv_dtype": "fp8"}, ("bf16", "bf16", "fp8")),
        ("llama-3-8b", "h100-sxm-80gb", {"weight_dtype": "int4"}, ("bf16", "int4", "bf16")),
        ("llama-3-8b", "h100-sxm-80gb", {"dtype": "fp16"}, ("fp16", "fp16", "fp16")),
    ],
)
def test_data_types_when_some_are_named(model, device, wish, expected):
    """What is not named follows what is, and the device's rates; the cache stays at 16 bits."""
    types = Wish(**wish).on(pm.model(model), pm.device(device))

    assert (types.act, types.weight, types.kv) == expected


def test_unknown_data_type():
    """Refused by name."""
    with pytest.raises(UnknownName):
        Wish(dtype="bf17").on(pm.model("llama-3-8b"), H100)


@pytest.mark.parametrize(
    ("asked", "position"), [(1.0, 0.0), (2.0, 0.5), (4.0, 1.0), (9.0, 1.0), (0.5, 0.0)]
)
def test_position_of_a_level_in_an_interval(asked, position):
    """On a log scale from 1 to 4, 2 lies half way; outside it is 0 or 1."""
    times = Span(value=np.float64(2.0), low=np.float64(1.0), high=np.float64(4.0))

    assert Level(span=times, asked_s=asked).position == pytest.approx(position)


def test_position_without_a_level():
    """Nothing was asked."""
    times = Span(value=np.float64(2.0), low=np.float64(1.0), high=np.float64(4.0))

    assert Level(span=times, asked_s=None).position is None
