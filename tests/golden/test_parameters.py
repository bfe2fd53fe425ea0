"""Published parameter totals, exactly.

Notation: h hidden, f feed-forward width, V vocabulary, q = heads x head_dim, g = kv_heads x
head_dim, L layers. The totals were checked against the tensors that Hugging Face transformers
builds for the same configurations (nothing allocated), except where a line says otherwise.
"""

import json
from pathlib import Path

import pytest

from perfmodel.models.hf import load_model, shape_from_config
from perfmodel.models.parameters import layer_linears, parameter_count

# Llama: a layer is 2hq + 2hg + 3hf + 2h, then 2Vh (Vh if tied) and the final norm h.
# llama-2-7b: 2*4096*4096 + 2*4096*4096 + 3*4096*11008 + 8192 = 202,383,360 a layer;
#   x 32 = 6,476,267,520; + 2*32000*4096 = 262,144,000; + 4096.
# llama-3-8b: g = 1024: 2*4096**2 + 2*4096*1024 + 3*4096*14336 + 8192 = 218,112,000;
#   x 32 = 6,979,584,000; + 2*128256*4096 = 1,050,673,152; + 4096.
LLAMA = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "codellama-34b": 33_743_970_304,
    "mistral-7b": 7_241_732_096,
    "yi-6b": 6_061_035_520,
    "yi-34b-200k": 34_388_917_248,
    "phi-3-mini": 3_821_079_552,
}

# Qwen2: Llama with biases of q + 2g; Qwen3: norms of 2 * head_dim a layer instead.
# qwen2.5-7b: 2*3584**2 + 2*3584*512 + 3584 + 2*512 + 3*3584*18944 + 7168 = 233,057,792;
#   x 28 = 6,525,618,176; + 2*152064*3584 = 1,089,994,752; + 3584.
# qwen-72b: 4h**2 + 3h + 3h(f/2) + 2h with f = 49152 counting gate and up: 872,456,192 a layer;
#   x 80 = 69,796,495,360; + 2*152064*8192 + 8192 (by hand: not a type of transformers).
# internlm-20b: the layers of llama-2-13b, 317,204,480 each: x 60 = 19,032,268,800;
#   + 2*103168*5120 + 5120 (by hand, as internlm2-20b: not types of transformers).
QWEN = {
    "qwen-72b": 72_287_920_128,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "internlm-20b": 20_088_714_240,
    "internlm2-20b": 19_861_149_696,
}

# Gemma 2: Llama with four norms, q = heads * 256 (128 in the 27B), tied.
# gemma-2-9b: 2*3584*4096 + 2*3584*2048 + 3*3584*14336 + 4*3584 = 198,195,200;
#   x 42 = 8,324,198,400; + 256000*3584 + 3584.
GEMMA = {
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
}

# GPT-2: 12h**2 + 13h a layer (4 h**2 + 4h attention, 8 h**2 + 5h feed-forward, 4h norms), then
#   (V + positions)h + 2h. gpt-2: 12 * 7,087,872 + 51,281 * 768 + 1536.
# phi-2: one norm: 12h**2 + 11h = 78,671,360; x 32; + 2*51200*2560 + 51200 + 5120.
# gpt-j: no attention biases: 12h**2 + 7h = 201,355,264; x 28; + 2*50400*4096 + 50400 + 8192.
# bloom: as GPT-2 without positions, with a norm on the embedding: + 2h + 250880h.
# opt: as GPT-2 with 2050 position rows.
# falcon-7b: one norm, 71 heads of 64 and one KV head: h(h + 128) + h**2 + 8h**2 + 2h; the head
#   is tied: the checkpoint's 7,217,189,760 counts its copy of 65024 * 4544.
GPT = {
    "gpt-2": 124_439_808,
    "gpt-2-xl": 1_557_611_200,
    "gpt-3-175b": 174_604_259_328,
    "gpt-j-6b": 6_050_882_784,
    "gpt-neox-20b": 20_554_567_680,
    "opt-6.7b": 6_658_473_984,
    "opt-175b": 174_604_468_224,
    "bloom-176b": 176_247_271_424,
    "phi-2": 2_779_683_840,
    "falcon-7b": 7_217_189_760 - 65024 * 4544,
    "falcon-40b": 41_303_293_952,
    "falcon-180b": 179_522_565_120 - 65024 * 14848,
    "starcoder2-3b": 3_030_371_328,
    "mt-nlg-530b": 529_600_819_200,
    "nemotron-8b": 8_540_135_424,
    "nemotron-22b": 21_266_116_608,
    "nemotron-340b": 341_029_195_776,
}

# mixtral-8x7b: attention of Mistral (41,943,040), router 8h, 8 experts of 3hf, 2h:
#   1,451,270,144 a layer; x 32 = 46,440,644,608; + 2*32000*4096 + 4096.
# deepseek-v3: attention h*1536 + 1536 + 1536*128*192 + h*576 + 512 + 512*128*256 + 128*128*h
#   = 187,107,328; 3 dense layers of 3h*18432 = 396,361,728; 58 of router 256h + correction 256 +
#   257 experts of 3h*2048 = 44,040,192 each; + 2h a layer; + 2*129280h + h. The correction of
#   routing scores is 58 * 256 = 14,848 parameters that checkpoints hold and transformers keeps as
#   a buffer (its count is 671,026,404,352).
MOE = {
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "qwen1.5-moe-a2.7b": 14_315_784_192,
    "qwen3-30b-a3b": 30_532_122_624,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v3": 671_026_404_352 + 58 * 256,
}

# gpt-oss: biases on every matrix, router and experts included, and a sink per head.
# mamba-2.8b: i = 5120: h*2i + 5i (taps and bias) + i(160 + 32) + 160i + i (step bias) + 16i + i +
#   ih + h = 41,244,160; x 64; + 50280h (tied) + h.
# mamba2-2.7b: h(2i + 256 + 80) + 5(i + 256) + 3*80 + i + ih + h = 40,216,560;
#   x 64 = 2,573,859,840; + 50288h + h (50277 padded to a multiple of 16).
# nemotron-3: transformers' count plus 128 (512) corrections in each of 23 (40) expert layers.
RECURRENT = {
    "mamba-130m": 129_135_360,
    "mamba-2.8b": 2_768_345_600,
    "mamba2-2.7b": 2_702_599_680,
    "jamba-v0.1": 51_570_323_328,
    "nemotron-h-8b": 8_100_852_736,
    "nemotron-h-56b": 56_324_350_464,
    "nemotron-3-nano-30b-a3b": 31_577_937_344 + 23 * 128,
    "nemotron-3-super-120b-a12b": 120_668_687_360 + 40 * 512,
    "qwen3-next-80b-a3b": 79_674_391_296,
    "qwen3.5-0.8b": 752_393_024,
    "qwen3.5-2b": 1_881_825_088,
    "qwen3.5-4b": 4_205_751_296,
    "qwen3.5-122b-a10b": 122_111_526_912,
    "qwen3.5-9b": 8_953_803_264,
    "qwen3.5-27b": 26_895_998_464,
    "qwen3.5-35b-a3b": 34_660_610_688,
    "qwen3.5-397b-a17b": 396_346_350_336,
}

# bert-base: 12h**2 + 13h a layer; + (30522 + 512 + 2)h + 2h; + pooler h**2 + h.
# vit-b/16: 12h**2 + 13h a layer; patches 768h + h; class token h; 197 positions; 2h; 1000h + 1000.
ENCODERS = {
    "bert-base": 109_482_240,
    "bert-large": 335_141_888,
    "vit-b": 86_567_656,
    "vit-l": 304_326_632,
    "deit-t": 5_717_416,
    "deit-s": 22_050_664,
    "deit-b": 86_567_656,
}


@pytest.mark.parametrize(
    ("name", "total"),
    [*(LLAMA | QWEN | GEMMA | GPT | MOE | RECURRENT | ENCODERS).items()],
)
def test_published_total(name, total):
    """The derived total equals the published one to the last parameter."""
    assert parameter_count(load_model(name)).total == total


def test_llama_2_7b_by_hand():
    """Every matrix of a Llama-2-7B layer has the size that its paper implies."""
    shape = load_model("llama-2-7b")
    sizes = {x.name: (x.k, x.n) for x in layer_linears(shape, shape.layers[0])}
    assert sizes == {
        "q": (4096, 4096),
        "k": (4096, 4096),
        "v": (4096, 4096),
        "out": (4096, 4096),
        "gate_up": (4096, 22016),
        "down": (11008, 4096),
    }


@pytest.mark.parametrize(
    ("name", "active"),
    [
        # 46.7e9 less 6 of 8 experts: 46,702,792,704 - 32 * 6 * 3 * 4096 * 14336
        ("mixtral-8x7b", 12_879_925_248),
        # 671e9 less 248 of 256 experts in 58 layers: - 58 * 248 * 44,040,192
        ("deepseek-v3", 671_026_419_200 - 58 * 248 * 44_040_192),
        ("llama-2-7b", 6_738_415_616),
    ],
)
def test_active_parameters(name, active):
    """A token uses everything but the routed experts that it does not visit."""
    assert parameter_count(load_model(name)).active == active


SMALL = [
    (
        {
            "model_type": "opt",
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 200,
            "vocab_size": 101,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 32,
            "do_layer_norm_before": False,
        },
        # (66 positions) 64 + 101*32 + 2*32*64 + 2 * (4*64*65 + 2*64*200 + 264 + 4*64)
        66 * 64 + 101 * 32 + 2 * 32 * 64 + 2 * (4 * 64 * 65 + 2 * 64 * 200 + 264 + 4 * 64),
    ),
    (
        {
            "model_type": "deit",
            "architectures": ["DeiTForImageClassificationWithTeacher"],
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "num_labels": 1000,
        },
        87_338_192,
    ),
    (
        {
            "model_type": "roberta",
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "vocab_size": 50265,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
        },
        124_645_632,
    ),
]


VARIANTS = json.loads(Path(__file__).with_name("variants.json").read_text())
"""Small configurations that turn options on and off, with the number of parameters (and routing
corrections) that transformers 5.23 builds for each."""


@pytest.mark.parametrize("case", VARIANTS, ids=lambda case: case["config"]["model_type"])
def test_total_of_a_small_variant(case):
    """Biases, norms, tying, windows, sparse steps and ranks change totals as the family does."""
    assert parameter_count(shape_from_config(case["config"], "variant")).total == case["total"]


@pytest.mark.parametrize(("config", "total"), SMALL)
def test_total_of_a_variant(config, total):
    """Narrow embeddings, distillation tokens and one-row token types are counted."""
    assert parameter_count(shape_from_config(config, "variant")).total == total


MEMBERS = json.loads(Path(__file__).with_name("members.json").read_text())
"""Published members of the families, keyed as their config.json files are, written from knowledge
of the published files and totals; five totals were worked out by hand from the formulas above
(opt-66b: 64 (12 h^2 + 13 h) + (50272 + 2050 + 2) h; deepseek-llm-67b, falcon-11b, qwen2-57b and
internlm-7b likewise)."""


@pytest.mark.parametrize("case", MEMBERS, ids=lambda case: case["name"])
def test_total_of_a_member(case):
    """The adapters read families, not the rows that are shipped: every other member counts too."""
    assert parameter_count(shape_from_config(case["config"], case["name"])).total == case["total"]


def test_the_first_falcon_40b_configuration():
    """RefinedWeb says the new architecture by ``n_head_kv`` alone: 8 KV heads, and two norms."""
    config = next(c["config"] for c in MEMBERS if c["name"] == "falcon-40b (RefinedWeb)")
    mixer = shape_from_config(config, "falcon-40b").layers[0].mixer

    assert mixer.kv_heads == 8
