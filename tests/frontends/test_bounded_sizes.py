"""Sizes at which the source takes another way than the traced graph are told, and what the source refuses is not."""

from __future__ import annotations

import ast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from porter.frontends.export import export_program
from porter.sources.built import from_module
from tests.random_modules.parity import port_of


class Padded(nn.Module):
    """Pads where the length is no multiple of 4; keeps the last length that it saw."""

    def __init__(self, checked: bool = False):
        super().__init__()
        self.checked = checked
        self.register_buffer("seen", torch.zeros(3))
        self.length = 0

    def forward(self, x):
        rest = x.shape[1] % 4
        if rest > 0:
            if self.checked:
                raise ValueError("the length is to be a multiple of 4")
            self.length, self.seen = x.shape[1], x.new_zeros(7)
            x = F.pad(x, (0, 0, 4 - rest, 0))
        return x.unflatten(1, (-1, 4)).mean(2)


class Whole(nn.Module):
    """Long texts are cut in two, short ones are taken whole."""

    def forward(self, x):
        return x.cumsum(1) if x.shape[1] <= 20 else torch.cat([h.cumsum(1) for h in x.chunk(2, 1)])


class Half(nn.Module):
    """Keeps the larger half, whose number the source rounds down to a plain one."""

    def forward(self, x):
        return x.topk(int(x.shape[1] * 0.5), dim=1)[0]


def notes(module: nn.Module, length: int = 8) -> list[str]:
    return export_program(from_module(module, (torch.randn(2, length, 5),)))[1]


def test_another_way_is_told():
    assert notes(Padded()) == [
        "the port holds where length % 4 == 0: at another length the source does something else"
    ]
    assert "length <= 20" in notes(Whole())[0]


def test_a_rounded_number_holds_for_its_sizes_alone():
    (note,) = notes(Half())
    assert note.startswith("length stayed fixed")
    assert "(math.trunc(0.5*length) == 4)" in note


def test_the_file_says_where_it_holds():
    source = port_of(Padded, [torch.randn(2, 8, 5)]).port.model_py
    docstring = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
    assert "The port holds where length % 4 == 0: at another length the source does" in docstring


def test_what_the_source_refuses_is_no_other_way():
    assert notes(Padded(checked=True)) == []


def test_the_module_is_left_as_it_was():
    module = Padded()
    notes(module)
    assert module.length == 0
    assert type(module.seen) is torch.Tensor
    assert module.seen.shape == (3,)
