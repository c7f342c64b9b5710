"""Random loops in a forward: states, rows, anchors, lists of what the steps gave; ported and compared with torch.

Derandomized: the same loops in every run. `-m slow` takes many more.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import nn

from tests.random_modules.parity import check_source, port_of


def forward_of(seed: int) -> tuple[str, int]:
    """The source of a module whose forward is a loop, and the length of its input of 6 features."""
    draw = random.Random(seed)
    steps = draw.randint(4, 9)
    length = draw.choice([steps, steps, steps + 3])
    layers = "abc"[: draw.randint(1, 3)]
    states = [f"s_{name}" for name in "pqr"[: draw.randint(1, 3)]]
    lists = [f"kept_{name}" for name in "uv"[: draw.randint(0, 2)]]
    rows = draw.choice(["x[:, k]", "x[:, k]", "rows[k]", "listed[k]", "mapped[:, k]"])
    made = {
        "rows[k]": "rows = x.unbind(1)",
        "listed[k]": f"listed = [x[:, k] for k in range({steps})]",
        "mapped[:, k]": "mapped = self.a(x)",
    }
    before = [made[rows]] if rows in made else []
    zeros = draw.random() < 0.5
    if zeros:
        before.append("zeros = x.new_zeros(x.shape[0], 6)")
        starts = ["zeros", "zeros", "x.new_zeros(x.shape[0], 6)", "x[:, 0] * 0.5"]
    else:
        starts = ["x[:, 0]", "x[:, 1] * 0.5", "torch.tanh(x[:, 0])", "x.mean(1)"]
    before += [f"{state} = {draw.choice(starts)}" for state in states]
    anchor = draw.random() < 0.4
    before += [f"anchor = {draw.choice([*states, 'x[:, 2]'])}"] if anchor else []
    before += [f"{name} = []" for name in lists]

    def term() -> str:
        terms = [*states, f"self.{draw.choice(layers)}({draw.choice(states)})"]
        terms += [rows] if draw.random() < 0.5 else []
        return draw.choice([*terms, "anchor"] if anchor else terms)

    turn: list[str] = []
    for _ in range(draw.randint(1, 4)):
        function = draw.choice(["tanh", "sigmoid", "sin"])
        value = f"torch.{function}({term()} {draw.choice('+*-')} {term()})"
        if draw.random() < 0.2:
            value += draw.choice([" * 0.5", " * (k + 1) * 0.1", " * (2 * k + 3) * 0.05"])
        if draw.random() < 0.3:
            turn += [f"inner = {value}", f"{draw.choice(states)} = inner * 0.5 + {term()} * 0.1"]
        else:
            turn.append(f"{draw.choice(states)} = {value}")
    if len(states) > 1 and draw.random() < 0.3:
        turn.append(f"{states[0]}, {states[1]} = {states[1]}, {states[0]}")
    for name in lists:
        where = draw.choice(["append(", "append(", "insert(0, "])
        turn.append(f"{name}.{where}{draw.choice(states)})")
    ends = ["torch.stack({}, 1)", "torch.cat({}, 1)", "torch.stack({}).mean(0)", "{0}[-1] + {0}[1]"]
    results = [draw.choice(ends).format(name) for name in lists]
    results += draw.sample(states, draw.randint(0 if results else 1, len(states)))
    counted = f"range({steps})"
    header = f"for k in {f'reversed({counted})' if draw.random() < 0.25 else counted}:"
    body = [*before, header, *(f"    {line}" for line in turn), f"return {', '.join(results)}"]
    return "def forward(self, x):\n" + "\n".join(f"    {line}" for line in body), length


def compare(seed: int) -> str:
    text, length = forward_of(seed)
    scope: dict[str, Any] = {"torch": torch}
    exec(text, scope)

    class Net(nn.Module):
        forward = scope["forward"]

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(6, 6, bias=bias) for bias in (True, False, True))

    generator = torch.Generator().manual_seed(seed)
    ported = port_of(Net, (torch.randn(2, length, 6, generator=generator),))
    ported.check(torch.randn(3, length, 6, generator=generator))
    check_source(ported.port.model_py)
    return ported.port.model_py


@pytest.mark.parametrize("seed", [*range(16), 270])
def test_random_loops(seed: int) -> None:
    compare(seed)


def test_most_random_loops_are_loops() -> None:
    texts = [compare(seed) for seed in range(100, 110)]
    assert sum(" for " in text.partition("__call__")[2] for text in texts) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 500))
def test_many_random_loops(seed: int) -> None:
    compare(seed)
