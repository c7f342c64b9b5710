"""plan_shards: what two processes compute together is what one computes, and what can't be divided is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn
from torch.nn import functional

from benchmarks.zoo import sharded
from benchmarks.zoo.suites import decoders
from porter.compile import compile_port
from porter.loading import instantiate
from porter.sources import SourceOptions
from porter.sources.built import built_source
from porter.weights import recipes
from tests.passes.test_lift_cache import TOKENS, WORDS, _ids, _rotated
from tests.random_modules.parity import check_source, parameters, port_of, to_mlx

WIDTH, HEADS, KEY_HEADS, HEAD = 24, 4, 2, 8


class Attention(nn.Module):
    """Grouped queries of heads that are normed, or what can't be divided: norms over all heads, one head of keys for all."""

    def __init__(self, kind: str, key_heads: int):
        super().__init__()
        self.kind, self.num_heads, self.num_kv_heads = kind, HEADS, key_heads
        self.q_proj = nn.Linear(WIDTH, HEADS * HEAD)
        self.k_proj, self.v_proj = (nn.Linear(WIDTH, key_heads * HEAD) for _ in range(2))
        self.o_proj = nn.Linear(HEADS * HEAD, WIDTH)
        if kind:
            self.norm = nn.RMSNorm(HEAD if kind == "head" else HEADS * HEAD)

    def forward(self, x):
        batch, length, _ = x.shape
        q = self.q_proj(x)
        if self.kind == "all heads":
            q = self.norm(q)
        q = q.view(batch, length, self.num_heads, -1).transpose(1, 2)
        if self.kind == "head":
            q = self.norm(q)
        k = self.k_proj(x).view(batch, length, self.num_kv_heads, -1).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.num_kv_heads, -1).transpose(1, 2)
        y = functional.scaled_dot_product_attention(
            _rotated(q), _rotated(k), v, is_causal=True, enable_gqa=True
        )
        return self.o_proj(y.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, *options):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(WIDTH), Attention(*options)
        self.gate_up, self.down = nn.Linear(WIDTH, 2 * 40), nn.Linear(40, WIDTH)

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


class Decoder(nn.Module):
    def __init__(self, kind="", key_heads=KEY_HEADS):
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(Layer(kind, key_heads) for _ in range(2))
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def test_two_processes_are_one():
    ported = port_of(lambda: Decoder("head"), [_ids()], TOKENS)
    check_source(ported.port.model_py)
    assert "segments=2" in ported.port.model_py
    weights = parameters(ported.model)
    args = (ported.port.model_py, ported.port.config, weights, ported.model, to_mlx(_ids()))
    assert sharded.gap(*args) < 1e-5


def _mixtral():
    return next(case for case in decoders.cases() if case.name == "mixtral").build()


def test_what_experts_give_is_added_up():
    built = _mixtral()
    source = built_source(
        "mixtral", SourceOptions(), "factory", "mixtral", built.module, built.args, built.kwargs, built.dynamic
    )  # fmt: skip
    source.config = built.config
    port = compile_port(source)
    assert "if self.sharding_group is not None:" in port.model_py
    weights = {
        path: recipes.evaluate(recipe, source.tensors) for path, recipe in port.recipes.items()
    }
    ids = to_mlx((source.args or tuple(source.kwargs.values()))[0])
    model = instantiate(port.model_py, port.config, weights)
    assert sharded.gap(port.model_py, port.config, weights, model, ids) < 1e-5


def test_a_plan_that_is_given_up_leaves_no_sums():
    """Without a configuration nothing names the size of a head, which `shard` would have to divide by."""
    built = _mixtral()
    ids = (built.args or tuple(built.kwargs.values()))[0]
    dims = {"input_ids": {0: "batch", 1: "length"}}
    ported = port_of(lambda: built.module, [ids], dims)
    assert "def shard" not in ported.port.model_py
    assert "sharding_group" not in ported.port.model_py
    assert sum(note.startswith("no shard: ") for note in ported.port.notes) == 1
    ported.check(ids)


@pytest.mark.parametrize(("kind", "key_heads"), [("all heads", KEY_HEADS), ("", 1)])
def test_what_every_process_needs_whole(kind, key_heads):
    ported = port_of(lambda: Decoder(kind, key_heads), [_ids()], TOKENS)
    assert "def shard" not in ported.port.model_py
    reasons = [note for note in ported.port.notes if note.startswith("no shard: ")]
    assert len(reasons) == 1
    assert "over all features" in reasons[0]


def test_heads_are_not_cut():
    ported = port_of(lambda: Decoder(), [_ids()], TOKENS)

    class Three:
        def size(self):
            return 3

    with pytest.raises(ValueError, match="can't share the heads"):
        ported.model.shard(Three())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt_neox", "phi", "mixtral", "qwen2_moe"])
def test_decoders_of_transformers(kind, tmp_path):
    """Through `mlx.launch`, as a user runs them."""
    case = next(case for case in decoders.cases() if case.name == kind)
    built = case.build()
    built.module.save_pretrained(tmp_path / "source")
    from porter.convert import convert

    out = tmp_path / "out"
    convert(str(tmp_path / "source"), out, route="graph", proof=False)
    script = tmp_path / "run.py"
    script.write_text(_LAUNCHED)
    launch = Path(sys.executable).parent / "mlx.launch"
    command = [launch, "-n", "2", "--backend", "ring", "--python", sys.executable, script, out]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("equal") == 2, done.stdout + done.stderr


_LAUNCHED = """
import sys
import mlx.core as mx
import porter
group = mx.distributed.init(strict=True)
assert group.size() == 2
whole, part = porter.load(sys.argv[1]), porter.load(sys.argv[1])
part.shard(group)
ids = mx.arange(24).reshape(2, 12) + 9
y, z = whole(ids), part(ids)
print("equal" if mx.abs(y - z).max() < 1e-5 * mx.abs(y).max() else "different", flush=True)
"""
