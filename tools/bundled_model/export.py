"""Writes a trained model as a checkpoint in the published gpt-oss layout, experts in MXFP4.

usage: export.py FOLDER OUTPUT     (FOLDER: model.pt and tokenizer.json of train.py)
       export.py FOLDER OUTPUT --bf16-experts     the same weights with experts not rounded to MXFP4
The second form exists to measure what MXFP4 rounding costs.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from model import Config
from mxfp4 import pack
from safetensors_file import write
from tokenizers import Tokenizer

from tokenizer import SPECIAL

STOPS = ("<|return|>", "<|endoftext|>", "<|call|>")


def config_json(config: Config, ids: dict[str, int], experts_mxfp4: bool) -> dict[str, Any]:
    """config.json with the published keys."""
    kinds = ("sliding_attention", "full_attention")
    result: dict[str, Any] = {
        "architectures": ["GptOssForCausalLM"],
        "attention_bias": True,
        "attention_dropout": 0.0,
        "eos_token_id": ids["<|return|>"],
        "experts_per_token": config.experts_per_token,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "initial_context_length": config.original_positions,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate,
        "layer_types": [kinds[i % 2] for i in range(config.layers)],
        "max_position_embeddings": round(config.original_positions * config.factor),
        "model_type": "gpt_oss",
        "num_attention_heads": config.heads,
        "num_experts_per_tok": config.experts_per_token,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "num_local_experts": config.experts,
        "output_router_logits": False,
        "pad_token_id": ids["<|endoftext|>"],
        "rms_norm_eps": config.eps,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": config.factor,
            "original_max_position_embeddings": config.original_positions,
            "rope_type": "yarn",
            "truncate": False,
        },
        "rope_theta": round(config.theta),
        "router_aux_loss_coef": 0.01,
        "sliding_window": config.window,
        "swiglu_limit": config.swiglu_limit,
        "tie_word_embeddings": False,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }
    if experts_mxfp4:
        untouched = [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ]
        result["quantization_config"] = {
            "modules_to_not_convert": untouched,
            "quant_method": "mxfp4",
        }
    else:
        result["torch_dtype"] = "bfloat16"
    return result


def tensors(state: dict[str, torch.Tensor], experts_mxfp4: bool) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors, BF16 and U8."""
    result = {}
    for name, value in state.items():
        if not name.endswith(("gate_up_proj", "down_proj")):
            result[name] = value.bfloat16()
        elif experts_mxfp4:
            result[f"{name}_blocks"], result[f"{name}_scales"] = pack(value)
        else:  # input axis first: gate_up [E, H, 2I], down [E, I, H]
            result[name] = value.transpose(1, 2).contiguous().bfloat16()
    return result


def tokenizer_config(ids: dict[str, int]) -> dict[str, Any]:
    """tokenizer_config.json as transformers reads it."""
    flags = {
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": True,
    }
    return {
        "added_tokens_decoder": {str(ids[token]): {"content": token, **flags} for token in SPECIAL},
        "bos_token": "<|startoftext|>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|return|>",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("output", type=Path)
    arguments.add_argument("--bf16-experts", action="store_true")
    options = arguments.parse_args()
    saved = torch.load(options.folder / "model.pt")
    tokenizer = Tokenizer.from_file(str(options.folder / "tokenizer.json"))
    ids = {token: int(tokenizer.token_to_id(token) or 0) for token in SPECIAL}
    options.output.mkdir(parents=True, exist_ok=True)

    def save(name: str, value: dict[str, Any]) -> None:
        (options.output / name).write_text(json.dumps(value, indent=2) + "\n")

    mxfp4 = not options.bf16_experts
    save("config.json", config_json(Config(**saved["config"]), ids, mxfp4))
    save("tokenizer_config.json", tokenizer_config(ids))
    save(
        "generation_config.json",
        {
            "bos_token_id": ids["<|startoftext|>"],
            "do_sample": False,
            "eos_token_id": [ids[stop] for stop in STOPS],
            "pad_token_id": ids["<|endoftext|>"],
        },
    )
    shutil.copyfile(options.folder / "tokenizer.json", options.output / "tokenizer.json")
    write(options.output / "model.safetensors", tensors(saved["model"], mxfp4))
    size = sum(file.stat().st_size for file in options.output.iterdir())
    print(f"{size / 1e6:.2f} MB in {options.output}")


if __name__ == "__main__":
    main()
