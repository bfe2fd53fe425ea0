"""Why a layout is no plan, and what an easier question is: each reason where it is the one."""

from __future__ import annotations

import re

import pytest

import perfmodel as pm
from perfmodel.hw.load import device_names, load_device
from perfmodel.planning.sensitivity import raised_devices

LOAD = {"prompt": 2048, "output": 256}


def reasons(of, on, **load):
    return pm.plan(of, on, **{**LOAD, **load}).infeasible


@pytest.mark.parametrize(
    ("of", "load", "told"),
    [
        (
            "llama-3.1-70b",
            {"users": 1, "tp": 1, "pp": 1},
            r"weights .* GB exceed the 85.9 GB per device",
        ),
        ("llama-3.1-8b", {"users": 1, "prompt": 10**6, "tp": 1, "pp": 1}, "one user needs"),
        ("llama-3.1-8b", {"users": 4, "ttft_s": 1e-6, "tp": 1, "pp": 1}, "TTFT at best"),
        ("llama-3.1-8b", {"users": 4, "tpot_s": 1e-6, "tp": 1, "pp": 1}, "TPOT at best"),
        (
            "llama-3.1-8b",
            {"users": 4000, "tp": 1, "pp": 1, "max_devices": 2, "tpot_s": 0.02},
            r"needs \d+ devices, allowed 2",
        ),
    ],
)
def test_the_reason_is_the_one(of, load, told):
    """One layout, one reason: what it lacks, with the figure and what was asked."""
    (reason,) = reasons(of, "h100-sxm-80gb", **load)

    assert re.search(told, reason)
    assert "tp 1 pp 1" in reason


def test_every_layout_has_a_reason_or_a_plan():
    """Pipeline depths of one sweep keep their own reasons: as many as layouts without a plan."""
    asked = {"users": 1, "tp": [1, 2], "pp": [1, 2, 4]}
    told = reasons("llama-3.1-70b", "h100-sxm-80gb", **asked)
    served = pm.plan("llama-3.1-70b", "h100-sxm-80gb", **LOAD, **asked)
    layouts = {(int(p.split.tp), int(p.split.pp)) for p in served.plans}

    assert len(told) + len(layouts) == 6
    assert all(f"tp {tp} pp {pp} " not in " ".join(told) for tp, pp in layouts)


def test_loosened_levels_ask_the_same_sweep():
    """A relief found by loosening a level is the plan of that question asked afresh."""
    asked = {"users": 64, "prompt": 8192, "output": 512, "ttft_s": 2.0}
    found = pm.plan("llama-3.1-70b", "h100-sxm-80gb", tpot_s=0.05, **asked)
    relief = next(r for r in found.relax if r.change.startswith("TPOT"))
    afresh = pm.plan("llama-3.1-70b", "h100-sxm-80gb", tpot_s=0.05 * 1.5, relax=False, **asked).best

    assert relief.devices == afresh.devices
    assert relief.usd_per_million_tokens == afresh.usd_per_million_tokens
    assert relief.latency_s == float(afresh.latency_s.value)


def test_without_a_price_or_a_power():
    """A device whose price or power nobody states is planned all the same: what rests on it is
    unknown, and a price that is given prices the same plans.
    """
    question = {"users": 1, "prompt": 128, "output": 16, "dtype": "fp32", "relax": False}
    found = pm.plan("llama-3.2-1b", "apple-m2-pro-gpu", **question).best
    priced = pm.plan("llama-3.2-1b", "apple-m2-pro-gpu", price=2.0, **question).best

    assert (found.usd_per_million_tokens, found.joules_per_million_tokens) == (None, None)
    assert priced.usd_per_million_tokens == pytest.approx(2.0 / 3600 / priced.tokens_per_s * 1e6)
    assert priced.devices == found.devices


@pytest.mark.parametrize("name", device_names())
def test_a_resource_is_raised_where_a_device_has_it(name):
    """What is raised is what the spec states: no special functions, cache, link or power of a
    device that has none.
    """
    device = load_device(name)
    raised = dict(raised_devices(device, 1.1))
    cache = device.memory.level("l2")
    has = {
        "special-function rate": device.compute.special_per_s > 0.0,
        "SRAM (cache) size": cache is not None and cache.bytes is not None,
        "SRAM (cache) bandwidth": cache is not None and cache.bandwidth_bytes_per_s is not None,
        "link bandwidth": device.peer_link is not None,
        "power limit": device.tdp_w is not None,
    }

    assert {name for name, stated in has.items() if stated} == set(raised) & set(has)
    assert raised["clock"].compute.clock_vector_hz == pytest.approx(
        1.1 * device.compute.clock_vector_hz
    )
