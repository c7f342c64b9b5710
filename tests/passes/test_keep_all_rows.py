"""Rows that a mask chooses: worked out for all rows where each is worked on by itself."""

import pytest
import torch

from tests.passes.programs import x
from tests.random_modules.parity import check_source, port_of


class Experts(torch.nn.Module):
    """Two layers for two kinds of tokens, as decoders of text and sound have them."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(8)
        self.text = torch.nn.Sequential(
            torch.nn.Linear(8, 16), torch.nn.SiLU(), torch.nn.Linear(16, 8)
        )
        self.sound = torch.nn.Linear(8, 8)

    def forward(self, x, mask):
        h = x.masked_scatter(mask.unsqueeze(-1), self.norm(x[mask]))
        h[~mask] += self.text(h[~mask])
        h[mask] = torch.tanh(self.sound(h[mask])) * 2
        return h


class Mixed(torch.nn.Module):
    """The chosen rows are looked at together."""

    def forward(self, x, mask):
        chosen = x[mask]
        y = x.clone()
        y[mask] = chosen - chosen.mean(dim=0)
        return y


class Others(torch.nn.Module):
    """The rows go to other places than they come from."""

    def forward(self, x, mask):
        y = x.clone()
        y[mask] = x[~mask] * 2
        return y


class Flat(torch.nn.Module):
    """The rows are chosen from merged samples, and put into samples."""

    def forward(self, x, mask):
        y = x.clone()
        y[mask] = x.flatten(0, 1)[mask.flatten()].exp()
        return y


def _masks(batch, length):
    """Some, all and none of the tokens."""
    some = torch.rand(batch, length) > 0.5
    return some, torch.ones_like(some), torch.zeros_like(some)


def test_what_works_on_each_row_by_itself_works_on_all():
    ported = port_of(Experts, [x(2, 5, 8), _masks(2, 5)[0]])
    for mask in _masks(3, 4):
        ported.check(x(3, 4, 8), mask)
    check_source(ported.port.model_py)
    assert "masked" not in ported.port.model_py
    assert "cumsum" not in ported.port.model_py


@pytest.mark.parametrize("net", [Mixed, Others])
def test_rows_that_look_at_each_other_or_go_elsewhere_are_chosen(net):
    mask = torch.tensor([[True, False, True, False], [False, True, False, True]])
    ported = port_of(net, [x(2, 4, 8), mask])
    ported.check(x(2, 4, 8), ~mask)
    assert "masked_put" in ported.port.model_py


def test_merged_samples():
    ported = port_of(Flat, [x(2, 4, 8), _masks(2, 4)[0]])
    for mask in _masks(2, 4):
        ported.check(x(2, 4, 8), mask)
