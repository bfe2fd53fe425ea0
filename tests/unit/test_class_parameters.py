"""Calibration files: what they must hold, and how a broken one is refused."""

from __future__ import annotations

import pytest

from perfmodel import catalog
from perfmodel.calibration.dataset import gather
from perfmodel.catalog import names, using_specs
from perfmodel.errors import MalformedFile, MissingCalibration, UnknownName
from perfmodel.hw.load import load_device
from perfmodel.measure import read_measurements
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.parameters import (
    analytic,
    class_of_kernel,
    class_parameters,
    known_as,
)
from perfmodel.roofline.time import estimate
from perfmodel.workload import Attention, Collective, Gemm

SHIPPED = sorted(set(names("calibration")) & set(CLASS_MODELS))


def calibration(model, **changes):
    """A complete calibration file of ``model`` with some of its lines replaced or left out."""
    blocks = {
        "parameters": "\n".join(f"{p.name} = {{ value = {p.start!r} }}" for p in model.parameters),
        "fit": 'data = ["x.csv"]\ndate = "2026-01-01"\nrows = 3\ndevices = ["d"]\nfactor = 1.1\n'
        'vendors = ["v"]\ncovers = ["gemm 16-bit"]',
        "residuals": "coverage = 0.9\nlow = 0.8\nhigh = 1.2",
    } | changes
    return "\n".join(f"[{name}]\n{text}" for name, text in blocks.items() if text is not None)


@pytest.fixture
def write(tmp_path):
    """Writes a calibration of gemm into a folder of specs and searches there first."""
    (tmp_path / "calibration").mkdir()
    with using_specs(tmp_path):
        yield lambda text: (tmp_path / "calibration" / "gemm.toml").write_text(text)


def test_a_complete_file_is_read(write):
    """Values, residuals and what they were fitted on."""
    write(calibration(CLASS_MODELS["gemm"]))
    found = class_parameters("gemm")
    assert found.values == CLASS_MODELS["gemm"].start
    assert (found.residuals.low, found.residuals.high, found.rows) == (0.8, 1.2, 3)


BROKEN = {
    "no residuals": {"residuals": None},
    "no parameters": {"parameters": None},
    "a parameter missing": {"parameters": "fixed_clk = { value = 1.0 }"},
    "residuals upside down": {"residuals": "coverage = 0.9\nlow = 1.2\nhigh = 0.8"},
    "coverage above one": {"residuals": "coverage = 90\nlow = 0.8\nhigh = 1.2"},
    "rows as words": {"fit": 'data = []\ndate = "x"\nrows = "many"\ndevices = []\nfactor = 1'},
    "a table as a number": {"parameters": "fixed_clk = 3"},
}


@pytest.mark.parametrize("changes", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_by_name(write, changes):
    """One message that names the file, no traceback of another kind."""
    write(calibration(CLASS_MODELS["gemm"], **changes))
    with pytest.raises(MalformedFile, match=r"gemm\.toml"):
        class_parameters("gemm")


def test_a_value_outside_its_physical_range_is_refused(write):
    """A share of bandwidth above one is no fit, it is a mistake."""
    text = calibration(CLASS_MODELS["gemm"])
    write(text.replace("dram_fraction = { value = 0.85 }", "dram_fraction = { value = 1.5 }"))
    with pytest.raises(MalformedFile, match="dram_fraction"):
        class_parameters("gemm")


def test_unknown_classes_and_kernels_offer_what_exists():
    """A class or an implementation that nobody knows."""
    with pytest.raises(UnknownName, match="gemm"):
        class_parameters("gemmm")
    with pytest.raises(UnknownName, match="kernel"):
        estimate(Gemm(m=1, n=8, k=8), load_device("a100-sxm-80gb"), kernel="nobody/knows")


def test_a_class_without_a_file_is_missing_calibration(monkeypatch):
    """Declared, but never fitted."""
    monkeypatch.setitem(CLASS_MODELS, "unfitted", CLASS_MODELS["gemm"])
    with pytest.raises(MissingCalibration):
        class_parameters("unfitted")


@pytest.mark.parametrize("cls", SHIPPED)
def test_shipped_files_fit_their_class(cls):
    """Every shipped file holds exactly the parameters its class declares, inside their ranges, for
    every implementation too."""
    found = class_parameters(cls)
    declared = {p.name for p in CLASS_MODELS[cls].parameters}
    assert set(found.values) == declared
    assert all(set(values) <= declared for values in found.kernels.values())
    assert found.residuals.low <= 1 <= found.residuals.high


def test_every_measured_class_is_fitted():
    """Files hold declared classes only, and no shipped measurement is of a class without a fit."""
    folder = catalog.shipped_dir() / "measured"
    rows = [m for f in sorted(folder.glob("*.json")) for m in read_measurements(f)]
    assert {g.kernel_class for g in gather(rows)} <= set(SHIPPED) <= set(CLASS_MODELS)


@pytest.mark.parametrize("model", CLASS_MODELS.values(), ids=CLASS_MODELS)
def test_parameters_are_declared_within_their_ranges(model):
    """Neutral values lie inside their bounds, names are unique, fractions are at most one but for
    effective bandwidths, and every parameter says what it means."""
    assert len({p.name for p in model.parameters}) == len(model.parameters)
    for p in model.parameters:
        assert p.low <= p.start <= p.high
        assert p.low >= 0
        assert p.meaning


@pytest.mark.parametrize("kind", ["gpu", "tpu", "cpu", "soc", "mcu"])
def test_every_kind_of_device_has_reasons(kind):
    """Assumed efficiencies are shares, their interval holds one, and somebody wrote down why."""
    assumed = analytic(kind)
    shares = [assumed.tensor_fraction, assumed.vector_fraction, assumed.memory_fraction]
    assert all(0 < s <= 1 for s in shares)
    assert assumed.low < 1 < assumed.high
    assert len(assumed.reason) > 40


def test_an_implementation_may_choose_the_class():
    """Peer-to-peer all-reduces are not NCCL's rings: another class, pooled where unmeasured."""
    assert class_of_kernel("collective", "vllm/vLLM_custom_graph") == "collective_custom"
    assert class_of_kernel("collective", "nccl/NCCL") is None
    device = load_device("a100-sxm-80gb")
    work = Collective(bytes=65_536, ranks=8)
    custom = estimate(work, device, kernel="sglang/custom_all_reduce")
    assert custom.facts["kernel_class"] == "collective_custom"
    assert custom.time_s < estimate(work, device).time_s


def test_two_names_of_one_kernel_have_one_answer():
    """What a launcher does when nothing else is said goes by both."""
    w = Attention(batch=1, q_len=4096, kv_len=4096, heads=16, head_dim=128, score="sigmoid")
    short = "refkernels.sigmoid_attention/02_persistent"
    whole = known_as("attention", short)
    assert whole != short
    assert known_as("attention", whole) == whole
    device = load_device("h200-sxm")
    one, other = (estimate(w, device, kernel=name) for name in (short, whole))
    assert (one.time_s, one.low_s) == (other.time_s, other.low_s)
