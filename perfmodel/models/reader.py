"""Typed reading of one published configuration: every key checked, every unread key known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from perfmodel.errors import BadValue

MOST = 2**40
"""No width, vocabulary or context of a real model comes near this."""

MOST_LAYERS = 2**16
"""Layers are expanded one by one, so their number is held to what can be."""

_HARMLESS = """
architectures auto_map torch_dtype dtype model_type transformers_version use_cache
bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id unk_token_id mask_token_id
decoder_start_token_id forced_bos_token_id forced_eos_token_id suppress_tokens
begin_suppress_tokens bad_words_ids image_token_id video_token_id vision_start_token_id
vision_end_token_id image_token_index boi_token_index eoi_token_index
initializer_range init_std initializer_factor rescale_prenorm_residual time_step_min
time_step_max time_step_floor time_step_limit time_step_scale time_step_init_scheme
mamba_initializer_range rescale_layer use_mambapy residual_in_fp32 mamba_dt_init
hidden_dropout hidden_dropout_prob attention_dropout attention_probs_dropout_prob
embd_pdrop attn_pdrop resid_pdrop resid_dropout residual_dropout embedding_dropout dropout
activation_dropout layerdrop classifier_dropout hidden_dropout_rate attn_dropout_prob
emb_dropout_prob summary_activation summary_first_dropout summary_proj_to_labels
summary_type summary_use_proj task_specific_params finetuning_task problem_type
id2label label2id num_labels _name_or_path name_or_path gradient_checkpointing
rms_norm_eps layer_norm_eps layer_norm_epsilon norm_eps norm_epsilon layernorm_epsilon
rope_theta rope_scaling rope_parameters rotary rotary_dim rotary_pct rotary_emb_base
rotary_emb_fraction partial_rotary_factor rotary_base rope_local_base_freq rope_interleave
rope_type original_max_position_embeddings seq_length pretraining_tp
use_logn_attn use_dynamic_ntk attention_softmax_in_fp32 scale_attention_softmax_in_fp32
scale_attn_weights scale_attn_by_inverse_layer_idx reorder_and_upcast_attn
apply_residual_connection_post_layernorm masked_softmax_fusion slow_but_exact
skip_bias_add skip_bias_add_qkv offset_alibi attn_logit_softcapping final_logit_softcapping
query_pre_attn_scalar hidden_activation output_router_logits router_aux_loss_coef
router_jitter_noise aux_loss_alpha seq_aux norm_topk_prob routed_scaling_factor
scoring_func topk_method n_group topk_group ep_size output_attentions
output_hidden_states return_dict use_flash_attn use_bfloat16 tokenizer_class fp16 bf16
fp32 onnx_safe softmax_in_fp32 attn_implementation _attn_implementation
_flash_attn_2_enabled cache_implementation use_cache_kernel use_cache_quantization
use_mamba_kernels calc_logits_for_entire_prompt num_logits_to_keep is_decoder
chunk_size_feed_forward mamba_ssm_dtype mamba_ssm_cache_dtype attn_cfg rms_norm
fused_add_norm norm_type mlp_type vision_config audio_config
"""
HARMLESS = frozenset(_HARMLESS.split())
"""Keys that change neither a size nor a count; every other unread key is reported."""


class Reader:
    """One configuration, read key by key.

    Args:
        config: the parsed JSON object.
        name: the file or model it came from; every error names it.
    """

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        self.config = config
        self.name = name
        self.read: set[str] = set()
        self.notes: list[str] = []

    def raw(self, *keys: str) -> tuple[str, Any]:
        """The first of ``keys`` that holds something, and what it holds (None if none does)."""
        self.read.update(keys)
        for key in keys:
            if self.config.get(key) is not None:
                return key, self.config[key]
        return keys[0], None

    def size(self, *keys: str, default: int | None = None, least: int = 1, most: int = MOST) -> int:
        """A whole number in ``least..most`` under the first of ``keys`` that is present.

        Raises:
            BadValue: absent without a default, not an integer, or out of range.
        """
        key, value = self.raw(*keys)
        if value is None:
            if default is None:
                self.fail(key, "is missing", fix=f"an integer of at least {least}")
            return default
        return self.whole(key, value, least=least, most=most)

    def optional_size(self, *keys: str, default: int | None = None) -> int | None:
        """As :meth:`size`, where null means "none of it" and an absent key the default."""
        self.read.update(keys)
        for key in keys:
            if key in self.config:
                value = self.config[key]
                return None if value is None else self.whole(key, value)
        return default

    def whole(self, key: str, value: object, *, least: int = 1, most: int = MOST) -> int:
        """``value`` as a whole number in range; raises as :meth:`size`."""
        if isinstance(value, float) and value.is_integer() and abs(value) <= most:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(key, f"must be a whole number, got {short(value)}", fix="an integer")
        if value < least:
            fix = f"an integer of at least {least}"
            self.fail(key, f"must be at least {least}, got {short(value)}", fix=fix)
        if value > most:
            self.fail(key, f"is absurdly large: {short(value)}", fix=f"at most {most}")
        return value

    def number(self, *keys: str, default: float) -> float:
        """A finite positive number; raises BadValue."""
        key, value = self.raw(*keys)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(key, f"must be a number, got {short(value)}")
        if not 0 < value <= MOST:
            self.fail(key, f"must be positive and finite, got {short(value)}")
        return float(value)

    def flag(self, *keys: str, default: bool) -> bool:
        """A JSON true or false; raises BadValue for anything else."""
        key, value = self.raw(*keys)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fail(key, f"must be true or false, got {short(value)}")
        return value

    def text(self, *keys: str, default: str) -> str:
        """A string; raises BadValue for anything else."""
        key, value = self.raw(*keys)
        if value is None:
            return default
        if not isinstance(value, str):
            self.fail(key, f"must be a string, got {short(value)}")
        return value

    def items(self, key: str, length: int | None = None) -> list[Any] | None:
        """A list (of ``length`` entries, one per layer), or None where the key is absent.

        Raises:
            BadValue: not a list, or of another length.
        """
        _, value = self.raw(key)
        if value is None:
            return None
        if not isinstance(value, list):
            self.fail(key, f"must be a list, got {short(value)}")
        if length is not None and len(value) != length:
            self.fail(
                key,
                f"has {len(value)} entries for {length} layers",
                fix="one entry per layer",
            )
        return value

    def section(self, key: str) -> dict[str, Any] | None:
        """A nested object, or None where the key is absent; raises BadValue."""
        _, value = self.raw(key)
        if value is not None and not isinstance(value, dict):
            self.fail(key, f"must be an object, got {short(value)}")
        return value

    def layers(self, *keys: str) -> int:
        """The number of layers; raises as :meth:`size`."""
        return self.size(*keys, most=MOST_LAYERS)

    def divides(self, part: int, part_key: str, whole: int, whole_key: str) -> int:
        """``whole / part`` if exact.

        Raises:
            BadValue: it leaves a remainder.
        """
        if whole % part:
            self.fail(
                part_key,
                f"{short(part)} must divide {whole_key} = {short(whole)}",
                fix=f"a divisor of {short(whole)}",
            )
        return whole // part

    def note(self, text: str) -> None:
        """Record an assumption."""
        if text not in self.notes:
            self.notes.append(text)

    def ignore(self, *keys: str) -> None:
        """Mark keys as understood though they change nothing here."""
        self.read.update(keys)

    def unread(self) -> list[str]:
        """Keys that nothing read and that are not known to be harmless, in file order."""
        known = self.read | HARMLESS
        return [k for k in self.config if k not in known and not k.startswith("_")]

    def fail(self, field: str, problem: str, fix: str | None = None) -> NoReturn:
        """Raise BadValue naming this file, the field and the fix."""
        msg = f"{self.name}: {problem}"
        raise BadValue(msg, field=field, fix=fix)


def short(value: object) -> str:
    """A value cut to a readable length."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
