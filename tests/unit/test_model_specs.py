"""The shipped configurations: complete, sourced, and found under every name they are known by."""

import csv
import json

import pytest

from perfmodel import catalog
from perfmodel.models.describe import model_sheet
from perfmodel.models.hf import load_model, model_names

NAMES = """
llama-2-7b llama-2-13b llama-2-70b llama-3-8b llama-3-70b llama-3.1-8b llama-3.1-70b
llama-3.1-405b llama-3.2-1b codellama-34b mistral-7b mixtral-8x7b qwen-72b qwen2.5-7b qwen2.5-72b
qwen3-32b yi-34b-200k internlm-20b phi-2 gemma-2-9b gemma-2-27b falcon-180b gpt-j-6b gpt-2
opt-175b gpt-3-175b bloom-176b deepseek-v3 mamba-2.8b mamba2-2.7b nemotron-h-56b bert-base
bert-large vit-b vit-l deit-t deit-s deit-b
"""

NOT_SHIPPED = {
    # microbenchmark geometries that name no model
    "MAMBA2_GENERIC_1K",
    "MAMBA2_GENERIC_4K",
    # networks for microcontrollers
    "AutoEncoder-ToyADMOS",
    "DS-CNN-SpeechCmd",
    "MobileNetV1-0.25-96",
    "ResNet8-CIFAR10",
}


@pytest.mark.parametrize("name", NAMES.split())
def test_required_models_are_shipped(name):
    """Every model that the documentation promises resolves."""
    assert load_model(name).depth > 0


@pytest.mark.parametrize("name", model_names())
def test_sourced_and_complete(name):
    """Every file says where it is from; every key of it is understood; its sheet is JSON."""
    config = json.loads(catalog.find("models", name).read_text())
    assert config["_source"]
    assert config["_name"]
    sheet = model_sheet(load_model(name))
    assert not [a for a in sheet["assumptions"] if "was not used" in a]
    json.dumps(sheet)


def test_aliases_point_to_shipped_models():
    """No alias dangles, and none shadows another model's name."""
    names = set(model_names())
    table = catalog.aliases("models")
    assert set(table.values()) <= names
    assert not {a for a, target in table.items() if a in names and a != target}


@pytest.mark.data
def test_aliases_cover_the_measured_tables(data_dir):
    """Every language model that a measured table names is shipped under that name."""
    named = set()
    for path in sorted(data_dir.glob("open/*.csv")) or sorted(data_dir.glob("*.csv")):
        with path.open(newline="") as file:
            named |= {row["model"] for row in csv.DictReader(file) if row.get("model")}
    for name in sorted(named - NOT_SHIPPED):
        assert load_model(name).depth > 0
