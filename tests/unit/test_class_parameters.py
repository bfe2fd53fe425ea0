"""Matrices of a layer, how they split, and the bytes that devices hold."""

import numpy as np
import pytest

from perfmodel.errors import BadValue, ImpossibleSplit, UnknownName
from perfmodel.models.hf import load_model, model_names, shape_from_config
from perfmodel.models.linears import Linear
from perfmodel.models.parameters import (
    layer_linears,
    layer_parameters,
    matrix_bytes,
    parameter_count,
    weight_bytes,
)


def test_column_and_row_splits():
    """A column split divides outputs, a row split inputs, a whole matrix nothing."""
    column = Linear(name="up", k=8, n=32, split="column")
    row = Linear(name="down", k=32, n=8, split="row")
    whole = Linear(name="router", k=8, n=4)
    assert column.local(4) == (8, 8)
    assert row.local(4) == (8, 8)
    assert whole.local(4) == (8, 4)


def test_units_replicate():
    """Two KV heads of 16 over 1, 2 and 8 devices: 32, 16 and 16 columns."""
    k = Linear(name="k", k=64, n=32, split="column", units=2)
    assert k.local(np.array([1, 2, 8]))[1].tolist() == [32, 16, 16]


def test_bias_and_count_are_parameters():
    """Three 4 x 5 matrices with biases are 3 * (20 + 5) parameters."""
    assert Linear(name="x", k=4, n=5, bias=True, count=3).parameters == 75


@pytest.mark.parametrize("name", model_names())
def test_parts_add_up(name):
    """Tables, layers, head and the rest are the whole; a token never uses more than that."""
    shape = load_model(name)
    count = parameter_count(shape)
    assert count.total == count.embedding + count.layers + count.head + count.other
    assert count.layers == sum(layer_parameters(shape, g) for g in shape.sequence)
    assert 0 < count.active <= count.total
    assert (count.active < count.total) == any(
        x.expert for g in shape.layers for x in layer_linears(shape, g)
    )


@pytest.mark.parametrize("name", model_names())
def test_sixteen_bit_weights_are_two_bytes_a_parameter(name):
    """On one device in 16 bits, nothing is rounded, scaled or held twice."""
    shape = load_model(name)
    assert weight_bytes(shape, "bf16") == 2 * parameter_count(shape).total


def test_llama_8b_over_two_devices():
    """Tensor parallelism halves all but the norms: 65 of 4096 elements stay whole."""
    total, norms = 8_030_261_248, 65 * 4096
    assert weight_bytes(load_model("llama-3-8b"), tp=2) == (total - norms) + 2 * norms


def test_llama_70b_in_int4_groups():
    """4 bits and a 16-bit scale for each 128: 0.515625 bytes a weight; tables in 16 bits."""
    shape = load_model("llama-3-70b")
    tables, norms = 2 * 128_256 * 8192, 161 * 8192
    matrices = 70_553_706_496 - tables - norms
    assert weight_bytes(shape, "int4") == matrices * (0.5 + 2 / 128) + 2 * (tables + norms)


def test_embedding_dtype():
    """Tables may rest in a type of their own."""
    shape = load_model("llama-3-8b")
    saved = weight_bytes(shape, "int4") - weight_bytes(shape, "int4", embedding_dtype="fp8")
    assert saved == 2 * 128_256 * 4096


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("bf16", 256 * 8 * 2),
        ("fp8", 256 * 8 + 8 * 2),
        ("int8", 256 * 8 + 8 * 2),
        ("int4", 256 * 8 / 2 + 2 * 8 * 2),
        ("fp4", 256 * 8 / 2 + 16 * 8),
        ("fp6", 256 * 8 * 0.75 + 8 * 8),
    ],
)
def test_matrix_bytes(dtype, expected):
    """256 x 8: elements, and one scale a column, or one for each 128, 32 or 16 along k."""
    assert matrix_bytes(np.float64(256), np.float64(8), dtype) == expected


def test_fullest_pipeline_stage():
    """Llama-2-7B in two stages: the last has 16 layers, the head and the final norm."""
    layer, table, norm = 202_383_360, 32_000 * 4096, 4096
    assert weight_bytes(load_model("llama-2-7b"), pp=2) == 2 * (16 * layer + table + norm)


def test_uneven_stages_follow_the_order():
    """61 layers of DeepSeek-V3 in two: 3 dense and 28 expert layers, then 30 expert layers."""
    shape = load_model("deepseek-v3")
    dense, sparse = (layer_parameters(shape, g) for g in shape.layers)
    table = 129_280 * 7168
    stages = (3 * dense + 28 * sparse + table, 30 * sparse + table + 7168)
    assert weight_bytes(shape, pp=2) == 2 * max(stages)


def test_tied_head_is_a_copy_on_the_last_stage():
    """Gemma's table serves both ends of the pipeline, so both ends hold it."""
    shape = load_model("gemma-2b")
    layer, table = layer_parameters(shape, shape.layers[0]), 256_000 * 2048
    assert weight_bytes(shape, pp=2) == 2 * (9 * layer + table + 2048)


def test_experts_divide_over_ep():
    """Mixtral on eight devices with EP 8 holds one expert of eight, as TP 8 holds an eighth."""
    shape = load_model("mixtral-8x7b")
    assert weight_bytes(shape, tp=8, ep=8) == weight_bytes(shape, tp=8, ep=1)
    assert weight_bytes(shape, tp=1, ep=8) < weight_bytes(shape) / 6


def test_splits_broadcast():
    """One call over grids of TP and PP equals the scalar calls."""
    shape = load_model("llama-3-8b")
    grid = weight_bytes(shape, tp=np.array([[1], [2], [4]]), pp=np.array([1, 2, 3]))
    for i, tp in enumerate((1, 2, 4)):
        for j, pp in enumerate((1, 2, 3)):
            assert grid[i, j] == weight_bytes(shape, tp=tp, pp=pp)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"tp": 0}, BadValue),
        ({"pp": 1.5}, BadValue),
        ({"ep": "2"}, BadValue),
        ({"pp": 33}, ImpossibleSplit),
        ({"weight_dtype": "int3"}, UnknownName),
        ({"embedding_dtype": "int3"}, UnknownName),
    ],
)
def test_bad_splits(change, error):
    """A split that is no count, or has more stages than layers, is refused."""
    with pytest.raises(error):
        weight_bytes(load_model("llama-3-8b"), **change)


def test_opt_350m_has_no_final_norm():
    """The model that norms after its blocks has no norm left at the end."""
    config = {
        "model_type": "opt",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "ffn_dim": 4096,
        "vocab_size": 50272,
        "max_position_embeddings": 2048,
        "word_embed_proj_dim": 512,
        "do_layer_norm_before": False,
    }
    assert parameter_count(shape_from_config(config, "opt-350m")).total == 331_196_416
