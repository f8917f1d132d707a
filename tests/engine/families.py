"""Small configs for every causal family of transformers, with attention where the family has it."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

VOCABULARY = 96

# Sizes that fit each other; each family takes the keys that its config has.
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # Decoders of encoder-decoder families.
    "is_decoder": True,
    "decoder_layers": 4,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "ffn_dim": 64,
    # Experts.
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 32,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    # Latent attention.
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "index_n_heads": 2,
    "index_head_dim": 8,
    "index_topk": 64,
    # State spaces and linear attention.
    "state_size": 8,
    "mamba_d_state": 8,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "lru_width": 32,
    "sliding_window": 32,
    "attention_window_size": 32,
}

OWN: dict[str, dict[str, Any]] = {
    "gemma3n_text": {
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "num_kv_shared_layers": 0,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "longcat_flash": {
        "num_layers": 2,
        "ffn_hidden_size": 64,
        "expert_ffn_hidden_size": 32,
        "zero_expert_num": 2,
    },
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "bamba": {"attn_layer_indices": [1, 3]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "gptj": {"rotary_dim": 8},
    "codegen": {"rotary_dim": 8},
    "opt": {"word_embed_proj_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": 32},
    "dbrx": {"attn_config": {"kv_n_heads": 4}, "ffn_config": {"ffn_hidden_size": 64}},
    "xlstm": {"num_heads": 4, "embedding_dim": 32},
}


def tiny_config(kind: str) -> PreTrainedConfig:
    """Return a config of a family whose model has about ten thousand weights and no dropout."""
    standard = AutoConfig.for_model(kind)
    names = set(standard.to_dict()) | set(type(standard).attribute_map)
    given = {key: value for key, value in SIZES.items() if key in names}
    # A config that derives it has None in it, and two names for one thing must not differ.
    for short, full in type(standard).attribute_map.items():
        if full in given and short in given:
            del given[short]
    if standard.to_dict().get("layer_types") is not None:
        # Of the standard's own length.
        given["layer_types"] = None
    for key, value in standard.to_dict().items():
        if isinstance(value, float) and ("dropout" in key or key.endswith(("pdrop", "layerdrop"))):
            given[key] = 0.0
    return AutoConfig.for_model(kind, **(given | OWN.get(kind, {})))
