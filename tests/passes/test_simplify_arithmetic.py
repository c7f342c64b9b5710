"""simplify_arithmetic: norms, quotients and casts as one writes them."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from porter.passes.simplify_arithmetic import simplify_arithmetic
from tests.passes.programs import Fn, ops, rewritten, x
from tests.random_modules.parity import port_of


def test_the_root_of_a_sum_of_squares_is_a_norm():
    program, (count,) = rewritten(
        lambda a: a.norm(dim=1) + a.square().sum(1).sqrt(), [x(2, 3)], simplify_arithmetic
    )
    assert count == 2
    assert ops(program) == {"mx.linalg.norm": 2, "+": 1}


def test_a_sum_that_something_else_reads_stays():
    def forward(a):
        total = a.square().sum(1, keepdim=True)
        return (
            total / (1 + total) * a / total.sqrt(),
            a.square().sum((1, 2)).sqrt(),
            (a.square().sum(1) + 1e-6).sqrt(),
        )

    _, (count,) = rewritten(forward, [x(2, 3, 4)], simplify_arithmetic)
    assert count == 0


def test_the_port_has_them():
    def forward(a, i):
        rows = F.one_hot(i, 3).to(a.dtype) @ F.normalize(a, dim=0)
        return 1.0 / (a + 4) * rows.mean(0), (a > 0).long().to(a.dtype)

    a, i = x(3, 4).abs(), torch.tensor([0, 2, 2])
    net = port_of(lambda: Fn(forward), (a, i))
    net.check(a, i)
    source = net.port.model_py
    assert "mx.linalg.norm(args_0" in source
    assert "1 / (args_0 + 4)" in source
    assert "int64).astype" not in source
