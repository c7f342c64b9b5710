"""Expressions that a constructor has several times get a name, which is used."""

import pytest

from porter.emit.repeated import name_repeated


@pytest.mark.parametrize("size", ["3 * args.width * args.heads", "10 * args.width"])
def test_a_name_is_one_that_is_read(size):
    lines = name_repeated([f"self.{name} = nn.Linear({size}, {size})" for name in "abc"])
    for line in lines:
        name, _, _ = line.partition(" = ")
        assert name.startswith("self.") or sum(name in other for other in lines) > 1


def test_a_part_that_an_operator_beside_it_takes_apart_stays():
    for line in (
        "self.{} = nn.Linear(72 * args.factor ** 2, 1)",
        "self.{} = nn.Linear(args.width // 72 * args.factor, 1)",
        "self.{} = nn.Linear(args.width ** 72 * args.factor, 1)",
    ):
        lines = [line.format(name) for name in "abc"]
        assert "out_dim" not in "".join(name_repeated(lines))
    halves = [
        f"self.{name} = nn.Linear(3 * args.channels // args.number_of_groups, 1)" for name in "abc"
    ]
    assert "size" not in "".join(name_repeated(halves))
    product = [
        f"self.{name} = nn.Linear(72 * args.factor // 2, 72 * args.factor)" for name in "abc"
    ]
    assert name_repeated(product)[1] == "self.a = nn.Linear(out_dim // 2, out_dim)"
