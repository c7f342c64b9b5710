"""Ports against what experts wrote by hand for MLX: mlx-image's models, mlx-embeddings' BERT, and files of one's own.

    pip install --no-deps mlx-image mlx-embeddings
    python -m benchmarks.zoo.against_hand_written [NAME ...] [--file timm:resnet50=resnet.py]

Both sides have random weights and get one input. Each forward is run on the two in turn (A B, then B A), eager and compiled; a
ratio is the median over the pairs, ours over theirs, so that a machine's other work strikes both alike. Above 1 the port is the
slower one.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import mlx.core as mx
from mlx.utils import tree_flatten

PAIRS = 40
BERT = {
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "hidden_size": 384,
    "intermediate_size": 1536,
}


@dataclass(frozen=True, slots=True)
class Peer:
    """What porter is given, what it is measured against (a module, and how it takes the port's inputs), and these inputs."""

    source: str
    build: Callable[[], tuple[Any, Callable[..., Any]]]
    inputs: Callable[[], tuple[mx.array, ...]] = lambda: (mx.random.normal((1, 224, 224, 3)),)


def _mlx_image(name: str) -> Callable[[], tuple[Any, Any]]:
    def build() -> tuple[Any, Any]:
        from mlxim.model import create_model

        model = create_model(name, weights=False)
        return model, model

    return build


def _mlx_embeddings_bert() -> tuple[Any, Callable[..., Any]]:
    """BERT's file alone: the package's own import wants mlx-vlm."""
    package = importlib.util.find_spec("mlx_embeddings")
    assert package is not None
    for name in ("mlx_embeddings", "mlx_embeddings.models"):
        shell = ModuleType(name)
        shell.__path__ = [
            str(Path(root, *name.split(".")[1:]))
            for root in package.submodule_search_locations or ()
        ]
        sys.modules.setdefault(name, shell)
    bert = importlib.import_module("mlx_embeddings.models.bert")
    args = bert.ModelArgs(model_type="bert", max_position_embeddings=512, vocab_size=1000, **BERT)
    model = bert.Model(args)

    def call(ids: mx.array, mask: mx.array, kinds: mx.array) -> tuple[mx.array, mx.array]:
        out = model(ids, kinds, mask)
        return out.last_hidden_state, out.pooler_output

    return model, call


def _file(path: str) -> Callable[[], tuple[Any, Any]]:
    def build() -> tuple[Any, Any]:
        spec = importlib.util.spec_from_file_location("hand_written", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["hand_written"] = module
        spec.loader.exec_module(module)
        model = module.Model(module.ModelArgs())
        return model, model

    return build


def _tokens() -> tuple[mx.array, ...]:
    """input_ids, attention_mask and token_type_ids."""
    ids = mx.random.randint(3, 1000, (4, 128))
    return ids, mx.ones_like(ids), mx.zeros_like(ids)


PEERS = {
    "resnet18": Peer("torchvision:resnet18", _mlx_image("resnet18")),
    "resnet50": Peer("torchvision:resnet50", _mlx_image("resnet50")),
    "vit": Peer("timm:vit_base_patch32_224", _mlx_image("vit_base_patch32_224")),
    "swin": Peer("torchvision:swin_t", _mlx_image("swin_tiny_patch4_window7_224")),
    "regnet_x": Peer("torchvision:regnet_x_400mf", _mlx_image("regnet_x_400mf")),
    "regnet_y": Peer("torchvision:regnet_y_400mf", _mlx_image("regnet_y_400mf")),
    "bert": Peer("bert", _mlx_embeddings_bert, _tokens),
}


def _port(source: str, folder: Path) -> Any:
    from porter.convert import convert
    from porter.loading import load

    if source == "bert":
        from transformers import BertConfig, BertModel

        source = str(folder / "source")
        BertModel(BertConfig(vocab_size=1000, **BERT)).save_pretrained(source)
    convert(source, folder / "port", route="graph", proof=False)
    return load(folder / "port")


def _parameters(model: Any) -> int:
    return sum(x.size for _, x in tree_flatten(model.parameters()))


def _ratio(sides: tuple[Any, Any], inputs: tuple[mx.array, ...]) -> tuple[float, float, float]:
    """Median milliseconds of each side, and the median ratio of a pair."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(PAIRS + 3):
        for side in (0, 1) if turn % 2 else (1, 0):
            started = time.perf_counter()
            mx.eval(sides[side](*inputs))
            times[side].append(1e3 * (time.perf_counter() - started))
    pairs = [a / b for a, b in zip(*times, strict=True)][3:]  # the first runs compile
    return (*(statistics.median(side[3:]) for side in times), statistics.median(pairs))


def row(name: str, peer: Peer) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        ours = _port(peer.source, Path(folder))
        module, theirs = peer.build()
        ours.eval(), module.eval()
        inputs = peer.inputs()
        eager = _ratio((ours, theirs), inputs)
        compiled = _ratio((mx.compile(ours), mx.compile(theirs)), inputs)
    counts = f"{_parameters(ours) / 1e6:.2f} / {_parameters(module) / 1e6:.2f}"
    cells = ["{:.1f} / {:.1f} | {:.3f}".format(*figures) for figures in (eager, compiled)]
    return f"| {name} | {counts} | {' | '.join(cells)} |"


@click.command(help=__doc__)
@click.argument("names", nargs=-1)
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="SOURCE=FILE",
    help="A hand-written file for a source.",
)
def main(names: tuple[str, ...], files: tuple[str, ...]) -> None:
    chosen = {name: PEERS[name] for name in names or (() if files else PEERS)}
    for text in files:
        source, _, path = text.partition("=")
        chosen[text] = Peer(source, _file(path))
    click.echo(
        "| model | parameters, M: port / peer | eager ms: port / peer | ratio | compiled ms: port / peer | ratio |"
    )
    click.echo("|---|---|---|---|---|---|")
    for name, peer in chosen.items():
        click.echo(row(name, peer))


if __name__ == "__main__":
    main()
