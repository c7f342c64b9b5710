"""verify() refuses each way in which a program can be broken; the pipeline names the pass that broke it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from porter.ir import Node, Program, Value, VerificationError, verify
from porter.ir.builder import Builder
from porter.passes import pipeline
from porter.passes.pipeline import PIPELINE, run_pipeline


def program() -> Program:
    """tanh(x) + w, split in two."""
    result = Program("Net", "Net")
    x = Value((2, 4), "float32", origin="x")
    w = Value((4,), "float32", path="w")
    builder = Builder()
    h = builder.op("mx.tanh", x)
    total = builder.op("+", h, w)
    halves = builder.node("mx.split", total, 2, axis=1, shapes=[(2, 2)] * 2, dtypes=["float32"] * 2)
    result.inputs, result.nodes, result.parameters = [x], builder.nodes, {"w": w}
    result.outputs = [("first", halves.outputs[0]), ("second", halves.outputs[1])]
    return result


def test_a_whole_program_is_taken():
    verify(program())


def test_an_output_may_be_an_input_or_a_parameter():
    p = program()
    p.outputs = [("x", p.inputs[0]), ("w", p.parameters["w"])]
    verify(p)


def stranger() -> Value:
    return Value((2, 4), "float32")


def _reads_nothing(p: Program) -> None:
    p.nodes[1].args[0] = stranger()


def _reads_nothing_in_a_list(p: Program) -> None:
    p.nodes[1].args.append([1, [stranger()]])


def _reads_nothing_in_a_keyword(p: Program) -> None:
    p.nodes[1].kwargs["mask"] = stranger()


def _reads_nothing_in_a_slice(p: Program) -> None:
    p.nodes[1].attrs["key"] = (slice(None, stranger()),)


def _reads_nothing_in_a_layer(p: Program) -> None:
    p.nodes[1].params["weight"] = stranger()


def _reads_what_comes_later(p: Program) -> None:
    p.nodes.reverse()


def _reads_what_was_removed(p: Program) -> None:
    del p.nodes[0]


def _reads_itself(p: Program) -> None:
    p.nodes[0].args[0] = p.nodes[0].output


def _writes_twice(p: Program) -> None:
    p.nodes.append(p.nodes[0])


def _writes_an_input(p: Program) -> None:
    p.inputs[0].node = p.nodes[0]
    p.nodes[0].outputs.append(p.inputs[0])


def _belongs_to_another(p: Program) -> None:
    p.nodes[1].output.node = p.nodes[0]


def _belongs_to_nobody(p: Program) -> None:
    p.nodes[0].output.node = None


def _returns_nothing(p: Program) -> None:
    p.outputs[1] = ("second", stranger())


def _returns_what_was_removed(p: Program) -> None:
    del p.nodes[-1]


BREAKS: dict[Callable[[Program], None], str] = {
    _reads_nothing: "which nothing before it writes",
    _reads_nothing_in_a_list: "which nothing before it writes",
    _reads_nothing_in_a_keyword: "which nothing before it writes",
    _reads_nothing_in_a_slice: "which nothing before it writes",
    _reads_nothing_in_a_layer: "which nothing before it writes",
    _reads_what_comes_later: "which nothing before it writes",
    _reads_what_was_removed: "which nothing before it writes",
    _reads_itself: "which nothing before it writes",
    _writes_twice: "which exists already",
    _writes_an_input: "which exists already",
    _belongs_to_another: "does not name",
    _belongs_to_nobody: "does not name",
    _returns_nothing: "output 'second' is",
    _returns_what_was_removed: "output 'first' is",
}


@pytest.mark.parametrize(
    ("spoil", "message"), BREAKS.items(), ids=lambda item: getattr(item, "__name__", "")
)
def test_a_broken_program_is_refused(spoil, message):
    p = program()
    spoil(p)
    with pytest.raises(VerificationError, match=message):
        verify(p)


def test_a_pass_that_breaks_the_program_is_named_with_those_before(monkeypatch):
    def spoil(p: Program) -> int:
        del p.nodes[0]
        return 1

    monkeypatch.setattr(pipeline, "PIPELINE", (*PIPELINE[:2], (spoil, "breaks it"), *PIPELINE[2:]))
    before = ", ".join(step.__name__ for step, _ in PIPELINE[:2])
    with pytest.raises(VerificationError, match=rf"Pass spoil \(after {before}\) failed"):
        run_pipeline(program())


def test_the_pipeline_refuses_a_program_that_was_broken_before():
    p = program()
    del p.nodes[0]
    with pytest.raises(VerificationError):
        run_pipeline(p)


def test_every_pass_has_a_reason_and_dumps_see_each():
    seen: list[str] = []
    run_pipeline(program(), dump=lambda name, p: (verify(p), seen.append(name)))
    asked_for = {"fold_batchnorm"}
    assert seen == [t.__name__ for t, _ in PIPELINE if t.__name__ not in asked_for]
    assert all(len(reason) > 10 for _, reason in PIPELINE)


def test_replace_follows_chains():
    p = program()
    x, h = p.inputs[0], p.nodes[0].output
    middle = stranger()
    p.replace({h: middle, middle: x})
    assert p.nodes[1].args[0] is x


def test_users_list_each_reader_once():
    p = program()
    total = p.nodes[1]
    total.args[1] = total.args[0]
    assert p.users()[total.args[0]] == [total]


def test_inputs_come_in_the_order_of_the_arguments():
    a, b, c, d = (stranger() for _ in range(4))
    node = Node("nn.X", [a, [b]], {"k": c}, {"key": (slice(d, None),)}, {})
    assert list(node.inputs()) == [a, b, c, d]
