"""Adapters from published configurations to shapes, one function per ``model_type``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from perfmodel.models.families import encoder, experts, gpt, llama, recurrent
from perfmodel.models.reader import Reader
from perfmodel.models.shape import ModelShape

Adapter: TypeAlias = Callable[[Reader], ModelShape]

ADAPTERS: dict[str, Adapter] = {
    "bert": encoder.bert,
    "bloom": gpt.bloom,
    "cohere": llama.cohere,
    "deepseek_v2": experts.deepseek_v2,
    "deepseek_v3": experts.deepseek_v3,
    "deit": encoder.deit,
    "falcon": gpt.falcon,
    "falcon_mamba": recurrent.mamba,
    "gemma": llama.gemma,
    "gemma2": llama.gemma2,
    "gemma3_text": llama.gemma3,
    "gpt2": gpt.gpt2,
    "gpt_bigcode": gpt.gpt_bigcode,
    "gpt_oss": experts.gpt_oss,
    "granite": llama.granite,
    "gpt_neox": gpt.gpt_neox,
    "gptj": gpt.gptj,
    "internlm": llama.internlm,
    "internlm2": llama.internlm,
    "jamba": recurrent.jamba,
    "kimi_k2": experts.deepseek_v3,
    "llama": llama.llama,
    "mamba": recurrent.mamba,
    "mamba2": recurrent.mamba2,
    "mamba_ssm": recurrent.state_spaces,
    "mistral": llama.mistral,
    "mixtral": experts.mixtral,
    "nemotron": llama.nemotron,
    "nemotron_h": recurrent.nemotron_h,
    "opt": gpt.opt,
    "phi": gpt.phi,
    "phi3": llama.phi3,
    "qwen": llama.qwen,
    "qwen2": llama.qwen2,
    "qwen2_moe": experts.qwen2_moe,
    "qwen3": llama.qwen3,
    "qwen3_5_moe_text": recurrent.qwen3_next,
    "qwen3_5_text": recurrent.qwen3_5,
    "qwen3_moe": experts.qwen3_moe,
    "qwen3_next": recurrent.qwen3_next,
    "roberta": encoder.bert,
    "starcoder2": llama.starcoder2,
    "vit": encoder.vit,
    "xlm-roberta": encoder.bert,
    "yi": llama.llama,
}
"""Every supported ``model_type``."""

SAME_AS: dict[str, str] = {
    "RefinedWeb": "falcon",
    "RefinedWebModel": "falcon",
    "Yi": "yi",
    "qwen2_5_vl_text": "qwen2",
    "qwen2_vl_text": "qwen2",
    "qwen3_vl_moe_text": "qwen3_moe",
    "qwen3_vl_text": "qwen3",
}
"""Other published spellings of a type, text parts of multi-modal models among them."""

TEXT_PART: dict[str, str] = {
    "gemma3": "gemma3_text",
    "llava": "llama",
    "llava_next": "llama",
    "mistral3": "mistral",
    "qwen2_5_vl": "qwen2",
    "qwen2_vl": "qwen2",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
}
"""The type of a wrapper's text model: of its ``text_config`` where that does not say its own, or of
the wrapper's own keys where it has no such section."""
