"""config.json: both spellings mean the same, and what can't be computed is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from motet.config import ModelConfig, load_config
from motet.defaults import sampling_defaults
from motet.errors import CheckpointError
from motet.sampling import SamplingParams
from motet.weights import core_config
from tests.checkpoint.damage import edit_config, edit_json
from tests.conftest import MakeCheckpoint
from tests.reference.checkpoint_writer import CheckpointSpec, config_json

YARN = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096}


def test_values(tiny_checkpoint: Path) -> None:
    assert load_config(tiny_checkpoint) == ModelConfig(
        num_layers=2,
        hidden_size=64,
        intermediate_size=96,
        num_heads=4,
        num_kv_heads=2,
        head_dim=32,
        vocab_size=320,
        num_experts=8,
        experts_per_token=4,
        sliding_window=16,
        layer_is_sliding=(True, False),
        rms_norm_eps=1e-5,
        swiglu_limit=7.0,
        max_position_embeddings=131072,
        rope_theta=150000.0,
        rope_factor=32.0,
        rope_beta_fast=32.0,
        rope_beta_slow=1.0,
        rope_original_max_position=4096,
        rope_truncate=False,
        eos_token_ids=(258, 257, 264),
        experts_mxfp4=True,
    )


def test_both_spellings_mean_the_same(make_checkpoint: MakeCheckpoint) -> None:
    old, new = CheckpointSpec(), CheckpointSpec(newer_config=True)
    assert "rope_scaling" in config_json(old)
    assert "rope_parameters" in config_json(new)
    assert load_config(make_checkpoint(old)) == load_config(make_checkpoint(new))


@pytest.mark.parametrize(("layers", "experts"), [(24, 32), (36, 128)])
def test_published_sizes(single: Path, layers: int, experts: int) -> None:
    """20b's and 120b's values pass every range check."""
    spec = CheckpointSpec(
        num_layers=layers,
        num_experts=experts,
        hidden_size=2880,
        intermediate_size=2880,
        num_heads=64,
        num_kv_heads=8,
        head_dim=64,
        vocab_size=201088,
        sliding_window=128,
    )
    (single / "config.json").write_text(json.dumps(config_json(spec)))
    generation = {"eos_token_id": [200002, 199999, 200012]}
    (single / "generation_config.json").write_text(json.dumps(generation))
    config = load_config(single)
    assert config.layer_is_sliding == (True, False) * (layers // 2)
    assert config.eos_token_ids == (200002, 199999, 200012)


@pytest.mark.parametrize("mxfp4", [True, False])
def test_without_quantization_config_the_tensors_decide(
    single: Path, make_checkpoint: MakeCheckpoint, mxfp4: bool
) -> None:
    if mxfp4:
        edit_config(single, quantization_config=...)
        assert load_config(single).experts_mxfp4
    else:
        spec = CheckpointSpec(experts_mxfp4=False, hidden_size=48, intermediate_size=40)
        assert not load_config(make_checkpoint(spec)).experts_mxfp4


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ([258, 264], 7, (258, 264)),
        (258, 7, (258,)),
        (None, [7, 8, 7], (7, 8)),
        (..., 7, (7,)),
        (..., None, ()),
    ],
)
def test_eos_ids(single: Path, generation: object, config: object, expected: object) -> None:
    edit_config(single, eos_token_id=config)
    edit_json(single / "generation_config.json", eos_token_id=generation)
    assert load_config(single).eos_token_ids == expected
    if generation is ...:
        (single / "generation_config.json").unlink()
        assert load_config(single).eos_token_ids == expected


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"rope_scaling": {"rope_type": "default"}}, {"rope_factor": 1.0}),
        ({"rope_scaling": YARN}, {"rope_truncate": True, "rope_beta_fast": 32.0}),
        ({"rope_scaling": {**YARN, "truncate": False}}, {"rope_truncate": False}),
        ({"layer_types": ...}, {"layer_is_sliding": (True, False)}),
        ({"num_experts_per_tok": ...}, {"experts_per_token": 4}),
        ({"experts_per_token": ...}, {"experts_per_token": 4}),
        ({"num_local_experts": ..., "num_experts": 8}, {"num_experts": 8}),
        ({"swiglu_limit": ..., "rms_norm_eps": ...}, {"swiglu_limit": 7.0, "rms_norm_eps": 1e-5}),
        ({"rope_theta": 10000}, {"rope_theta": 10000.0}),
        ({"layer_types": ["full_attention"] * 2, "sliding_window": None}, {"sliding_window": 1}),
        ({"swiglu_alpha": 1.702, "dtype": "bfloat16", "unknown_key": {}}, {}),
    ],
)
def test_accepted(single: Path, changes: dict[str, Any], fields: dict[str, Any]) -> None:
    edit_config(single, **changes)
    config = load_config(single)
    assert config == dataclasses.replace(config, **fields)


@pytest.mark.parametrize(
    ("changes", "key", "expected", "found"),
    [
        ({"model_type": "llama"}, "model_type", '"gpt_oss"', '"llama"'),
        ({"model_type": ...}, "model_type", '"gpt_oss"', "nothing"),
        ({"hidden_act": "gelu"}, "hidden_act", '"silu"', '"gelu"'),
        ({"attention_bias": False}, "attention_bias", "true", "false"),
        ({"attention_bias": 1}, "attention_bias", "true", "1"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings", "false", "true"),
        ({"swiglu_alpha": 2.0}, "swiglu_alpha", "1.702", "2.0"),
        ({"num_hidden_layers": 0}, "num_hidden_layers", "1..1024", "0"),
        ({"num_hidden_layers": 1 << 31}, "num_hidden_layers", "1..1024", "2147483648"),
        ({"num_hidden_layers": True}, "num_hidden_layers", "integer", "true"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers", "integer", '"2"'),
        ({"num_hidden_layers": 2.0}, "num_hidden_layers", "integer", "2.0"),
        ({"num_hidden_layers": ...}, "num_hidden_layers", "integer", "nothing"),
        ({"num_key_value_heads": 3}, "num_key_value_heads", "a divisor of 4", "3"),
        ({"num_key_value_heads": 8}, "num_key_value_heads", "1..4", "8"),
        ({"head_dim": 12}, "head_dim", "a multiple of 8", "12"),
        ({"hidden_size": 72}, "hidden_size", "a multiple of 32", "72"),
        ({"hidden_size": 1 << 60}, "hidden_size", "1..1048576", str(1 << 60)),
        ({"intermediate_size": 50}, "intermediate_size", "a multiple of 32", "50"),
        ({"num_experts_per_tok": 9}, "experts_per_token", "9, as num_experts_per_tok", "4"),
        ({"num_experts_per_tok": 9, "experts_per_token": 9}, "num_experts_per_tok", "1..8", "9"),
        ({"vocab_size": None}, "vocab_size", "integer", "nothing"),
        ({"sliding_window": None}, "sliding_window", "integer", "nothing"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps", "a number in", "-1.0"),
        ({"rms_norm_eps": 1.0}, "rms_norm_eps", "a number in", "1.0"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps", "a number in", "nan"),
        ({"swiglu_limit": "7"}, "swiglu_limit", "a number", '"7"'),
        ({"layer_types": "full"}, "layer_types", "a list of 2", '"full"'),
        ({"layer_types": ["full_attention", []]}, "layer_types", "sliding", "[]"),
        ({"rope_scaling": ...}, "rope_parameters", "an object", "nothing"),
        ({"rope_scaling": [1]}, "rope_parameters", "an object", "[1]"),
        ({"rope_theta": ...}, "rope_scaling.rope_theta", "a number", "nothing"),
        ({"rope_scaling": {"rope_type": "su"}}, "rope_scaling.rope_type", '"yarn" or', '"su"'),
        ({"rope_scaling": {**YARN, "factor": 0.5}}, "rope_scaling.factor", "number in 1", "0.5"),
        ({"rope_scaling": {**YARN, "mscale": 2}}, "rope_scaling.mscale", "no such key", "2"),
        ({"rope_scaling": {**YARN, "truncate": 0}}, "rope_scaling.truncate", "true or false", "0"),
        ({"rope_scaling": {**YARN, "beta_fast": 0.5}}, "rope_scaling.beta_fast", "1.001", "0.5"),
        ({"rope_parameters": {**YARN, "rope_theta": 1e4}}, "rope_theta", "10000.0", "150000.0"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config.", "mxfp4", "fp8"),
        ({"quantization_config": 4}, "quantization_config", "an object", "4"),
        ({"x" * 99: 1, "model_type": "y" * 999}, "model_type", "gpt_oss", "yyy..."),
        ({"model_type": "\x1b]0;x\x07"}, "model_type", "gpt_oss", r"\x1b]0;x\x07"),
    ],
)
def test_refused(
    single: Path, changes: dict[str, Any], key: str, expected: str, found: str
) -> None:
    edit_config(single, **changes)
    with pytest.raises(CheckpointError) as caught:
        core_config(load_config(single))
    error = caught.value
    assert error.file == str(single / "config.json")
    assert str(error.tensor).startswith(key)
    assert expected in str(error.expected)
    assert found in str(error.found)
    for part in (error.file, error.tensor, error.expected, error.found):
        assert str(part) in str(error)


@pytest.mark.parametrize("ids", [320, -1, True, "258", [258, 320], [1.5], {"id": 1}])
@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_refused_eos_ids(single: Path, name: str, ids: object) -> None:
    edit_json(single / "generation_config.json", eos_token_id=...)
    edit_json(single / name, eos_token_id=ids)
    with pytest.raises(CheckpointError, match=r"expected token ids in 0\.\.319") as caught:
        load_config(single)
    assert caught.value.file == str(single / name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", -0.5),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_k", -1),
        ("min_p", "x"),
        ("repetition_penalty", 0.0),
        ("do_sample", 1),
    ],
)
def test_refused_sampling_defaults(single: Path, key: str, value: object) -> None:
    """The file is at fault, not the request that would be the first to meet the value."""
    edit_json(single / "generation_config.json", **{key: value})
    with pytest.raises(CheckpointError) as caught:
        SamplingParams(**sampling_defaults(single))
    assert caught.value.file == str(single / "generation_config.json")
    assert caught.value.tensor == key
