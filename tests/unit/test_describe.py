"""A model's sheet of facts."""

from perfmodel.models.describe import describe_ffn, layer_rows, model_sheet
from perfmodel.models.hf import load_model
from perfmodel.models.shape import Mlp


def test_sheet_of_a_mixture():
    """Totals, active parameters, cache and layers of Mixtral on one sheet."""
    sheet = model_sheet(load_model("mixtral-8x7b"))
    assert sheet["params"]["total"] == 46_702_792_704
    assert sheet["params"]["active"] == 12_879_925_248
    assert sheet["kv_bytes_per_token"] == 131_072
    (row,) = sheet["layers"]
    assert row["count"] == 32
    assert row["mixer"] == "attention 32/8 heads x 128"
    assert row["ffn"] == "8 experts x 14336, top 2"
    assert row["active"] < row["params"]


def test_rows_of_each_mixer():
    """Every kind of layer says what it is."""
    names = ("deepseek-v3", "mamba-2.8b", "nemotron-h-56b", "qwen3.5-27b", "gemma-2-9b")
    rows = [row for name in names for row in layer_rows(load_model(name))]
    mixers = {row["mixer"] for row in rows}
    assert {
        "latent attention 128 heads, latent 512+64",
        "Mamba 5120 channels x 16 states",
        "Mamba-2 256 heads x 64 x 256 states",
        "gated delta 48 heads x 128 x 128",
        "attention 16/8 heads x 256, window 4096",
        "none",
    } <= mixers


def test_plain_feed_forward():
    """A feed-forward without a gate does not claim one."""
    assert describe_ffn(Mlp(width=8, gated=False, activation="gelu")) == "gelu 8"
