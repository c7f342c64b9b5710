"""name_repeated: expressions that a constructor has several times get a name, which is used."""

import pytest

from porter.emit.class_writer import name_repeated


@pytest.mark.parametrize("size", ["3 * args.width * args.heads", "10 * args.width"])
def test_a_name_is_one_that_is_read(size):
    lines = name_repeated([f"self.{name} = nn.Linear({size}, {size})" for name in "abc"])
    for line in lines:
        name, _, _ = line.partition(" = ")
        assert name.startswith("self.") or sum(name in other for other in lines) > 1
