"""drop_row_guards: the guard of attention rows without anything to attend to."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from porter.passes.row_guards import drop_row_guards
from tests.passes.programs import SDPA, Fn, ops, program_of, rewritten, x

Q = x(2, 3, 5, 4)


def masked(shape):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.4
    mask[..., 0] = True
    return mask


def attention(q, mask):
    return F.scaled_dot_product_attention(q, q, q, attn_mask=mask)


def test_the_lowering_guards_every_boolean_mask():
    assert ops(program_of(attention, Q, masked((2, 1, 1, 5))).program)["mx.where"] == 1


@pytest.mark.parametrize("shape", [(2, 1, 1, 5), (1, 5), (1, 1, 1, 5)])
def test_a_padding_mask_needs_no_guard(shape):
    program, (count,) = rewritten(attention, [Q, masked(shape)], drop_row_guards)
    assert count == 1
    assert ops(program)["mx.where"] == ops(program)["mx.any"] == 0
    assert ops(program)[SDPA] == 1


def test_an_expanded_padding_mask_needs_none_either():
    _program, (count,) = rewritten(
        lambda q, mask: attention(q, mask.expand(2, 1, 5, 5)),
        [Q, masked((2, 1, 1, 5))],
        drop_row_guards,
    )
    assert count == 1


@pytest.mark.parametrize("shape", [(2, 1, 5, 5), (5, 5), (1, 3, 5, 5)])
def test_a_mask_that_differs_by_query_keeps_it(shape):
    mask = masked(shape)
    mask[..., 2, :] = False  # a row without anything to attend to: torch gives 0
    program, (count,) = rewritten(attention, [Q, mask], drop_row_guards)
    assert count == 0
    assert ops(program)["mx.where"] == 1


def test_the_authors_own_where_stays():
    program, (count,) = rewritten(
        Fn(lambda q, keep: torch.where(keep, F.scaled_dot_product_attention(q, q, q), 0.0)),
        [Q, masked((2, 1, 5, 1))],
        drop_row_guards,
    )
    assert count == 0
    assert ops(program)["mx.where"] == 1
