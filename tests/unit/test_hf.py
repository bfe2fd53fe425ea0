"""Configurations become shapes: what each key means, and what is refused."""

import json
import sys
import types

import pytest

from perfmodel.errors import BadValue, MalformedFile, MissingExtra, MissingFile, UnknownName
from perfmodel.models import hf
from perfmodel.models.hf import load_model, model_names, shape_from_config
from perfmodel.models.parameters import parameter_count
from perfmodel.models.reader import Reader
from perfmodel.models.shape import AttentionMixer, DeltaMixer, Mamba2Mixer, Moe

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "torch_dtype": "float16",
}


def shape(**changes):
    config = {**LLAMA, **changes}
    return shape_from_config({k: v for k, v in config.items() if v is not ...}, "model.json")


def windows_of(found):
    return [g.mixer.window for g in found.sequence]


def test_defaults_of_the_family_fill_omitted_keys():
    """Omitted kv heads are the heads, head_dim is hidden / heads, the head is untied."""
    found = shape(num_key_value_heads=...)
    mixer = found.layers[0].mixer
    assert (mixer.heads, mixer.kv_heads, mixer.head_dim) == (4, 4, 16)
    assert not found.tied
    assert found.dtype == "fp16"
    assert found.assumptions == ()


def test_explicit_head_dim_wins():
    """head_dim need not be hidden / heads, nor heads divide hidden then."""
    mixer = shape(head_dim=48, num_attention_heads=6).layers[0].mixer
    assert (mixer.heads, mixer.head_dim) == (6, 48)


def test_unknown_keys_are_listed():
    """A key that nothing read is an assumption; a harmless one is not."""
    notes = shape(secret_width=3, bos_token_id=1).assumptions
    assert notes == ("key 'secret_width' of the configuration was not used",)


def test_omitted_dtype_is_an_assumption():
    """Weights of an unsaid or unknown type are taken as bf16, and the answer says so."""
    assert shape(torch_dtype=...).dtype == "bf16"
    assert "torch_dtype is omitted" in shape(torch_dtype=...).assumptions[0]
    assert "unknown" in shape(torch_dtype="posit16").assumptions[0]


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"quant_method": "gptq", "bits": 4}, "int4"),
        ({"quant_method": "awq", "w_bit": 4}, "int4"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
    ],
)
def test_published_quantisation_is_noted(config, dtype):
    """The note names the method and the weight dtype that counts it."""
    (note,) = shape(quantization_config=config).assumptions
    assert config["quant_method"] in note
    assert f"weight dtype {dtype}" in note


def test_layer_types_set_windows():
    """A per-layer list decides which layers see the whole context."""
    kinds = ["sliding_attention", "full_attention"] * 2
    found = shape(model_type="mistral", layer_types=kinds, sliding_window=8)
    assert windows_of(found) == [8, None, 8, None]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_type": "mistral"}, [4096] * 4),
        ({"model_type": "mistral", "sliding_window": None}, [None] * 4),
        ({"model_type": "qwen2", "sliding_window": 8}, [None] * 4),
        (
            {
                "model_type": "qwen2",
                "sliding_window": 8,
                "use_sliding_window": True,
                "max_window_layers": 3,
            },
            [None, None, None, 8],
        ),
        ({"model_type": "gemma2", "sliding_window": 8}, [8, None, 8, None]),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 4}, [4096, 4096, 4096, None]),
        ({"model_type": "phi3", "sliding_window": 9}, [9] * 4),
        ({"model_type": "starcoder2", "sliding_window": 9}, [9] * 4),
    ],
)
def test_windows_by_family(changes, expected):
    """Which layers are windowed where no list says so differs by family."""
    assert windows_of(shape(**changes)) == expected


def test_wrapped_text_model():
    """A multi-modal configuration is read as its text model, inheriting the outer keys."""
    outer = {"model_type": "llava", "text_config": LLAMA, "tie_word_embeddings": True}
    found = shape_from_config(outer, "llava.json")
    assert found.tied
    assert found.assumptions == ("the language model of llava is counted, its other parts are not",)
    assert parameter_count(found).total == parameter_count(shape(tie_word_embeddings=True)).total


def test_wrapper_without_a_section():
    """Qwen2-VL puts its language model's keys beside the vision part's."""
    flat = {**LLAMA, "model_type": "qwen2_vl", "vision_config": {"depth": 32}}
    found = shape_from_config(flat, "vl.json")
    assert found.layers[0].mixer.qkv_bias
    assert parameter_count(found) == parameter_count(shape(model_type="qwen2"))


def test_unknown_wrapper_is_refused():
    """A wrapper around a text model that is not supported names that model's type."""
    with pytest.raises(UnknownName, match="novel_text"):
        shape_from_config({"model_type": "x", "text_config": {"model_type": "novel_text"}}, "x")
    with pytest.raises(BadValue, match="missing"):
        shape_from_config({"model_type": "x", "text_config": {}}, "x")


def test_gated_attention_hybrid():
    """Qwen3.5: three delta layers to one attention layer whose query projection has a gate."""
    found = load_model("qwen3.5-27b")
    kinds = [type(g.mixer) for g in found.sequence]
    assert kinds == [DeltaMixer, DeltaMixer, DeltaMixer, AttentionMixer] * 16
    assert found.sequence[3].mixer.gated


def test_hybrid_pattern_sets_the_order():
    """The letters of the pattern are the layers, in sequence."""
    found = load_model("nemotron-3-nano-30b-a3b")
    kinds = [
        "M" if isinstance(g.mixer, Mamba2Mixer) else "*" if g.mixer else "E" for g in found.sequence
    ]
    assert "".join(kinds) == "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
    assert found.sequence[1].ffn == Moe(
        experts=128,
        top_k=6,
        width=1856,
        gated=False,
        activation="relu2",
        shared_width=3712,
        correction=True,
    )


def test_dense_layers_come_first_in_deepseek():
    """Three dense layers, then experts: the sequence says which stage holds what."""
    kinds = [isinstance(g.ffn, Moe) for g in load_model("deepseek-v3").sequence]
    assert kinds == [False] * 3 + [True] * 58


def test_vision_models_have_patches():
    """ViT-B/16 at 224: 196 patches and a class token, no vocabulary, not a decoder."""
    found = load_model("vit-b")
    assert (found.patch.patches, found.positions, found.vocab) == (196, 197, 0)
    assert not found.decoder


def test_bare_vision_encoder_has_a_pooler():
    """Published without a class head, the count is the encoder with its pooler and says so."""
    config = {
        "model_type": "vit",
        "architectures": ["ViTModel"],
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    }
    found = shape_from_config(config, "vit.json")
    assert found.head_outputs == 0
    assert parameter_count(found).total == 86_389_248  # 85,798,656 + 768 * 769


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hidden_size": ...}, "hidden_size"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "4096"}, "hidden_size"),
        ({"hidden_size": -1}, "hidden_size"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": 64.5}, "hidden_size"),
        ({"hidden_size": float("nan")}, "hidden_size"),
        ({"hidden_size": 2**41}, "hidden_size"),
        ({"hidden_size": 10**400}, "hidden_size"),
        ({"num_hidden_layers": 2**20}, "num_hidden_layers"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"num_attention_heads": 5, "num_key_value_heads": 5}, "num_attention_heads"),
        ({"attention_bias": "yes"}, "attention_bias"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings"),
        ({"torch_dtype": 16}, "torch_dtype"),
        ({"hidden_act": ["silu"]}, "hidden_act"),
        ({"layer_types": ["full_attention"]}, "layer_types"),
        ({"layer_types": ["other"] * 4}, "layer_types"),
        ({"layer_types": [[]] * 4}, "layer_types"),
        ({"layer_types": ["sliding_attention"] * 4}, "sliding_window"),
        ({"layer_types": "full_attention"}, "layer_types"),
        ({"quantization_config": 4}, "quantization_config"),
        ({"model_type": ...}, "model_type"),
        ({"model_type": 7}, "model_type"),
        ({"model_type": "vit", "patch_size": 512}, "patch_size"),
        ({"model_type": "vit", "image_size": [224, 224]}, "image_size"),
        (
            {"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 3},
            "num_experts_per_tok",
        ),
        (
            {"model_type": "nemotron_h", "hybrid_override_pattern": "M*?-"},
            "hybrid_override_pattern",
        ),
        ({"model_type": "nemotron_h", "layers_block_type": [{}] * 4}, "hybrid_override_pattern"),
        ({"model_type": "nemotron_h"}, "hybrid_override_pattern"),
        ({"model_type": "mamba2", "num_heads": 3, "head_dim": 16}, "num_heads"),
        ({"model_type": "qwen", "intermediate_size": 33}, "intermediate_size"),
    ],
)
def test_bad_fields_are_named(changes, field):
    """A field that cannot be is refused by name, with the file it stands in."""
    with pytest.raises(BadValue) as caught:
        shape(**changes)
    assert caught.value.field == field
    assert "model.json" in str(caught.value)


def test_unknown_type_lists_what_is_supported():
    """An unsupported model_type is refused; the nearest supported ones are offered."""
    with pytest.raises(UnknownName, match="mamba2"):
        shape(model_type="mamba3")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        json.dumps(LLAMA)[:-20],
        "[]",
        "null",
        '"llama"',
        '{"hidden_size": NaN}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "\x00\x01",
        '{"hidden_size": ' + "9" * 5000 + "}",
    ],
)
def test_malformed_files(tmp_path, text):
    """What is not one JSON object ends in one message naming the file."""
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(MalformedFile, match=r"broken\.json"):
        load_model(path)


def test_oversized_file(tmp_path):
    """A file above 4 MiB is refused unread."""
    path = tmp_path / "big.json"
    path.write_text(" " * (4 * 2**20 + 1))
    with pytest.raises(MalformedFile, match="larger"):
        load_model(str(path))


def test_paths(tmp_path):
    """A config.json is named by its folder; the folder itself names it too; edits are seen."""
    folder = tmp_path / "my-model"
    folder.mkdir()
    path = folder / "config.json"
    path.write_text(json.dumps(LLAMA))
    assert load_model(path).name == load_model(str(folder)).name == "my-model"
    path.write_text(json.dumps({**LLAMA, "vocab_size": 12345}))
    assert load_model(path).vocab == 12345
    with pytest.raises(MissingFile):
        load_model(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("LLAMA2-7B", "llama-2-7b"),
        ("Llama_3_1_8b", "llama-3.1-8b"),
        ("meta-llama/Llama-2-70b-hf", "llama-2-70b"),
        ("01-ai/Yi-34B-200K", "yi-34b-200k"),
        ("GPT-3 175B layer", "gpt-3-175b"),
        ("gptj-6b", "gpt-j-6b"),
        ("ViT-B/16", "vit-b"),
        ("nvidia/Nemotron-H-56B-Base-8K", "nemotron-h-56b"),
    ],
)
def test_spellings(spelling, name):
    """Aliases, hub ids and folded spellings find the shipped model."""
    assert load_model(spelling).name == name


def test_unknown_name_offers_the_nearest():
    """A misspelt name is refused with what it may have meant."""
    with pytest.raises(UnknownName) as caught:
        load_model("lama-3-8b")
    assert "llama-3-8b" in caught.value.nearest


def test_hub_id_without_the_extra(monkeypatch):
    """A hub id that is not shipped names the install line where the extra is absent."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match="hub") as caught:
        load_model("some-org/some-model")
    assert "perfmodel[hub]" in caught.value.fix


def stub_hub(monkeypatch, download):
    hub = types.ModuleType("huggingface_hub")
    hub.hf_hub_download = download
    errors = types.ModuleType("huggingface_hub.errors")
    errors.HfHubHTTPError = errors.LocalEntryNotFoundError = ConnectionError
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)


def test_hub_id_is_fetched_as_config_alone(monkeypatch, tmp_path):
    """With the extra, config.json and nothing else is fetched."""
    path = tmp_path / "some-model" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(LLAMA))
    asked = []

    def download(repository, filename):
        asked.append((repository, filename))
        return str(path)

    stub_hub(monkeypatch, download)
    assert load_model("some-org/some-model").name == "some-model"
    assert asked == [("some-org/some-model", "config.json")]


def test_unreachable_hub(monkeypatch):
    """Without a network the answer is a missing file, with what to do instead."""

    def download(repository, filename):
        raise ConnectionError("no route\nto host")

    stub_hub(monkeypatch, download)
    with pytest.raises(MissingFile, match="no route") as caught:
        load_model("some-org/some-model")
    assert "path" in caught.value.fix


def test_folded_names_are_distinct():
    """Ignoring separators makes no two shipped models one."""
    names = model_names()
    assert len({hf.fold(n) for n in names}) == len(names)


def test_a_wrapper_without_its_language_model():
    """The wrapper is known; what is wrong is its section, and the error names it."""
    with pytest.raises(BadValue, match="text_config"):
        shape_from_config({"model_type": "llava", "text_config": None}, "x")


def test_a_byte_order_mark_is_read_over(tmp_path):
    """Editors that begin a file with a byte order mark change nothing."""
    plain = hf.model_path("gpt-2").read_bytes()
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + plain)

    assert load_model(path).layers == load_model("gpt-2").layers


@pytest.mark.parametrize(
    ("value", "why"),
    [(0, "at least 1"), (2**60, "absurdly large"), (1.5, "whole"), (True, "whole"), ("8", "whole")],
)
def test_counts_are_whole_and_in_range(value, why):
    """What a configuration calls a count is one; a float that is whole counts as one."""
    with pytest.raises(BadValue, match=why):
        Reader({"layers": value}, "m").size("layers")

    assert Reader({"layers": 4.0}, "m").size("layers") == 4
    assert Reader({"window": None}, "m").optional_size("window", default=7) is None
    assert Reader({}, "m").optional_size("window", default=7) == 7


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan"), True, "1e6"])
def test_numbers_are_positive_and_finite(value):
    """What scales positions is a positive finite number."""
    with pytest.raises(BadValue, match="must be"):
        Reader({"rope_theta": value}, "m").number("rope_theta", default=1e4)
