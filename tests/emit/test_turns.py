"""Texts over the index of a list keep the value that each part has by itself."""

import pytest

from porter.emit.turns import alternating, factor, first_apart, growth, runs, term


@pytest.mark.parametrize(
    "text", ["a", "args.dims[0]", "2 * a", "a // 4", "a + 1", "a - b", "a if b else c", "-a"]
)
def test_a_part_of_a_product_keeps_its_value(text):
    for a in (3, 8, 20):
        names = {"a": a, "b": 5, "c": 7, "i": 3, "args": type("Args", (), {"dims": (a,)})}
        value = eval(text, names)
        assert eval(f"{term(text)} * 2**i", names) == value * 8
        assert eval(f"{term(text)} // 2**i", names) == value // 8
        assert eval(f"1 + i * {factor(text)}", names) == 1 + 3 * value


def test_numbers_that_grow():
    assert growth({0: [8, 16, 32], 1: [3, 6, 12]}) == "* 2"
    assert growth({0: [56, 28, 14, 7]}) == "// 2"
    assert growth({0: [8, 16, 30]}) is None
    assert growth({0: [8, 16]}) is None


def test_flags_and_runs():
    assert first_apart("False", "True") == "i > 0"
    assert first_apart("1", "2") == "1 if i == 0 else 2"
    assert alternating("False", "shifted") == "i % 2 == 1 and shifted"
    assert runs(["A()", "B()", "B()", "B()"]) == ["A()", "*(B() for _ in range(3))"]
