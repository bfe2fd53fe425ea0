"""Weights in blocks of 32 that share a scale: bytes exact, in steps and in capacity alike."""

from __future__ import annotations

import pytest

from perfmodel.errors import BadValue
from perfmodel.hw.load import load_device
from perfmodel.models.flow import Dtypes
from perfmodel.models.hf import load_model
from perfmodel.models.parameters import matrix_bytes, parameter_count, weight_bytes
from perfmodel.models.phases import ops
from perfmodel.models.timing import step
from perfmodel.ops import count
from perfmodel.planning.running import Wish
from perfmodel.workload import Gemm


@pytest.mark.parametrize(("name", "block"), [("q4", 18), ("q8", 34), ("q4_0", 18), ("Q8_0", 34)])
def test_bytes_of_a_block(name, block):
    """llama.cpp: 32 weights take 16 or 32 bytes and one 16-bit scale."""
    gemm = Gemm(m=1, n=64, k=128, dtype="fp16", weight_dtype=name, group_size=32)

    assert float(count(gemm).weight_bytes) == 64 * 128 / 32 * block
    assert float(matrix_bytes(128, 64, name)) == 64 * 128 / 32 * block


def test_whole_models_are_stored_in_blocks():
    """Llama-3-8B: every matrix, table and head at 18 bytes for 32 weights, norms in 16 bits."""
    shape = load_model("llama-3-8b")
    total, norms = parameter_count(shape).total, (2 * 32 + 1) * 4096

    assert float(weight_bytes(shape, "q4")) == (total - norms) * 18 / 32 + 2 * norms


@pytest.mark.parametrize("model", ["phi-2", "llama-3-8b"])
def test_a_step_reads_what_is_stored(model):
    """Decode reads every weight but the input table once, as capacity counts them."""
    shape, types = load_model(model), Dtypes(act="fp16", weight="q4", kv="fp16")
    read = sum(
        float(count(op.workload).weight_bytes) * float(op.count)
        for op in ops(shape, phase="decode", context=512, dtypes=types)
        if isinstance(op.workload, Gemm)
    )
    matrices = float(weight_bytes(shape, "q4")) - shape.vocab * shape.hidden * 18 / 32

    assert read == pytest.approx(matrices, rel=2e-3)  # biases and norms are no products


def test_blocks_are_for_weights_alone():
    """Activations and caches come in no such format."""
    for field in ("act", "kv"):
        with pytest.raises(BadValue, match=field):
            Dtypes(**{field: "q8"})


def test_cache_stays_in_16_bits():
    """On a device that computes in fp32, the cache beside Q4 weights is fp16."""
    shape, device = load_model("llama-3-8b"), load_device("raspberry-pi-5-8gb")

    assert Wish(weight_dtype="q4").on(shape, device).kv == "fp16"
    assert Wish(weight_dtype="q4", kv_dtype="fp32").on(shape, device).kv == "fp32"


def test_vector_units_run_narrow_products():
    """Without a matrix unit a decode step takes no tiles: near the time its bytes need."""
    shape, device = load_model("llama-3-8b"), load_device("apple-m2-pro-gpu")
    found = step(shape, device, phase="decode", context=512,
                 dtypes=Wish(weight_dtype="q4").on(shape, device))  # fmt: skip

    assert float(found.time_s) < 1.6 * float(found.lower_bound_s)
    assert found.source == "analytic"


@pytest.mark.parametrize("weight", ["int8", "int4", "fp8", "fp4", "fp6"])
def test_capacity_and_step_agree_on_scales(weight):
    """A decode step reads the stored weights, scales included, but for the table it looks up."""
    shape, device = load_model("llama-3-8b"), load_device("b200-sxm")
    dtypes = Dtypes(act="bf16", weight=weight, kv="bf16")
    read = step(shape, device, phase="decode", context=1, dtypes=dtypes).facts["weight_bytes"]
    table = 2.0 * parameter_count(shape).embedding

    assert float(weight_bytes(shape, weight)) - table == pytest.approx(read, rel=1e-3)
