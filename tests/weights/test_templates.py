"""Recipes of one size as templates for another."""

import pytest

from porter.emit.variants import Shapes
from porter.errors import InputError
from porter.weights.recipes import parse
from porter.weights.templates import recipes_for


def made(table, shapes, sources):
    found = recipes_for(shapes, {k: parse(v) for k, v in table.items()}, Shapes(sources))
    return {path: str(recipe) for path, recipe in found.items()}


def test_a_deeper_list_continues_the_numbers_of_the_keys():
    table = {f"layers.{i}.weight": f'source("h.{i + 2}.conv1.weight")' for i in range(3)}
    found = made(table, {"layers.6.weight": (4, 5)}, {"h.8.conv1.weight": (4, 5)})
    assert found == {"layers.6.weight": 'source("h.8.conv1.weight")'}


def test_two_numbers_follow_the_path_each():
    table = {
        f"stages.{s}.layers.{k}.weight": f'source("stage{s + 1}.{k}.weight")'
        for s in range(2)
        for k in range(2)
    }
    found = made(table, {"stages.1.layers.4.weight": (3,)}, {"stage2.4.weight": (3,)})
    assert found == {"stages.1.layers.4.weight": 'source("stage2.4.weight")'}


def test_a_reshape_takes_the_lengths_of_the_other_size():
    table = {"gamma": 'permute(reshape(source("gamma"), [1, 4, 2]), [0, 2, 1])'}
    found = made(table, {"gamma": (1, 5, 6)}, {"gamma": (30,)})
    assert found == {"gamma": 'permute(reshape(source("gamma"), [1, 6, 5]), [0, 2, 1])'}


def test_another_shape_and_an_unknown_parameter_are_refused():
    table = {"norm.weight": 'source("norm.weight")'}
    with pytest.raises(InputError, match="without --mapping"):
        made(table, {"norm.weight": (4,)}, {"norm.weight": (5,)})
    with pytest.raises(InputError, match="no parameter like"):
        made(table, {"head.weight": (4,)}, {"head.weight": (4,)})
