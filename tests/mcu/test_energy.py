"""Energy of an inference, of counted operations, and the life of a battery."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.errors import BadValue, MissingFigure, UnknownName
from perfmodel.hw.load import load_device
from perfmodel.mcu import latency
from perfmodel.mcu.energy import (
    battery_energy,
    battery_life,
    counted_energy,
    inference_energy,
    operations_energy,
    traffic_energy,
)
from perfmodel.mcu.networks import built_in


@pytest.mark.parametrize(
    ("model", "multiplies", "adds", "published"),
    [("PVTv2-B0", 0.54e9, 0.56e9, 2.5e9), ("PVTv2-B1", 2.03e9, 2.09e9, 9.4e9),
     ("PVTv2-B3", 6.54e9, 6.75e9, 30.25e9), ("Twins-SVT-S", 2.72e9, 2.81e9, 12.6e9)],
)  # fmt: skip
def test_ecoformer_energies(model, multiplies, adds, published):
    """EcoFormer (Liu et al., NeurIPS 2022, the table of its repository): 3.7 pJ a multiplication
    and 0.9 pJ an addition give its energies in pJ: 0.54 x 3.7 + 0.56 x 0.9 = 2.50.
    """
    assert operations_energy(multiplies, adds) * 1e12 == pytest.approx(published, rel=2e-3), model


def test_ecoformer_saves_73_percent():
    """Against 2.02 G multiplications and 1.99 G additions of the baseline PVTv2-B0."""
    saved = 1.0 - operations_energy(0.54e9, 0.56e9) / operations_energy(2.02e9, 1.99e9)

    assert saved == pytest.approx(0.73, abs=0.003)


def test_table_energies_by_hand():
    """int8: 0.2 + 0.03 pJ; 64 bytes from a 32 KB SRAM are eight accesses of 20 pJ."""
    assert operations_energy(1.0, 1.0, "int8") == pytest.approx(0.23e-12)
    assert traffic_energy(64.0) == pytest.approx(160e-12)
    assert traffic_energy(8.0, "dram") == pytest.approx(1300e-12)
    with pytest.raises(UnknownName):
        operations_energy(1.0, 1.0, "bf16")
    with pytest.raises(UnknownName):
        traffic_energy(1.0, "tape")


def test_counted_energy_by_hand():
    """AutoEncoder: 264,192 int8 multiply-adds at 0.23 pJ. Its ten layers move 264,192 weights,
    1,672 inputs and as many outputs, eight bytes an access of 100 pJ: 272,712 bytes with weights
    and live tensors exceed 32 KB.
    """
    found = counted_energy(built_in("autoencoder"))

    assert found["arithmetic"] == pytest.approx(264_192 * 0.23e-12)
    assert found["memory"] == pytest.approx((264_192 + 2 * 1_672) / 8 * 100e-12)


def test_a_board_spends_far_more_than_its_operations():
    """Instructions around the operations dominate: the two scales are never the same."""
    board = load_device("stm32l4r5")
    whole = inference_energy(latency("resnet8", board, "hale"), board).energy_j

    assert sum(counted_energy(built_in("resnet8")).values()) < whole / 50


def test_board_energy_is_power_times_time():
    """42 mW for the time of an inference; pJ per multiply-add beside the published 553."""
    board = load_device("stm32l4r5")
    time = latency("resnet8", board, "x-cube-ai-9")
    found = inference_energy(time, board)

    assert found.energy_j == pytest.approx(0.042 * float(time.time_s))
    assert found.low_j < found.energy_j < found.high_j
    assert found.facts["pj_per_mac"] == pytest.approx(found.facts["published"]["resnet8"], rel=0.1)
    assert found.to_dict()["inferences_per_j"] == pytest.approx(1.0 / found.energy_j)


def test_energy_from_a_quoted_multiply_add():
    """A board that states no power but 77 pJ per multiply-add: 12,501,632 of them."""
    board = load_device("stm32u385")
    found = inference_energy(latency("resnet8", board), board)

    assert found.energy_j == pytest.approx(77e-12 * 12_501_632)


def test_no_power_no_energy():
    """A board that states neither is refused, not guessed."""
    board = load_device("rp2040")
    with pytest.raises(MissingFigure, match="active power"):
        inference_energy(latency("resnet8", board), board)


def test_battery_by_hand():
    """1 Ah at 3.7 V is 13,320 J. At one inference of E every 10 s and nothing asleep it lasts
    13,320 / (E / 10) seconds."""
    board = load_device("stm32l4r5")
    time = latency("resnet8", board, "hale")
    energy = inference_energy(time, board)
    joules = battery_energy("1000 mAh")
    life = battery_life(energy, time, board, battery_j=joules, period_s=10.0)

    assert joules == pytest.approx(13_320.0)
    assert battery_energy("3.7 Wh") == pytest.approx(13_320.0)
    assert life.life_s == pytest.approx(joules / (energy.energy_j / 10.0))
    assert life.inferences == pytest.approx(joules / energy.energy_j)


def test_sleep_is_counted():
    """Vega states 1.7 uW asleep: for one inference a day the average is nearly that."""
    board = load_device("vega")
    time = latency("resnet8", board)
    energy = inference_energy(time, board)
    life = battery_life(energy, time, board, battery_j=1.0, period_s=86_400.0)

    assert 1.7e-6 < life.average_w < 1.8e-6


@settings(max_examples=30, deadline=None)
@given(period=st.floats(1.0, 1e5), longer=st.floats(1.0, 100.0))
def test_rarer_inferences_last_longer(period, longer):
    """A longer period never shortens the battery's life."""
    board = load_device("stm32l4r5")
    time = latency("ds-cnn", board)
    energy = inference_energy(time, board)
    lives = [
        battery_life(energy, time, board, battery_j=1e3, period_s=p).life_s
        for p in (period, period * longer)
    ]

    assert lives[1] >= lives[0] * (1 - 1e-12)


def test_battery_refusals():
    """No battery, a period shorter than the inference, a quantity of something else."""
    board = load_device("stm32l4r5")
    time = latency("resnet8", board)
    energy = inference_energy(time, board)
    with pytest.raises(BadValue, match="every"):
        battery_life(energy, time, board, battery_j=1.0, period_s=1e-3)
    with pytest.raises(BadValue, match="battery"):
        battery_life(energy, time, board, battery_j=0.0, period_s=10.0)
    with pytest.raises(BadValue, match="battery"):
        battery_energy("3 apples")
