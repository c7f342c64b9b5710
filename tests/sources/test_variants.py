"""The source's model in other sizes, and sizes of the emitted file that hold in them."""

import dataclasses
import random
import sys
import time
import types

import mlx.core as mx
import torch
from mlx.utils import tree_flatten

from porter.compile import compile_port
from porter.loading import model_args
from porter.sources import SourceOptions, resolve
from porter.sources.variants import WANTED, OtherSizes, _Settings, tensors_of

SOURCE = """
import dataclasses
import torch
from torch import nn


@dataclasses.dataclass
class Settings:
    width: int = 48
    heads: int = 4
    depth: int = 3
    vocab: int = 40
    ratio: int = 2


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        assert config.width % config.heads == 0
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x):
        B, L, D = x.shape
        q, k, v = self.qkv(x).view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        x = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(x.transpose(1, 2).reshape(B, L, D))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.up = nn.Linear(config.width, config.ratio * config.width)
        self.down = nn.Linear(config.ratio * config.width, config.width)

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.down(torch.relu(self.up(x)))


class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.tokens = nn.Embedding(config.vocab, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))

    def forward(self, ids):
        x = self.tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return x


def small():
    return Net(Settings()), torch.randint(0, 40, (2, 7))


class States(nn.Module):
    def __init__(self, d=12, n=8):
        super().__init__()
        self.into, self.out = nn.Linear(d, n), nn.Linear(n, d)

    def forward(self, x):
        return self.out(self.into(x))


def states():
    return States(12, 8), torch.randn(2, 7, 12)


def large():
    return Net(Settings(width=80, heads=5, depth=2, vocab=60, ratio=3)), torch.randint(0, 40, (2, 7))
"""


def load_source(text):
    module = types.ModuleType("emitted")
    sys.modules["emitted"] = module  # dataclasses look their module up
    exec(compile(text, "model.py", "exec"), module.__dict__)
    return module


def resolved(tmp_path, factory="small"):
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return resolve(f"{path}:{factory}", SourceOptions())


def test_other_sizes_are_of_the_same_class_with_other_settings(tmp_path):
    source = resolved(tmp_path)
    others = OtherSizes(source).together()
    assert len(others) == WANTED
    for other in others:
        assert type(other.module) is type(source.module)
        settings = other.constructors[""]
        assert settings["width"] % settings["heads"] == 0
        assert dict(tensors_of(other.module))["tokens.weight"].shape == (
            settings["vocab"],
            settings["width"],
        )
    assert dataclasses.asdict(source.called_with["config"])["width"] == 48  # the source's own stays


def test_heads_divide_widths_where_the_class_does_not_ask_for_it(tmp_path):
    path = tmp_path / "net.py"
    lines = SOURCE.replace("heads: int = 4", "heads: int = 32").replace(
        "width: int = 48", "width: int = 256"
    )
    path.write_text(lines.replace("assert config.width % config.heads == 0", "pass"))
    others = OtherSizes(resolve(f"{path}:small", SourceOptions())).together()
    changed = [other.constructors[""] for other in others]
    assert len({settings["heads"] for settings in changed}) > 1
    assert all(settings["width"] % settings["heads"] == 0 for settings in changed)


def test_layers_are_added_and_key_heads_divide_heads():
    settings = {
        "num_hidden_layers": 2,
        "hidden_size": 256,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    }
    drawn = _Settings(settings)
    draw = random.Random(0)
    for _ in range(20):
        found, _ = drawn.drawn(drawn.names, draw, False)
        assert found["num_hidden_layers"] in (3, 4)
        assert found["num_attention_heads"] % found["num_key_value_heads"] == 0
        assert found["hidden_size"] % found["num_attention_heads"] == 0


def test_heads_of_stages_divide_the_width_as_they_do_here():
    drawn = _Settings({"embed_dim": 96, "num_heads": (3, 6, 12, 24)})
    draw = random.Random(0)
    found = [drawn.drawn(drawn.names, draw, False)[0] for _ in range(10)]
    assert any(settings["num_heads"] != (3, 6, 12, 24) for settings in found)
    for settings in found:
        assert all(settings["embed_dim"] % heads == 0 for heads in settings["num_heads"])


def test_kernels_stay_odd_or_even():
    drawn = _Settings({"kernel_size": 7, "kernel_sizes": (4, 3)})
    draw = random.Random(0)
    for _ in range(10):
        found, changed = drawn.drawn(drawn.names, draw, False)
        assert found["kernel_size"] % 2 == 1
        assert [size % 2 for size in found["kernel_sizes"]] == [0, 1]
        assert changed == {"kernel_size", "kernel_sizes"}


def test_each_setting_is_changed_alone(tmp_path):
    source = resolved(tmp_path)
    own = dataclasses.asdict(source.called_with["config"])
    alone = OtherSizes(source).alone
    assert set(alone) == {"width", "heads", "depth", "vocab", "ratio"}
    for name, other in alone.items():
        settings = other.constructors[""]
        assert {key for key in own if settings[key] != own[key]} == {name}


def test_models_that_take_the_same_inputs_keep_what_the_inputs_have(tmp_path):
    """Width 12 is the inputs' and the 8 states are not, though neither name says so."""
    source = resolved(tmp_path, "states")
    sizes = OtherSizes(source)
    pairs = list(sizes.together() and sizes.same_graph(["d", "n"]))
    kept = [all(other.constructors[""]["d"] == 12 for other in pair) for pair in pairs]
    assert kept == [False, True]


def test_time_that_others_take_is_not_the_constructors(tmp_path, monkeypatch):
    monkeypatch.setattr("porter.sources.variants.SECONDS", 1.0)
    sizes = OtherSizes(resolved(tmp_path))
    end = time.process_time() + 1.5  # an export, say
    while time.process_time() < end:
        pass
    assert len(sizes.together()) == WANTED


def test_a_module_changed_after_it_was_built_has_no_other_sizes(tmp_path):
    source = resolved(tmp_path)
    source.module.tokens = torch.nn.Embedding(50, 48)
    assert OtherSizes(source).together() == []


def test_one_file_serves_another_size(tmp_path):
    port, larger = compile_port(resolved(tmp_path)), compile_port(resolved(tmp_path, "large"))
    source = resolved(tmp_path, "large")
    module = load_source(port.model_py)
    settings = {
        name: source.constructors[""].get(name, value) for name, value in port.config.items()
    }
    model = module.Model(model_args(module.ModelArgs, settings))
    wanted = load_source(larger.model_py)
    expected = wanted.Model(model_args(wanted.ModelArgs, larger.config))
    assert {name: a.shape for name, a in tree_flatten(model.parameters())} == {
        name: a.shape for name, a in tree_flatten(expected.parameters())
    }
    weights = {name: mx.array(t.detach().numpy()) for name, t in tensors_of(source.module)}
    model.load_weights(list(weights.items()), strict=True)
    got = model(mx.array(source.args[0].numpy()))
    with torch.no_grad():
        want = source.module(*source.args)
    assert abs(torch.tensor(got.tolist()) - want).max() < 1e-5
