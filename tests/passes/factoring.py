"""What tests of factoring share: a block to vary, ports that are checked, and what their sources hold."""

from __future__ import annotations

import ast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tests.passes.programs import x
from tests.random_modules.parity import Ported, check_source, port_of


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int, activation=F.relu, drop: bool = False):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.activation = activation
        self.scale = nn.Parameter(torch.rand(dim)) if drop else None

    def forward(self, a):
        h = self.fc2(self.activation(self.fc1(a)))
        if self.scale is not None:
            h = h * self.scale
        return a + h


def net(*blocks, loop: bool = True):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            if loop:
                self.blocks = nn.ModuleList(make() for make in blocks)
            else:
                for i, make in enumerate(blocks):
                    setattr(self, "abcdefgh"[i], make())

        def forward(self, a):
            for block in self.children() if not loop else self.blocks:
                a = block(a)
            return a

    return Net


def ported(build, *shape: int) -> Ported:
    result = port_of(build, (x(*shape),))
    result.check(x(*shape))
    result.check(x(shape[0] + 1, *shape[1:]))
    check_source(result.port.model_py)
    return result


def classes(result: Ported) -> list[str]:
    found = [n.name for n in ast.parse(result.port.model_py).body if isinstance(n, ast.ClassDef)]
    return [name for name in found if name not in ("ModelArgs", "Model")]


def loops(result: Ported) -> int:
    return sum(isinstance(node, ast.For) for node in ast.walk(ast.parse(result.port.model_py)))


def init_of(result: Ported, name: str) -> str:
    tree = ast.parse(result.port.model_py)
    cls = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    return ast.unparse(next(n for n in cls.body if isinstance(n, ast.FunctionDef)))
