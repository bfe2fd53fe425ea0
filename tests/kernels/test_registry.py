"""Every registered kernel can be built, and passes its gate on small shapes."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from perfmodel.errors import PerfModelError
from refkernels._compile import device_capability
from refkernels._registry import OPERATORS, Variant, pairs

HOST, DEVICE = ([*pairs(where, small=True)] for where in ("host", "device"))


def named(cases):
    return [f"{variant.kernel}-{i}" for i, (variant, _) in enumerate(cases)]


def test_names_are_unique_and_resolve():
    """Each variant has its own name, and its problem class exists."""
    variants = [v for operator in OPERATORS for v in operator.variants]

    assert len({v.kernel for v in variants}) == len(variants)
    for variant in variants:
        module, _, name = variant.problem.partition(":")
        assert hasattr(importlib.import_module(module), name)


def test_every_family_has_a_host_and_a_device_kernel_and_small_shapes():
    """Ten small shapes at least for each operator, for the gate and the sanitizer."""
    families = {}
    for operator in OPERATORS:
        assert len(operator.small) >= 10
        for variant in operator.variants:
            families.setdefault(variant.kernel.partition("/")[0], set()).add(variant.where)
    assert all(found == {"host", "device"} for found in families.values()), families


@pytest.mark.parametrize(("variant", "workload"), HOST, ids=named(HOST))
def test_host_kernel_passes_its_gate(variant, workload):
    """The numba kernel agrees with the oracle, every element written."""
    gate = variant.build(workload, 3, 2).gate()

    assert gate.passed, gate


@pytest.mark.gpu
@pytest.mark.parametrize(("variant", "workload"), DEVICE, ids=named(DEVICE))
def test_device_kernel_passes_its_gate(variant, workload):
    """The CUDA kernel agrees with the oracle, every element written."""
    capability = int(device_capability())
    if not variant.runs_on(capability):
        pytest.skip(f"written for compute capability {variant.capability}, not {capability}")
    gate = variant.build(workload, 3, 2).gate()

    assert gate.passed, gate


def test_check_without_a_device_says_so(python):
    """``python -m refkernels.check`` ends in one message where there is no GPU."""
    try:
        device_capability()
    except PerfModelError:
        found = python("-m", "refkernels.check")
        assert found.returncode == 3
        assert found.stderr.startswith("error: ")
        assert "Traceback" not in found.stderr
    else:
        pytest.skip("there is a device")


@pytest.mark.parametrize(
    ("exact", "runs"), [(False, [False, True, True]), (True, [False, True, False])]
)
def test_architecture_specific_code_runs_on_its_own_devices_only(exact, runs):
    """Plain code runs on newer devices too, sm_90a code on compute capability 9.0 alone."""
    variant = Variant(kernel="k", where="device", problem="m:c", capability=90, exact=exact)

    assert [variant.runs_on(c) for c in (80, 90, 100)] == runs
