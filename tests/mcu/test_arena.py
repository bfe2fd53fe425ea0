"""Arena plans: verdicts, budgets, savings, suggestions, the two memories, the MCUFormer claim."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest

import perfmodel as pm
from perfmodel.errors import BadValue, MalformedFile
from perfmodel.mcu.access import Moves
from perfmodel.mcu.arena import plan_arena
from perfmodel.mcu.layout import lay_out
from perfmodel.mcu.memory import split, traffic_bytes
from perfmodel.mcu.networks import built_in
from perfmodel.mcu.reserves import load_reserves
from perfmodel.report.arena import arena_shown, arena_verdict
from tests.mcu.files import to_tflite

F746 = pm.device("stm32f746")
THREE_MOVES = {"fuse": False, "stream": False, "overwrite": False}
SPACE = [
    f"mcuformer:dim={dim},heads={heads},mlp={mlp},depth={depth},patch={patch},rank={rank}"
    for dim, heads, mlp, depth, patch, rank in itertools.product(
        (168, 192, 216), (3, 4), (3.5, 4), (12, 13, 14), (16, 20, 24, 28, 32), (0.4, 0.7, 0.95)
    )
]
"""Widths, heads, ratios, depths, patches and ranks that were searched (three of twelve ranks)."""


def checked(plan):
    """No two live buffers of one memory share a byte; each memory's use is the end of its last."""
    for a, b in itertools.combinations(plan.placements, 2):
        apart = a.last < b.first or b.last < a.first or a.memory != b.memory
        assert apart or a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset
    for memory in ("sram", "external_ram"):
        ends = [p.offset + p.bytes for p in plan.placements if p.memory == memory]
        use = plan.memory(memory)
        assert max(ends, default=0) <= (use.used_bytes if use else 0)
    return plan


def assert_fits(name):
    plan = pm.arena(name, F746)
    sram = plan.memory("sram")

    assert plan.fits, name
    assert sram.capacity_bytes == 320 * 1024
    assert plan.peak_bytes == plan.live_bytes <= sram.budget_bytes


@pytest.mark.parametrize("name", [*SPACE[::41], SPACE[-3]])
def test_mcuformer_fits_with_its_moves(name):
    """Networks across the search space at 240 x 240 fit 320 KB of SRAM with the moves."""
    assert_fits(name)


@pytest.mark.slow
def test_all_of_mcuformer_fits():
    """All 540 of them do."""
    for name in SPACE:
        assert_fits(name)


@pytest.mark.parametrize("name", ["mcuformer", "mcuformer:rank=0", "mcuformer:rank=0,head_dim=0"])
def test_mcuformer_does_not_fit_without_them(name):
    """Width 216, 4 heads, patch 16: without the three moves it does not fit, reserve or not."""
    plan = pm.arena(name, F746, **THREE_MOVES, reserve_bytes=0)

    assert not plan.fits
    assert plan.peak_bytes > 320 * 1024
    assert pm.arena(name, F746).fits


def test_mcuformer_savings_by_hand():
    """226 tokens, 4 heads: two score matrices, the values and the residual; then rows of them.

    Without moves: 2 x 4 x 226^2 + 226 x 256 + 226 x 216. In place one score matrix less, but
    queries and keys at the first product. In the end the residual and queries, keys and values.
    """
    plan = pm.arena("mcuformer", F746, align=1)
    saved = {s.move: s for s in plan.savings}
    scores, values, tokens = 4 * 226**2, 226 * 256, 226 * 216

    assert saved["none"].peak_bytes == 2 * scores + values + tokens
    assert saved["inplace"].peak_bytes == scores + 3 * values + tokens
    assert 3 * values + tokens < plan.peak_bytes < 3 * values + tokens + 8192
    assert saved["fuse"].largest_bytes == scores
    assert saved["stream"].largest_bytes == 240 * 240 * 3 - 16 * 240 * 3
    assert saved["overwrite"].saved_bytes > 0
    assert saved["none"].peak_bytes - sum(s.saved_bytes for s in plan.savings) == plan.peak_bytes


def test_where_weights_live():
    """Small weights lie in flash; beyond it the hottest stay there, the rest goes to the QSPI."""
    small, large = pm.arena("resnet8", F746), pm.arena("mcuformer", F746)

    assert small.weights["external_flash"] == ()
    assert small.memory("flash").used_bytes == small.network.weight_bytes
    flash, outer = large.memory("flash"), large.memory("external_flash")
    assert flash.fits
    assert outer.fits
    assert flash.used_bytes + outer.used_bytes == large.network.weight_bytes > 2**20
    assert flash.budget_bytes - flash.used_bytes < 0.05 * flash.budget_bytes
    assert any("quad SPI" in note for note in large.assumptions)


def test_no_flash_but_external():
    """A chip without flash of its own keeps weights and code in the external one."""
    plan = pm.arena("resnet8", "rp2040", code_bytes=1000)

    assert plan.memory("flash") is None
    assert plan.memory("external_flash").reserve_bytes == 1000
    assert plan.weights["flash"] == ()


def test_unknown_flash_is_said():
    """Where the spec states no flash, weights are unchecked and the answer says so."""
    plan = pm.arena("resnet8", "gap8")

    assert plan.fits
    assert plan.memory("flash").fits is None
    assert any("states no flash" in note for note in plan.assumptions)


def test_weights_too_large():
    """Weights that no memory holds make the answer no, and smaller ones are suggested."""
    plan = pm.arena("mcuformer", "stm32l4r5")

    assert not plan.fits
    assert plan.memory("sram").fits
    assert plan.memory("flash").fits is False
    assert any(s.memory == "flash" and s.saved_bytes > 0 for s in plan.suggestions)


def test_suggestions_hold():
    """Each suggestion saves bytes, the sufficient ones first; allowing the moves is among them."""
    plan = pm.arena("mcuformer", F746, **THREE_MOVES)
    sram = [s for s in plan.suggestions if s.memory == "sram"]
    ranks = [(not s.fits, -s.saved_bytes) for s in plan.suggestions]

    assert ranks == sorted(ranks)
    assert all(s.saved_bytes == plan.peak_bytes - s.used_bytes > 0 for s in sram)
    by_change = {s.change: s for s in plan.suggestions}
    moved = next(s for c, s in by_change.items() if c.startswith("allow fuse:"))
    assert (
        moved.used_bytes == pm.arena("mcuformer", F746, **(THREE_MOVES | {"fuse": True})).peak_bytes
    )
    patch = by_change["patch 32 instead of 16"]
    other = pm.arena("mcuformer:patch=32", F746, **THREE_MOVES)
    assert (patch.used_bytes, patch.fits) == (other.peak_bytes, other.fits)
    assert any(c.startswith("external RAM") for c in by_change)


def test_fused_pairs_are_suggested():
    """Where fusion is not allowed, single pairs of operators are named."""
    plan = pm.arena("mobilenet-v1-0.25-96", "stm32f746", fuse=False, stream=False,
                    reserve_bytes=320 * 1024 - 50_000)  # fmt: skip
    pairs = [s for s in plan.suggestions if s.change.startswith("fuse ")]

    assert not plan.fits
    assert pairs
    assert max(s.saved_bytes for s in pairs) > 0


def test_external_ram():
    """Tensors go outside until the rest fits; both memories are planned and the traffic is told."""
    inside = pm.arena("mcuformer", F746, **THREE_MOVES)
    plan = checked(pm.arena("mcuformer", F746, **THREE_MOVES, external_ram=True))
    outer = {p.buffer for p in plan.placements if p.memory == "external_ram"}

    assert not inside.fits
    assert plan.fits
    assert plan.memory("external_ram").capacity_bytes == 8 * 2**20
    assert outer
    moved = traffic_bytes(plan.layout)
    assert plan.external_traffic_bytes == sum(moved[b] for b in outer)


def test_external_ram_takes_the_least_traffic():
    """Of all sets of buffers whose absence fits the budget, the one moved costs least traffic."""
    layout = lay_out(built_in("resnet8"), Moves(fuse=False, stream=False, overwrite=False))
    traffic = traffic_bytes(layout)
    budget = 40_000
    found = split(layout, budget, 1)

    def fits(outer):
        live = [0] * len(layout.network.ops)
        for b in layout.buffers:
            for s in range(b.first, b.last + 1) if b.name not in outer else ():
                live[s] += b.bytes
        return max(live) <= budget

    names = [b.name for b in layout.buffers]
    least = min(
        sum(traffic[n] for n in outer)
        for size in range(3)
        for outer in itertools.combinations(names, size)
        if fits(outer)
    )
    assert found.traffic_bytes == least


def test_everything_fits_is_left_inside():
    """External RAM stays unused where SRAM is enough."""
    plan = pm.arena("resnet8", F746, external_ram=True)

    assert plan.memory("external_ram") is None
    assert plan.external_traffic_bytes == 0


@pytest.mark.parametrize("name", ["resnet8", "ds-cnn", "mobilenet-v1-0.25-96", "autoencoder"])
def test_tiny_networks_reach_the_bound(name):
    """The plan of each MLPerf Tiny network is as small as its live bytes, proven optimal."""
    plan = checked(pm.arena(name, "stm32l4r5"))

    assert plan.fits
    assert plan.optimal
    assert plan.layout.order_optimal
    assert plan.peak_bytes == plan.live_bytes
    assert max(s["live_bytes"] for s in plan.steps) <= plan.peak_bytes


def test_budget_line_decides():
    """The verdict turns where the reserve leaves one byte less than the arena."""
    peak = pm.arena("resnet8", F746).peak_bytes
    sram = 320 * 1024

    assert pm.arena("resnet8", F746, reserve_bytes=sram - peak).fits
    assert not pm.arena("resnet8", F746, reserve_bytes=sram - peak + 1).fits


def test_answer_is_json():
    """The keys that scripts rely on, all of them plain data."""
    told = json.loads(json.dumps(pm.arena("resnet8", F746).to_dict()))

    assert set(told) == {
        "network", "device", "fits", "macs", "weights_bytes", "peak_bytes", "live_bytes",
        "bound_bytes", "optimal", "method", "order_optimal", "external_traffic_bytes", "memories",
        "moves", "offsets", "schedule", "weights", "suggestions", "assumptions",
    }  # fmt: skip
    assert set(told["memories"][0]) == {
        "memory", "used_bytes", "reserve_bytes", "budget_bytes", "capacity_bytes", "fits",
    }  # fmt: skip
    assert told["macs"] == 12_501_632


def test_a_file_is_planned(tmp_path):
    """A path gives the plan of the network in the file, the same as by name."""
    path = tmp_path / "resnet8.tflite"
    path.write_bytes(to_tflite(built_in("resnet8")))

    assert pm.arena(path, F746).peak_bytes == pm.arena("resnet8", F746).peak_bytes
    assert pm.arena(built_in("resnet8"), F746).peak_bytes == pm.arena("resnet8", F746).peak_bytes


def test_no_board():
    """A GPU has no arena."""
    with pytest.raises(BadValue, match="not a microcontroller"):
        pm.arena("resnet8", "h100-sxm-80gb")


@pytest.mark.parametrize("field", ["reserve_bytes", "code_bytes", "align"])
def test_absurd_reserves(field):
    """Negative reserves and an alignment of nothing are refused."""
    with pytest.raises(BadValue):
        pm.arena("resnet8", F746, **{field: -1})
    with pytest.raises(BadValue):
        pm.arena("resnet8", F746, rows=0)


def test_reserves_come_from_specs(tmp_path):
    """A folder of one's own replaces the shipped reserves; a damaged one is refused."""
    from perfmodel.catalog import using_specs

    folder = tmp_path / "calibration"
    folder.mkdir()
    (folder / "arena.toml").write_text(
        '[reserve]\nstack_bytes = "1 KiB"\nruntime_bytes = "2 KiB"\ncode_bytes = "3 KiB"\n'
        'alignment_bytes = "4 B"\n'
    )
    with using_specs(tmp_path):
        assert load_reserves().sram_bytes == 3 * 1024
        assert pm.arena("resnet8", F746).memory("flash").reserve_bytes == 3 * 1024
        (folder / "arena.toml").write_text('[reserve]\nstack_bytes = "1 KiB"\n')
        with pytest.raises(MalformedFile):
            load_reserves()


def test_what_people_read():
    """Verdict, memories, moves, the buffers at the peak, a chart of time and address."""
    plan = pm.arena("mcuformer", F746, **THREE_MOVES)
    shown = arena_shown(plan)

    assert "DOES NOT FIT (sram)" in arena_verdict(plan)
    assert [t.title for t in shown.tables][:2] == ["memories", "what each move saves"]
    assert any(t.title == "what would help" for t in shown.tables)
    assert any(line.lstrip().startswith("0 B +--") for line in shown.notes)
    assert len(shown.csv.rows) == len(plan.placements)


def test_an_unproven_plan_says_so():
    """A gap between plan and bound is stated, never called optimal."""
    plan = pm.arena("resnet8", F746)
    doubtful = dataclasses.replace(plan, bound_bytes=plan.peak_bytes - 16, live_bytes=1)

    assert not doubtful.optimal
    assert any("at most 16 bytes above" in line for line in arena_shown(doubtful).lead)


def test_plain_call():
    """The planner answers with its defaults where no reserve or move is named."""
    plan = plan_arena(built_in("ds-cnn"), F746)

    assert plan.fits
    assert plan.memory("sram").reserve_bytes == load_reserves().sram_bytes
