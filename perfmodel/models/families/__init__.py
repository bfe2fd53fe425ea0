"""Adapters from published configurations to shapes, one function per ``model_type``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from perfmodel.models.families import llama
from perfmodel.models.reader import Reader
from perfmodel.models.shape import ModelShape

Adapter: TypeAlias = Callable[[Reader], ModelShape]

ADAPTERS: dict[str, Adapter] = {
    "llama": llama.llama,
    "mistral": llama.mistral,
    "qwen": llama.qwen,
    "qwen2": llama.qwen2,
    "qwen3": llama.qwen3,
    "internlm": llama.internlm,
    "internlm2": llama.internlm2,
    "phi3": llama.phi3,
    "gemma": llama.gemma,
    "gemma2": llama.gemma2,
    "gemma3_text": llama.gemma3,
    "nemotron": llama.nemotron,
    "starcoder2": llama.starcoder2,
}
"""Every supported ``model_type``."""
