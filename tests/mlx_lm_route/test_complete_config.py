"""config.json as mlx-lm's files expect it."""

from dataclasses import dataclass

import pytest
import transformers

from porter.mlx_lm_route.complete_config import complete_config, spellings, undetermined
from porter.mlx_lm_route.file_model import args_of


def completed(kind, **fields):
    config = transformers.CONFIG_MAPPING[kind](**fields)
    return complete_config(config.to_diff_dict(), config, args_of)


def test_rotary_base_comes_flat():
    assert "rope_theta" not in transformers.CONFIG_MAPPING["qwen2"]().to_diff_dict()
    assert completed("qwen2")["rope_theta"] == 10_000.0
    assert completed("qwen2", rope_theta=5e5)["rope_theta"] == 5e5


@pytest.mark.parametrize(
    ("rotary", "expected"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, None),
        (
            {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
            {"rope_type": "linear", "type": "linear", "factor": 2.0, "rope_theta": 1e4},
        ),
    ],
)
def test_scaling_is_named_as_before(rotary, expected):
    assert completed("llama", rope_parameters=rotary)["rope_scaling"] == expected


def test_old_names_are_found_where_the_class_puts_them():
    config = completed("gpt_neox", rotary_pct=0.5, rotary_emb_base=20_000)
    assert (config["rotary_pct"], config["rotary_emb_base"]) == (0.5, 20_000)


@pytest.mark.parametrize("period", [2, 3])
def test_a_period_of_layer_kinds_is_found(period):
    kinds = (["sliding_attention"] * (period - 1) + ["full_attention"]) * 2
    config = completed("cohere2", num_hidden_layers=2 * period, layer_types=kinds)
    assert config["sliding_window_pattern"] == period


@pytest.mark.parametrize(("window", "kind"), [(8, "sliding_attention"), (None, "full_attention")])
def test_layer_kinds_follow_the_window(window, kind):
    assert (
        completed("mistral", sliding_window=window, num_hidden_layers=2)["layer_types"]
        == [kind] * 2
    )


def test_spellings_have_the_former_kinds_last():
    config = {"layer_types": ["linear_attention", "full_attention"], "window": None}
    *_, last = spellings(config)
    assert last == {"layer_types": ["mamba", "attention"]}


def test_undetermined_fields_have_choices():
    @dataclass
    class ModelArgs:
        hidden_size: int
        block_dim: int
        gated: bool
        name: str
        eps: float = 1e-5

    found = undetermined({"hidden_size": 32, "other": 48}, ModelArgs)
    assert found == {"block_dim": [32, 48], "gated": [False, True], "name": []}
