"""export_program: dims that may change, and attempts that fail."""

import torch
from torch import nn

from porter.frontends.export import export_program
from porter.sources import SourceOptions
from porter.sources.built import built_source, from_module


class OneSize(nn.Module):
    """What torch.export fails on where the size is a symbol: as its own solver does for some pools."""

    def forward(self, a):
        if isinstance(a.shape[1], torch.SymInt):
            raise NotImplementedError("this size is not to be a symbol")
        return a * 2


def test_an_attempt_that_fails_leaves_nothing_on_the_inputs():
    source = built_source(
        "test",
        SourceOptions(),
        "factory",
        "OneSize",
        OneSize(),
        (torch.randn(1, 6),),
        {},
        {"a": {1: "width"}},
        {},
    )
    program, notes = export_program(source)
    assert notes == ["every dim stayed fixed: this size is not to be a symbol"]
    assert not program.range_constraints


class PictureToText(nn.Module):
    """An encoder of one height, and a decoder's tokens."""

    def forward(self, pixel_values, decoder_input_ids):
        if isinstance(pixel_values.shape[2], torch.SymInt):
            raise NotImplementedError("this height is not to be a symbol")
        return pixel_values.mean((1, 2, 3))[:, None] + decoder_input_ids


def test_a_text_keeps_its_length_where_a_picture_has_one_size():
    """Without its length a decoder has no cache."""
    values = {
        "pixel_values": torch.randn(2, 3, 8, 6),
        "decoder_input_ids": torch.zeros(2, 5, dtype=torch.int64),
    }
    dims = {
        "pixel_values": {0: "batch", 2: "height"},
        "decoder_input_ids": {0: "batch", 1: "decoder_length"},
    }
    source = built_source(
        "test", SourceOptions(), "factory", "PictureToText", PictureToText(), (), values, dims, {}
    )
    program, notes = export_program(source)
    assert notes == ["height stayed fixed: this height is not to be a symbol"]
    assert len(program.range_constraints) == 2


def test_pictures_whose_number_stays_fixed_are_told_of():
    class Three(nn.Module):
        def forward(self, pixel_values):
            return torch.stack([pixel_values[i] for i in range(pixel_values.shape[0])])

    values = {"pixel_values": torch.randn(3, 4)}
    dims = {"pixel_values": {0: "pictures"}}
    source = built_source("t", SourceOptions(), "factory", "Three", Three(), (), values, dims, {})
    _, notes = export_program(source)
    assert notes == ["pictures stayed fixed: the source works with their number"]


def test_the_order_of_an_einsum_fixes_no_size(monkeypatch):
    """Where opt_einsum is installed, torch asks it for the cheapest order, and that compares sizes."""

    class Search:
        @staticmethod
        def contract_path(equation, *operands, optimize):
            for operand in operands:
                if operand.shape[0] != 3:
                    raise ValueError(equation)
            return [(0, 1), (0, 1)], None

    backend = torch.backends.opt_einsum.m
    monkeypatch.setattr(backend, "is_available", lambda: True)
    monkeypatch.setattr(backend, "get_opt_einsum", lambda: Search)
    monkeypatch.setattr(backend, "enabled", True)

    class Low(nn.Module):
        def forward(self, a, b, c):
            return torch.einsum("bi,bir,bjr->bj", a, b, c)

    args = (torch.randn(3, 4), torch.randn(3, 4, 2), torch.randn(3, 5, 2))
    program, notes = export_program(from_module(Low(), args))
    assert notes == []
    given = [n.meta["val"] for n in program.graph.nodes if n.op == "placeholder"]
    assert "3" not in {str(value.shape[0]) for value in given}
    assert backend.enabled
