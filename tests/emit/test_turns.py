"""Texts over the index of a list keep the value that each part has by itself."""

import pytest

from porter.emit.turns import alternating, by_turns, factor, first_apart, growth, runs, term


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


BY_TURNS = {
    "a number": (["Block(d, 0, p=1)", "Block(d, 4, p=1)"] * 2, "Block(d, 0 if i % 2 == 0 else 4, p=1)"),
    "a flag": (["Block(s=False)", "Block(s=True)"] * 3, "Block(s=i % 2 == 1)"),
    "two": (["B(1, 'é', 2)", "B(3, 'é', 4)"] * 2, "B(1 if i % 2 == 0 else 3, 'é', 2 if i % 2 == 0 else 4)"),
    "too few": (["Block(0)", "Block(4)"], None),
    "other classes": (["A(0)", "B(4)"] * 2, None),
    "not by turns": (["A(0)", "A(1)", "A(1)", "A(0)"], None),
    "an index of its own": (["A(0, d[i])", "A(4, d[i])"] * 2, None),
    "all alike": (["A(0)"] * 4, None),
}  # fmt: skip


@pytest.mark.parametrize(("texts", "call"), BY_TURNS.values(), ids=BY_TURNS)
def test_calls_that_take_turns_are_one(texts, call):
    assert by_turns(texts) == call
    if call is not None:
        assert runs(texts, "args.depth") == [f"*({call} for i in range(args.depth))"]


def test_calls_that_come_again_after_several():
    assert runs(["A()", "B()"] * 3) == ["*(layer for _ in range(3) for layer in (A(), B()))"]
    assert runs(["A()", "B()"] * 2, "n") == [
        "*(layer for _ in range(n // 2) for layer in (A(), B()))"
    ]
    odd = runs(["A()", "B()", "A()", "B()", "A()"], "n")
    assert odd == ["*(layer for _ in range(2) for layer in (A(), B()))", "A()"]
    assert runs(["A()", "B()", "C()"]) == ["A()", "B()", "C()"]
