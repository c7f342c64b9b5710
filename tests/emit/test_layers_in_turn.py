"""What a forward does with each layer of a list is a comprehension, a sum or a loop, and computes the same."""

from __future__ import annotations

import itertools
import random
import re

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tests.random_modules.parity import checked_source


class Codebooks(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(8, 5) for _ in range(4))

    def forward(self, x):
        h = torch.tanh(x)
        return torch.stack([head(h) for head in self.heads], 1)


class Expert(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class Mixture(nn.Module):
    """Every expert has its say, by a slice of the gate's weights."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(8, 4)
        self.experts = nn.ModuleList(Expert(8) for _ in range(4))

    def forward(self, x):
        weights = self.gate(x).softmax(-1)
        out = 0
        for k, expert in enumerate(self.experts):
            out = out + weights[..., k : k + 1] * expert(x)
        return out


class Quantizer(nn.Module):
    """What one codebook leaves goes to the next; the last leaves something that nobody reads."""

    def __init__(self):
        super().__init__()
        self.books = nn.ModuleList(nn.Embedding(12, 8) for _ in range(4))

    def forward(self, x):
        residual = x
        total = torch.zeros_like(x)
        codes = []
        for book in self.books:
            distances = (residual[:, :, None] - book.weight).square().sum(-1)
            code = distances.argmin(-1)
            entry = book(code)
            residual = residual - entry
            total = total + entry
            codes.append(code)
        return total, torch.stack(codes)


class HeadPerLayer(nn.Module):
    """DETR's kind."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Expert(8) for _ in range(4))
        self.cls = nn.ModuleList(nn.Linear(8, 5) for _ in range(4))
        self.box = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)) for _ in range(4)
        )

    def forward(self, x):
        logits, boxes = [], []
        for layer, cls, box in zip(self.layers, self.cls, self.box, strict=True):
            x = x + layer(x)
            logits.append(cls(x))
            boxes.append(box(x).sigmoid())
        return torch.stack(logits), torch.stack(boxes)


class HeadPerLevel(nn.Module):
    """Detectors: layers of other widths on maps of other sizes."""

    def __init__(self):
        super().__init__()
        widths = (3, 8, 12, 16)
        self.stages = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(widths)
        )
        self.stems = nn.ModuleList(nn.Conv2d(c, 6, 1) for c in widths[1:])
        self.cls = nn.ModuleList(nn.Conv2d(6, 5, 1) for _ in range(3))
        self.box = nn.ModuleList(nn.Conv2d(6, 4, 3, padding=1) for _ in range(3))

    def forward(self, x):
        x = torch.cat([x, x], -1)[:, None].expand(-1, 3, -1, -1)
        features = []
        for stage in self.stages:
            x = torch.relu(stage(x))
            features.append(x)
        outputs = []
        for level, feature in enumerate(features):
            feature = self.stems[level](feature)
            found = torch.cat([self.box[level](feature), self.cls[level](feature).sigmoid()], 1)
            outputs.append(found.flatten(2))
        return torch.cat(outputs, 2).transpose(1, 2)


class OnPooled(nn.Module):
    """Layers on arrays that have nothing in common."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(nn.Linear(8, 4) for _ in range(3))

    def forward(self, x):
        parts = [x.mean(1), x.amax(1), torch.tanh(x[:, 0])]
        return torch.cat([torch.relu(b(p)) for b, p in zip(self.branches, parts, strict=True)], -1)


class TopDown(nn.Module):
    """A list from its end, and some of its members alone."""

    def __init__(self):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Linear(8, 8) for _ in range(5))

    def forward(self, x):
        outs = []
        y = torch.tanh(x)
        for k in range(4, -1, -1):
            y = torch.sin(self.lateral[k](x) * y)
            outs.append(y)
        return torch.cat(outs, -1)


class Chained(nn.Module):
    """A chain of calls with one more statement between them; nothing is kept."""

    def __init__(self):
        super().__init__()
        self.mix = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(4))

    def forward(self, x):
        for mix, norm in zip(self.mix, self.norms, strict=True):
            x = x + torch.tanh(mix(norm(x)))
        return x


class Fusion(nn.Module):
    """HiFi-GAN's kind: the mean of blocks of several kernels, step by step."""

    def __init__(self):
        super().__init__()
        self.ups = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.blocks = nn.ModuleList(Expert(8) for _ in range(9))

    def forward(self, x):
        for k in range(3):
            x = self.ups[k](F.leaky_relu(x, 0.1))
            fused = None
            for j in range(3):
                found = self.blocks[k * 3 + j](x)
                fused = found if fused is None else fused + found
            x = fused / 3
        return torch.tanh(x)


class Levels(nn.Module):
    """Positions of maps of several sizes."""

    def __init__(self):
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(4, 8))

    def forward(self, x):
        found = []
        for level, size in enumerate((12, 6, 3, 2)):
            steps = torch.cumsum(torch.ones(x.shape[0], size), 1)
            steps = torch.sin(steps / (steps[:, -1:] + 1e-6))
            found.append(steps[:, :, None] + self.level_embed[level])
        return torch.cat(found, 1) + x[:, :1]


class Shuffled(nn.Module):
    """Numbers that follow no line, and others one more than these."""

    def forward(self, x):
        found = [torch.sin(x[..., k : k + 1] * 3) for k in (1, 0, 2, 3)]
        return torch.cat([y.cos() for y in found], -1)


class Crossed(nn.Module):
    """What one call gives goes through another to the next but one: no loop over the list."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.other = nn.Linear(8, 8)

    def forward(self, x):
        a = self.layers[0](x)
        b = self.layers[2](self.other(a))
        return a + self.layers[1](b) * 2


class Apart(nn.Module):
    """Results that are read one by one keep their names."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        query, key, value = (part(x) for part in self.parts)
        return torch.softmax(query @ key.mT, -1) @ value


LOOPS = {
    Codebooks: "mx.stack([head(h) for head in self.heads], axis=1)",
    Mixture: "sum(weights[:, :, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))",
    Quantizer: "for book in self.books:",
    HeadPerLayer: "in zip(self.layers, self.cls, self.box):",
    HeadPerLevel: "for stage, stem, box, cls in zip(self.stages, self.stems, self.box, self.cls):",
    OnPooled: "zip(self.branches, (",
    TopDown: "in reversed(self.lateral)",
    Fusion: "self.blocks[3 * i + 1](y)",
    Levels: "for level_embed, size in zip(self.level_embed, (12, 6, 3, 2)):",
    Shuffled: "mx.sin(x[:, :, k : k + 1] * 3)",
    Chained: "for mix, norm in zip(self.mix, self.norms):",
}


@pytest.mark.parametrize("module", LOOPS)
def test_layers_of_a_list_are_gone_through(module):
    text = checked_source(module, 2, 24, 8)
    assert LOOPS[module] in text, text
    assert not re.search(r"self\.\w+\[\d+\]", text), text


@pytest.mark.parametrize("module", [Crossed, Apart])
def test_calls_that_stay_apart(module):
    assert (
        " for "
        not in checked_source(module, 2, 24, 8).partition("class Model")[2].partition("__call__")[2]
    )


class Drawn(nn.Module):
    """Turns of random statements over lists, most of them alike, and what is read of them behind."""

    def __init__(self, seed: int):
        super().__init__()
        draw = random.Random(seed)
        self.count = draw.randint(3, 5)
        lists = [[nn.Linear(8, 8) for _ in range(self.count)] for _ in range(2)]
        self.a, self.b = map(nn.ModuleList, lists)
        kinds = ["a", "b", "state", "sum", "slice", "keep", "own", "constant", "place", "times"]
        self.plan = [draw.choice(kinds) for _ in range(draw.randint(2, 6))]
        self.plan.insert(draw.randint(0, 1), "a")
        self.order = [*range(self.count)][:: draw.choice([1, 1, -1])]
        self.odd = draw.choice([None, None, None, draw.randrange(self.count)])
        self.drop_last = draw.random() < 0.3
        self.behind = draw.sample(["state", "sum", "kept", "first", "backward"], draw.randint(1, 4))

    def forward(self, x):
        state, total, kept, given = torch.tanh(x), 0.0, [], [x.sin(), x.cos(), x * x, -x, x + 1]
        for turn, k in enumerate(self.order):
            y = state if turn != self.odd else x
            for kind in self.plan:
                if kind in ("a", "b"):
                    y = torch.tanh(getattr(self, kind)[k](y))
                elif kind == "state":
                    if not (self.drop_last and turn == self.count - 1):
                        state = state * 0.5 + y
                elif kind == "sum":
                    total = total + y
                elif kind == "slice":
                    y = y * x[..., k : k + 1]
                elif kind == "keep":
                    kept.append(y)
                elif kind == "place":
                    place = (2, 0, 5, 1, 3)[turn]
                    y = y * x[..., place : place + 2].sum(-1, keepdim=True)
                elif kind == "times":
                    y = (y * (3, 1, 4, 1, 5)[turn] - (5, 3, 6, 3, 7)[turn] * x) / 4
                elif kind == "own":
                    y = y - given[turn]
                else:
                    y = y * (0.1 * turn + 1)
        reads = {
            "state": lambda: state,
            "sum": lambda: total + x,
            "kept": lambda: torch.cat([*kept, x], -1),
            "first": lambda: kept[0] * 2 if kept else x,
            "backward": lambda: torch.stack([*kept[::-1], x], 1),
        }
        return [reads[name]() for name in self.behind] + [y]


@pytest.mark.parametrize("seed", [*range(12), 134, 263, 268])
def test_random_turns_compute_the_same(seed):
    checked_source(lambda: Drawn(seed), 2, 24, 8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12, 300))
def test_more_random_turns(seed):
    test_random_turns_compute_the_same(seed)
