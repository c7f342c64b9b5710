"""Export and import: dims, names, in-place writes, outputs, constants, gaps."""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from porter.errors import InputError, UnsupportedError
from porter.frontends.export import export_program
from porter.frontends.import_graph import import_program
from porter.ir import Program, verify
from porter.sources import SourceOptions
from porter.sources.built import built_source
from porter.sources.source import Source
from tests.passes.programs import Fn, ops, program_of, rewritten, x


def source_of(
    module: nn.Module, args: tuple = (), kwargs: dict | None = None, dynamic: dict | None = None
) -> Source:
    source = built_source("test", SourceOptions(), "module", "Test", module, args, kwargs or {})
    source.dynamic = dynamic or {"": {}}
    return source


def imported(module: nn.Module, *args: torch.Tensor, **options) -> tuple[Program, list[str]]:
    source = source_of(module, args, **options)
    exported, notes = export_program(source)
    program = import_program(exported, source)
    verify(program)
    return program, notes


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, image, mask):
        hidden = self.linear(image)
        return hidden * mask


def test_dims_of_one_name_are_one_symbol():
    names = {0: "batch", 1: "length"}
    program, notes = imported(
        Net(), x(2, 5, 4), x(2, 5, 1), dynamic={"image": names, "mask": names}
    )
    assert notes == []
    assert dict(program.dims.values()) == {"batch": 2, "length": 5}
    assert program.inputs[0].shape[:2] == program.inputs[1].shape[:2]
    assert not any(isinstance(size, int) for size in program.inputs[0].shape[:2])


def test_what_is_not_named_stays_fixed():
    program, _ = imported(Net(), x(2, 5, 4), x(2, 5, 1))
    assert program.inputs[0].shape == (2, 5, 4)
    assert program.dims == {}


def test_a_dim_that_the_model_fixes_is_said():
    class Fixed(nn.Module):
        def forward(self, a):
            return a + torch.arange(5.0) if a.shape[1] == 5 else a - 1

    program, _ = imported(Fixed(), x(2, 5), dynamic={"a": {0: "batch", 1: "length"}})
    assert program.inputs[0].shape[1] == 5
    assert [dim for dim, _ in program.dims.values()] == ["batch"]


def test_values_carry_the_authors_names_and_lines():
    program, _ = imported(Net(), x(2, 4), x(2, 1))
    linear = next(node for node in program.nodes if node.op == "nn.Linear")
    assert linear.output.name == "hidden"
    assert linear.location is not None
    assert linear.location.text == "hidden = self.linear(image)"
    assert [frame.path for frame in linear.scope] == ["linear"]
    assert [value.origin for value in program.inputs] == ["image", "mask"]


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


OUTPUTS = {
    "array": (lambda a: a + 1, ["output"], "array"),
    "tuple": (lambda a: (a + 1, a + 2), ["output_0", "output_1"], "tuple"),
    "list": (lambda a: [a + 1, a + 2], ["output_0", "output_1"], "tuple"),
    "dict": (lambda a: {"p": a + 1, "q": a + 2}, ["p", "q"], "dict"),
    "dict of one": (lambda a: {"p": a + 1}, ["p"], "array"),
    "nested": (lambda a: {"p": (a + 1, a + 2), "q": a}, ["p_0", "p_1", "q"], "dict"),
    "lists in a tuple": (
        lambda a: (a, [a + 1, a + 2]),
        ["output_0", "output_1_0", "output_1_1"],
        "tuple",
    ),
    "ordered dict": (lambda a: OrderedDict(p=a + 1, q=a), ["p", "q"], "dict"),
    "None among them": (lambda a: (a + 1, None, a + 2), ["output_0", "output_2"], "tuple"),
}


@pytest.mark.parametrize(("forward", "names", "kind"), OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_are_named(forward, names, kind):
    program = program_of(Fn(forward), x(2, 3)).program
    assert [name for name, _ in program.outputs] == names
    assert program.output_kind == kind


def test_fields_of_a_namedtuple_are_names():
    program = program_of(Fn(lambda a: Pair(a + 1, a + 2)), x(2, 3)).program
    assert [name for name, _ in program.outputs] == ["first", "second"]


def writes_a_column(a):
    b = a.clone()
    b[:, 1] = 7
    return b


def writes_a_view(a):
    b = a * 2
    b.view(-1)[2:4] += 1
    return b


def adds_in_place(a):
    b = a + 1
    b.add_(a).mul_(2)
    return b.relu_()


def view_after_write(a):
    b = a * 2
    view = b[0]
    b.add_(1)
    return view * b


def writes_under_a_mask(a):
    b = a.clone()
    b[b > 0] = 0.5
    return b.masked_fill_(b < -1, -1.0)


def zeroes(a):
    b = torch.empty_like(a)
    b.fill_(3)
    b[0].zero_()
    return a + b


def copies(a):
    b = torch.zeros(2, 3)
    b[:, :2].copy_(a[:, 1:])
    return b


@pytest.mark.parametrize(
    "forward",
    [
        writes_a_column,
        writes_a_view,
        adds_in_place,
        view_after_write,
        writes_under_a_mask,
        zeroes,
        copies,
    ],
    ids=lambda f: f.__name__,
)
def test_in_place_writes_are_functional(forward):
    rewritten(Fn(forward), [x(2, 3)])  # compares with torch


class Stored(nn.Module):
    def __init__(self, persistent: bool):
        super().__init__()
        self.register_buffer("table", torch.tensor([0.5, 2.0]), persistent=persistent)
        self.register_buffer("ids", torch.arange(2), persistent=persistent)

    def forward(self, a):
        return a * self.table[self.ids] + torch.tensor([3.0, 4.0])


def test_small_constants_come_with_their_elements():
    program, _ = imported(Stored(False), x(3, 2))
    np.testing.assert_array_equal(program.parameters["table"].data, [0.5, 2.0])
    np.testing.assert_array_equal(program.parameters["ids"].data, [0, 1])


def test_a_checkpoints_floats_are_never_taken_for_constants():
    """Another checkpoint of the same architecture has others."""
    program, _ = imported(Stored(True), x(3, 2))
    assert program.parameters["table"].data is None
    assert str(program.parameters["table"].recipe) == 'source("table")'


def test_ops_without_a_lowering_are_named_all_at_once():
    def forward(a):
        b = torch.special.bessel_y1(a)
        return b + torch.special.bessel_y1(b) + torch.special.bessel_y0(a)

    with pytest.raises(UnsupportedError) as error:
        program_of(Fn(forward), x(3, 3))
    gaps = {gap.name: gap for gap in error.value.gaps}
    assert gaps["aten.special_bessel_y0.default"].count == 1
    assert gaps["aten.special_bessel_y1.default"].count == 2
    assert "torch.special.bessel_y1(a)" in str(gaps["aten.special_bessel_y1.default"])


def test_a_model_that_branches_on_data_is_refused_with_the_line():
    class Branch(nn.Module):
        def forward(self, a):
            return a if a.sum() > 0 else -a

    with pytest.raises(UnsupportedError, match=r"a if a\.sum\(\) > 0 else -a"):
        export_program(source_of(Branch(), (x(2, 3),)))


def test_weights_alone_are_no_model():
    source = source_of(Net(), (x(2, 4), x(2, 1)))
    source.module = None
    with pytest.raises(InputError, match="holds weights only"):
        export_program(source)


def test_meta_parameters_are_put_back():
    with torch.device("meta"):
        module = Net()
    before = module.linear.weight
    program, _ = imported(module, x(2, 4), x(2, 1))
    assert module.linear.weight is before
    assert before.device.type == "meta"
    assert ops(program)["nn.Linear"] == 1


def test_keyword_inputs_and_defaults():
    class Options(nn.Module):
        def forward(self, a, b=None, scale=2.0):
            return a * scale if b is None else a * scale + b

    program, _ = imported(Options(), x(2, 3))
    assert [value.origin for value in program.inputs] == ["a"]
    program, _ = imported(Options(), kwargs={"b": x(2, 3), "a": x(2, 3)})
    assert {value.origin for value in program.inputs} == {"a", "b"}


def test_any_number_of_inputs_may_have_dynamic_dims():
    class Many(nn.Module):
        def forward(self, *arrays):
            return arrays[0] + arrays[1]

    source = built_source("test", SourceOptions(), "module", "Many", Many(), (x(2, 3), x(2, 3)), {})
    _, notes = export_program(source)
    assert notes == []


def test_sizes_that_the_export_confines_stay_fixed_and_wide_bounds_do_not():
    class Windows(nn.Module):
        def forward(self, a):
            n = a.shape[1] // 4
            return a.reshape(a.shape[0], n, -1, 2).sum() if n == 2 else a.sum()

    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.rand(40, 2))

        def forward(self, a):
            return a + self.weight[: a.shape[1]]

    dims = {"a": {0: "batch", 1: "length"}}
    program, notes = imported(Windows(), x(2, 8, 2), dynamic=dims)
    assert [dim for dim, _ in program.dims.values()] == ["batch"]
    assert notes == [
        "length stayed fixed: the graph holds for sizes near the traced one only ((length // 4) == 2)"
    ]
    program, notes = imported(Table(), x(2, 8, 2), dynamic=dims)
    assert [dim for dim, _ in program.dims.values()] == ["batch", "length"]
    assert notes == []


def test_an_axis_that_a_reshape_drops_has_size_1():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.AvgPool2d(640, ceil_mode=True)

        def forward(self, a):
            return self.pool(a).reshape(a.shape[:2])

    dims = {"a": {0: "batch", 2: "height", 3: "width"}}
    program, _ = imported(Pooled(), x(2, 3, 8, 6), dynamic=dims)
    assert ops(program)["mx.mean"] == 1


def test_a_layer_that_is_moved_to_where_it_is():
    class Router(nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = nn.Linear(4, 3)

        def forward(self, a):
            self.classifier = self.classifier.to(a.dtype)
            return self.classifier(a)

    program, _ = imported(Router(), x(2, 4))
    assert ops(program)["nn.Linear"] == 1


def test_noise_is_refused_with_what_to_do_about_it():
    class Noisy(nn.Module):
        def forward(self, a):
            return a + torch.randn_like(a)

    with pytest.raises(UnsupportedError, match=r"draws random numbers.*torch\.manual_seed"):
        imported(Noisy(), x(2, 4))


class Stream(nn.Module):
    """Goes on where the call before it ended, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.register_buffer("history", torch.zeros(1, 4), persistent=False)
        self.register_buffer("latest", torch.zeros(1, 4))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, a):
        self.calls += 1
        self.latest.copy_(a[:1])  # read after it is written: nothing of the call before is left
        y = a + self.history
        self.history = y[:1]
        return y, self.latest * 2


def test_a_note_tells_which_buffers_carry_state():
    program, _ = imported(Stream(), torch.randn(2, 4))
    assert [note.split()[0] for note in program.notes] == ["history"]


class Hierarchical(nn.Module):
    """Res2Net's branches: parts of one array, with activations in place between their uses."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))
        self.act = nn.ReLU(inplace=True)

    def forward(self, a):
        a = self.act(torch.empty_like(a).copy_(a) * 2)
        parts = torch.split(a, 2, 1)
        first = self.act(self.convs[0](parts[0]))
        return torch.cat([first, self.act(self.convs[1](first + parts[1]))], 1)


def test_parts_that_torch_takes_anew_after_a_write_are_split_once():
    program, _ = imported(Hierarchical(), torch.randn(1, 4, 5, 5))
    assert ops(program)["mx.split"] == 1


class Promoted(nn.Module):
    def forward(self, a):
        wide = functools.reduce(torch.promote_types, (a.dtype, torch.bfloat16, torch.float32))
        return (a.to(wide) * 2).to(a.dtype)


def test_promoted_types_are_worked_out():
    program, _ = imported(Promoted(), torch.randn(2, 4).half())
    assert [node.output.dtype for node in program.nodes] == ["float32", "float32", "float16"]
