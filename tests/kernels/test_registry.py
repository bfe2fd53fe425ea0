"""Every registered kernel can be built, and passes its gate on small shapes."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from perfmodel.errors import PerfModelError
from refkernels._registry import OPERATORS, pairs

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


def test_every_operator_has_a_host_and_a_device_kernel_and_small_shapes():
    """Ten small shapes at least, for the gate and the sanitizer."""
    for operator in OPERATORS:
        assert {v.where for v in operator.variants} == {"host", "device"}
        assert len(operator.small) >= 10


@pytest.mark.parametrize(("variant", "workload"), HOST, ids=named(HOST))
def test_host_kernel_passes_its_gate(variant, workload):
    """The numba kernel agrees with the oracle, every element written."""
    gate = variant.build(workload, 3, 2).gate()

    assert gate.passed, gate


@pytest.mark.gpu
@pytest.mark.parametrize(("variant", "workload"), DEVICE, ids=named(DEVICE))
def test_device_kernel_passes_its_gate(variant, workload):
    """The CUDA kernel agrees with the oracle, every element written."""
    gate = variant.build(workload, 3, 2).gate()

    assert gate.passed, gate


def test_check_without_a_device_says_so(python):
    """``python -m refkernels.check`` ends in one message where there is no GPU."""
    import refkernels._compile

    try:
        refkernels._compile.device_capability()
    except PerfModelError:
        found = python("-m", "refkernels.check")
        assert found.returncode == 3
        assert found.stderr.startswith("error: ")
        assert "Traceback" not in found.stderr
    else:
        pytest.skip("there is a device")
