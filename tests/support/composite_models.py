"""Small model directories with a vision or audio part, as releases have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from sf_tui.tasks.biography import build_tokenizer

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}
EYE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,  # as many blocks as the text part has
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
LINEAR = {
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}


def _gemma3(text: dict[str, Any]) -> PreTrainedConfig:
    return transformers.Gemma3Config(
        text_config=text
        | {"sliding_window": 16, "layer_types": ["sliding_attention"] * 2 + ["full_attention"]},
        vision_config=EYE,
        mm_tokens_per_image=4,
        tie_word_embeddings=True,
    )


def _gemma3n(text: dict[str, Any]) -> PreTrainedConfig:
    return transformers.Gemma3nConfig(
        text_config=text
        | {
            "num_hidden_layers": 4,
            "intermediate_size": [64] * 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_kv_shared_layers": 2,
            "vocab_size_per_layer_input": text["vocab_size"],
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 4,
            "activation_sparsity_pattern": [0.0] * 4,
            "altup_num_inputs": 2,
            "sliding_window": 16,
        },
        vision_config={"hidden_size": 2048, "vocab_offset": text["vocab_size"], "vocab_size": 8},
        audio_config={
            "vocab_offset": text["vocab_size"] + 8,
            "vocab_size": 8,
            "hidden_size": 16,
            "conf_num_attention_heads": 2,
            "conf_num_hidden_layers": 1,
            "sscp_conv_channel_size": [8, 8],
        },
    )


def _qwen3_5(text: dict[str, Any]) -> PreTrainedConfig:
    return transformers.Qwen3_5Config(
        text_config=text
        | LINEAR
        | {
            "rope_parameters": ROPE | {"partial_rotary_factor": 1.0, "mrope_interleaved": True},
        },
        vision_config=_qwen_eye(),
    )


def _qwen_eye() -> dict[str, Any]:
    return {
        "depth": 3,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 4,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }


def _qwen3_vl(text: dict[str, Any]) -> PreTrainedConfig:
    return transformers.Qwen3VLConfig(
        text_config=text | {"rope_parameters": ROPE | {"mrope_interleaved": True}},
        vision_config=_qwen_eye(),
    )


def _qwen2_5_vl(text: dict[str, Any]) -> PreTrainedConfig:
    return transformers.Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": ROPE},
        vision_config={
            "depth": 3,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 4,
            "fullatt_block_indexes": [1],
        },
    )


def _mistral3(text: dict[str, Any]) -> PreTrainedConfig:
    return transformers.Mistral3Config(
        text_config=text | {"model_type": "mistral"},
        vision_config=EYE | {"model_type": "pixtral", "head_dim": 8},
    )


def _llava(text: dict[str, Any]) -> PreTrainedConfig:
    return transformers.LlavaConfig(
        text_config=text | {"model_type": "llama"},
        vision_config=EYE | {"model_type": "clip_vision_model", "projection_dim": 16},
    )


def _llama4(text: dict[str, Any]) -> PreTrainedConfig:
    return transformers.Llama4Config(
        text_config=text
        | {
            "intermediate_size_mlp": 64,
            "num_local_experts": 2,
            "interleave_moe_layer_step": 1,
            "attention_chunk_size": 64,
        },
        vision_config=EYE
        | {
            "vision_output_dim": 32,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
            "intermediate_size": 64,
        },
    )


def _qwen3_vl_moe(text: dict[str, Any]) -> PreTrainedConfig:
    return transformers.Qwen3VLMoeConfig(
        text_config=text
        | EXPERTS
        | {"rope_parameters": ROPE | {"mrope_interleaved": True}, "decoder_sparse_step": 1},
        vision_config=_qwen_eye(),
    )


def _qwen3_5_moe(text: dict[str, Any]) -> PreTrainedConfig:
    return transformers.Qwen3_5MoeConfig(
        text_config=text
        | EXPERTS
        | LINEAR
        | {
            "shared_expert_intermediate_size": 16,
            "rope_parameters": ROPE | {"partial_rotary_factor": 1.0, "mrope_interleaved": True},
        },
        vision_config=_qwen_eye(),
    )


def _glm4v_moe(text: dict[str, Any]) -> PreTrainedConfig:
    return transformers.Glm4vMoeConfig(
        text_config=text
        | {
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "rope_parameters": ROPE | {"partial_rotary_factor": 1.0},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 4,
            "image_size": 28,
        },
    )


FAMILIES: dict[str, tuple[str, Callable[[dict[str, Any]], PreTrainedConfig]]] = {
    "gemma3": ("Gemma3ForConditionalGeneration", _gemma3),
    "qwen3_5": ("Qwen3_5ForConditionalGeneration", _qwen3_5),
    "mistral3": ("Mistral3ForConditionalGeneration", _mistral3),
    "qwen2_5_vl": ("Qwen2_5_VLForConditionalGeneration", _qwen2_5_vl),
    "llava": ("LlavaForConditionalGeneration", _llava),
    "llama4": ("Llama4ForConditionalGeneration", _llama4),
    "qwen3_vl": ("Qwen3VLForConditionalGeneration", _qwen3_vl),
    "qwen3_vl_moe": ("Qwen3VLMoeForConditionalGeneration", _qwen3_vl_moe),
    "qwen3_5_moe": ("Qwen3_5MoeForConditionalGeneration", _qwen3_5_moe),
    "glm4v_moe": ("Glm4vMoeForConditionalGeneration", _glm4v_moe),
    "gemma3n": ("Gemma3nForConditionalGeneration", _gemma3n),
}
"""The class of each family, and what makes its config from that of the text part."""


def write_composite(family: str, path: Path, *, max_shard_size: str = "50GB") -> Path:
    """Write a model of random bfloat16 weights, a tokenizer and what a processor would read."""
    class_name, make_config = FAMILIES[family]
    tokenizer = build_tokenizer()
    ids = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    model: PreTrainedModel = getattr(transformers, class_name)(make_config(TEXT | ids))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.to(torch.bfloat16).save_pretrained(path, max_shard_size=max_shard_size)
    tokenizer.save_pretrained(path)
    (path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}\n')
    (path / "processor_config.json").write_text('{"image_seq_length": 4}\n')
    return path
