"""What a forward does only where an input is given that a call may leave out: pictures in a text."""

from __future__ import annotations

from dataclasses import dataclass, field

from porter.ir import Node, Program, Value
from porter.passes.factor.blocks import Block, Item, reads


def is_given(item: Item) -> bool:
    """Whether an item is done only where an input is given, which its `given` names."""
    return isinstance(item, Node) and "given" in item.attrs


def without(node: Node) -> Value:
    """What stands for such a node's output elsewhere: `words` of `mx.where(places, features, words)`, `x` of `x + features`."""
    value: Value = node.args[2] if node.op == "mx.where" else node.args[0]
    return value


def absent_values(program: Program) -> set[Value]:
    """The arrays that there are only with the input, itself among them: what is made of it, and what is made for that alone."""
    given = {node for node in program.nodes if "given" in node.attrs}
    absent = {
        value for value in program.inputs if value.origin in {n.attrs["given"] for n in given}
    }
    for node in program.nodes:
        if node not in given and any(value in absent for value in node.inputs()):
            absent.update(node.outputs)
    users, outputs = program.users(), set(program.output_values())
    for node in reversed(program.nodes if given else []):
        readers = [(user, value) for value in node.outputs for user in users.get(value, ())]
        if (
            readers
            and node not in given
            and not outputs & set(node.outputs)
            and all(
                without(user) is not value if user in given else absent.issuperset(user.outputs)
                for user, value in readers
            )
        ):
            absent.update(node.outputs)
    return absent


@dataclass(slots=True)
class Given:
    """`decides`: the input of a block that tells whether there is anything; `inside`: items that are done only then.

    `leaving` are the arrays that these make for others: None where the input is left out.
    """

    decides: Value | None = None
    inside: set[Item] = field(default_factory=set)
    leaving: set[Value] = field(default_factory=set)

    @classmethod
    def of(cls, block: Block, absent: set[Value]) -> Given:
        """Nothing is inside where no item of the block, or of those below, is done only with the input."""
        entering = [value for value in block.inputs if value in absent]
        if not entering or not has_given(block):
            return cls()
        decides = next((v for v in entering if v.node is None), entering[0])
        readers: dict[Value, list[Item]] = {}
        for item in block.items:
            for value in reads(item):
                readers.setdefault(value, []).append(item)
        inside = {
            item
            for item in block.items
            if not is_given(item)
            and not (isinstance(item, Block) and has_given(item))
            and any(value in absent for value in item.outputs)
        }
        leaving = {
            value
            for item in inside
            for value in item.outputs
            if value in block.outputs
            or any(user not in inside and not is_given(user) for user in readers.get(value, []))
        }
        return cls(decides, inside, leaving)


def has_given(block: Block) -> bool:
    """Whether an item of the block, or of those below, is done only where an input is given."""
    return any(is_given(item) for part in block.walk() for item in part.items)
