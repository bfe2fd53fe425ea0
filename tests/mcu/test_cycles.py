"""Cycles of operators and latency of networks on boards."""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.errors import BadValue, UnknownName, UnsupportedDtype
from perfmodel.hw.load import device_names, load_device
from perfmodel.mcu import latency
from perfmodel.mcu.calibrated import mcu_calibration
from perfmodel.mcu.cores import core_of, core_table
from perfmodel.mcu.instructions import product_cycles, product_shape
from perfmodel.mcu.networks import built_in, network_named
from perfmodel.mcu.runtimes import runtime_named, runtimes
from perfmodel.workload import Conv, Gemm
from tests.mcu.files import to_tflite

FOUR = ("resnet8", "ds-cnn", "mobilenet-v1-0.25-96", "autoencoder")
BOARDS = tuple(n for n in device_names() if load_device(n).board is not None)


def product(work, board, dtype="int8"):
    device = load_device(board)
    core = core_of(device)
    return product_cycles(product_shape(work), device, core, core.of(dtype), core_table(), dtype)


def by_class(estimate):
    """Cycles per multiply-accumulate by operator class."""
    cycles, macs = defaultdict(float), defaultdict(float)
    for part in estimate.parts:
        cycles[part.group] += float(part.estimate.time_s) * estimate.facts["clock_hz"]
        macs[part.group] += part.estimate.facts["macs"]
    return {k: cycles[k] / macs[k] for k in cycles if macs[k]}


def test_pointwise_on_m4_by_hand():
    """A 2 x 2 block on the M4 takes 24 cycles for 16 multiply-adds: (2 + 2 x 2) loads of 1.5, two
    words of weights widened by 2 each, eight SMLAD, a branch of 3. DS-CNN's 1 x 1 layer has
    512,000 of them: 768,000; 8,000 inputs are gathered at (1.5 + 2 + 3 + 3) / 4 = 2.375 cycles:
    19,000; 8,000 outputs are requantised at 14: 112,000.
    """
    layer = Conv(in_channels=64, out_channels=64, height=25, width=5, dtype="int8")
    found = product(layer, "stm32l4r5")

    assert found.macs == 512_000
    assert found.work == pytest.approx(768_000 + 19_000 + 112_000)
    assert found.least == 256_000


def test_vector_product_on_m4_by_hand():
    """A matrix times a vector, two rows at once: 3 words loaded and widened at 3.5, four SMLAD, a
    branch of 3 for eight multiply-adds: 17.5 / 8 cycles; 128 outputs at 14.
    """
    found = product(Gemm(m=1, n=128, k=640, dtype="int8"), "stm32l4r5")

    assert found.work == pytest.approx(128 * 640 * 17.5 / 8 + 128 * 14)
    assert found.family == "dense"


def square(size, channels, filters, kernel=1, groups=1):
    return Conv(in_channels=channels, out_channels=filters, height=size, width=size,
                kernel_h=kernel, kernel_w=kernel, groups=groups, dtype="int8")  # fmt: skip


@pytest.mark.parametrize(
    ("work", "board", "published"),
    [
        (square(16, 32, 64, kernel=3), "gap8", 15.5),
        (square(10, 64, 64), "esp32-s3", 1.24),
        (square(10, 16, 16, kernel=8), "esp32-s3", 0.42),
        (square(10, 3, 64, kernel=3), "esp32-s3", 0.16),
        (square(18, 16, 16, kernel=3, groups=16), "esp32-s3", 0.20),
    ],
)
def test_published_kernels(work, board, published):
    """Multiply-adds per cycle that PULP-NN and esp-nn publish lie inside the analytic interval."""
    found = product(work, board)
    measured_over_predicted = (found.macs / published) / found.work

    assert 0.4 < measured_over_predicted < 2.5


@pytest.mark.parametrize("board", ["stm32l4r5", "stm32h7a3", "stm32u575"])
@pytest.mark.parametrize("runtime", [*mcu_calibration().runtimes, None])
def test_depthwise_and_first_layers_cost_more(board, runtime):
    """Depthwise and first layers take 2 to 6 times the cycles of pointwise ones."""
    for network in ("mobilenet-v1-0.25-96", "ds-cnn"):
        cost = by_class(latency(network, load_device(board), runtime))

        for slow in ("depthwise", "first"):
            assert 2.0 < cost[slow] / cost["pointwise"] < 6.0


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("network", [*FOUR, "deit-t"])
def test_every_board_answers(board, network):
    """Bound <= low <= estimate <= high, the parts add up to the terms, and the source is said."""
    found = latency(network, load_device(board))

    assert 0 < found.lower_bound_s <= found.low_s <= found.time_s <= found.high_s
    assert np.sum(list(found.terms.values())) == pytest.approx(float(found.time_s))
    assert sum(float(p.estimate.time_s) for p in found.parts) == pytest.approx(float(found.time_s))
    assert found.source in ("analytic", "calibrated", "mixed")


@pytest.mark.parametrize(
    ("board", "source"),
    [("stm32l4r5", "calibrated"), ("stm32h7a3", "calibrated"), ("stm32u575", "calibrated"),
     ("rp2040", "analytic"), ("ra8d1", "analytic"), ("ethos-u55-128", "analytic"),
     ("esp32-s3", "analytic"), ("gap9", "analytic")],
)  # fmt: skip
def test_what_no_measurement_reaches_is_a_guess(board, source):
    """Cores that nobody timed, and those without their instructions, are labelled analytic."""
    assert latency("resnet8", load_device(board)).source == source


def test_attention_is_a_guess_beside_measured_operators():
    """No attention was timed on a board: its parts are analytic, wider, and the total mixed."""
    found = latency("deit-t", load_device("stm32h743"), "x-cube-ai-9")
    sources = {p.group: p.estimate.source for p in found.parts}

    assert found.source == "mixed"
    assert sources["attention"] == "analytic"
    assert sources["pointwise"] == "calibrated"
    assert found.coverage is None


def test_intervals_widen_with_what_is_unknown():
    """An unmeasured board, then an unknown runtime, widen the interval."""

    def width(board, runtime):
        found = latency("resnet8", load_device(board), runtime)
        return float(found.high_s / found.low_s)

    here = width("stm32l4r5", "x-cube-ai-9")
    assert here < width("stm32h743", "x-cube-ai-9") <= width("stm32h743", None)
    assert width("rp2040", None) == pytest.approx(2.5 / 0.4)


@pytest.mark.parametrize(
    ("text", "name"),
    [("X-CUBE-AI v7.3.0 NUCLEO_L4R5ZI", "x-cube-ai-7"), ("X-CUBE-AI v8.0.0", "x-cube-ai-7"),
     ("X-CUBE-AI v8.1.0", "x-cube-ai-8"), ("X-CUBE-AI v9.0", "x-cube-ai-9"),
     ("X-CUBE-AI v10.0.0", "x-cube-ai-9"), ("Plumerai Inference Engine", "plumerai"),
     ("Plumerai Inference Engine 2023.05 x", "plumerai-2023"),
     ("Bosch HALE (HALE) version 1.0.175", "hale"),
     ("microTVM NUCLEO-L4R5ZI_MICROTVM-CMSIS-NN Krai", "microtvm-cmsis-nn"),
     ("microTVM microtvm_native/NUCLEO_L4R5ZI", "microtvm"), ("TinyEngine", "tinyengine"),
     ("TensorFlow Lite for Microcontrollers", "cmsis-nn"), ("pulp_nn", "pulp-nn")],
)  # fmt: skip
def test_runtimes_as_tables_name_them(text, name):
    """Framework, variant and submitter of a table name one runtime."""
    assert runtime_named(text).name == name


def test_every_runtime_answers_to_its_name():
    """Each runtime is found by its own name, and stands on a measured one or on instructions."""
    fitted = mcu_calibration().runtimes
    for name, runtime in runtimes().items():
        assert runtime_named(name) is runtime
        assert runtime.bare or (runtime.like or name) in fitted


def test_reference_kernels_are_far_slower():
    """Scalar loops take several times the cycles of the best runtime on the same board."""
    board = load_device("stm32l4r5")
    slow, fast = (float(latency("resnet8", board, r).time_s) for r in ("tflm-reference", "hale"))

    assert 3.0 < slow / fast < 8.0


def test_engine_takes_convolutions():
    """On GAP9 the matrix engine speeds up convolutions and leaves depthwise layers alone."""
    board = load_device("gap9-240mhz")
    alone, engine = (latency("ds-cnn", board, r).terms for r in ("pulp-nn", "nntool"))

    assert engine["pointwise"] < 0.5 * alone["pointwise"]
    assert engine["depthwise"] == alone["depthwise"]


def test_float_is_slower_than_int8():
    """The same network in fp32 takes longer on cores without wide vectors."""
    for board in ("stm32l4r5", "stm32h7a3"):
        device = load_device(board)
        assert (
            latency("resnet8", device, "hale", "fp32").time_s
            > latency("resnet8", device, "hale").time_s
        )


@settings(max_examples=25, deadline=None)
@given(ratio=st.floats(0.05, 4.0))
def test_time_falls_with_the_clock(ratio):
    """Half the clock, twice the time: nothing but cycles is modelled where flash is no limit."""
    board = load_device("stm32l4r5")
    base = latency("ds-cnn", board, "hale")
    other = latency("ds-cnn", board, "hale", clock_hz=ratio * 120e6)

    assert float(other.time_s) == pytest.approx(float(base.time_s) / ratio)


@pytest.mark.parametrize("network", FOUR)
def test_a_file_takes_as_long_as_the_network_in_it(network, tmp_path):
    """A network read from a .tflite file is timed as the built-in one."""
    path = tmp_path / f"{network}.tflite"
    path.write_bytes(to_tflite(built_in(network)))
    board = load_device("stm32h7a3")

    assert latency(path, board, "hale").time_s == latency(network, board, "hale").time_s


def test_engine_is_used_where_there_is_one():
    """A chip with a matrix engine is meant with it; on its vector cores alone it is slower."""
    board = load_device("gap9")

    assert latency("resnet8", board).facts["runtime"] == "nntool"
    assert latency("resnet8", board).time_s < latency("resnet8", board, "pulp-nn").time_s
    assert latency("resnet8", load_device("gap8")).facts["runtime"] == "pulp-nn"


def test_names_of_networks():
    """Built-in networks answer to the names of measured tables."""
    for name in ("ResNet8-CIFAR10", "DS-CNN-SpeechCmd", "vww", "AutoEncoder-ToyADMOS"):
        assert network_named(name).name in FOUR


def test_refusals():
    """Unknown names, foreign devices, types and runtimes that a core lacks: typed errors."""
    board = load_device("stm32l4r5")
    with pytest.raises(UnknownName, match="network"):
        latency("resnet9000", board)
    with pytest.raises(UnknownName, match="runtime"):
        latency("resnet8", board, "abacus")
    with pytest.raises(BadValue, match="does not run"):
        latency("resnet8", board, "pulp-nn")
    with pytest.raises(BadValue, match="gpu"):
        latency("resnet8", load_device("a40"))
    with pytest.raises(UnsupportedDtype, match="fp16"):
        latency("resnet8", board, dtype="fp16")
    strange = dataclasses.replace(board, board=dataclasses.replace(board.board, core="z80"))
    with pytest.raises(UnknownName, match="core"):
        latency("resnet8", strange)
