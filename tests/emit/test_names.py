"""Names from outside: none reaches the source as code, none hides what nn.Module has."""

from __future__ import annotations

import ast
import builtins
import keyword

import mlx.nn as nn
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from porter.emit.names import class_name, identifier, unique, variable, words
from porter.loading import model_args
from tests.passes.programs import x
from tests.random_modules.parity import check_source, port_of, to_mlx

HOSTILE = (
    'a"b',
    "a'b",
    'a"""b',
    "a\nimport os",
    "a\\",
    "a; import os",
    "a)(",
    "{evil}",
    "%s",
    "naïve",
    "名前",
    "a b",
    "a-b",
    "#a",
    "1a",
    "__init__",
    "__class__",
    "_",
    "",
    *keyword.kwlist,
)
MODULE_NAMES = sorted(name for name in dir(nn.Module) if not name.startswith("_"))


@pytest.mark.parametrize("name", [*HOSTILE, *MODULE_NAMES])
def test_an_identifier_is_one_and_hides_nothing(name):
    found = identifier(name)
    assert found.isidentifier()
    assert found.isascii()
    assert not keyword.iskeyword(found)
    assert found not in MODULE_NAMES
    assert not found.startswith("_")


@given(st.text(max_size=20))
def test_any_text_becomes_an_identifier(name):
    for found in (identifier(name), class_name(name)):
        assert found.isidentifier()
        assert found.isascii()
        assert not keyword.iskeyword(found)
    assert identifier(identifier(name)) == identifier(name)
    assert class_name(name)[0].isupper() or not class_name(name)[0].isalpha()


@given(st.from_regex(r"[a-z][a-z0-9_]*[a-z0-9]", fullmatch=True))
def test_good_names_stay(name):
    if (
        name not in MODULE_NAMES
        and not keyword.iskeyword(name)
        and name not in ("self", "mx", "nn", "args")
    ):
        assert identifier(name) == name


@given(st.lists(st.sampled_from(["a", "b", "aB"]), max_size=80))
def test_unique_names_are(names):
    taken: set[str] = set()
    found = [unique(name, taken) for name in names]
    assert len(set(found)) == len(found)
    assert taken == set(found)


@given(
    st.one_of(
        st.none(),
        st.text(max_size=6),
        st.sampled_from(["add_3", "x", "list", "class", "self", "update"]),
    )
)
def test_a_variable_is_free_plain_and_no_trace_s(hint):
    taken = {"x", "y"}
    found = variable(hint, taken, ("x", "y", "h"))
    assert found.isidentifier()
    assert found not in taken
    assert not hasattr(builtins, found)
    assert found not in MODULE_NAMES
    assert found != "add_3"


def test_a_variable_is_found_when_all_are_taken():
    taken: set[str] = set()
    for _ in range(800):
        name = variable("x", taken, ("x",))
        assert name not in taken
        taken.add(name)


def test_words_spell_out_short_forms():
    assert words("in_channels") == words("in_chans")
    assert words("numHeads") == words("num_heads")


# ------------------------------------------------------------------------------------------------- through the whole road


class Named(torch.nn.Module):
    """Submodules and parameters under a name that a checkpoint may have."""

    def __init__(self, name: str):
        super().__init__()
        self.add_module(name, torch.nn.Linear(3, 4))
        self.add_module("block", torch.nn.Module())
        self.block.register_parameter(name, torch.nn.Parameter(torch.rand(4)))
        self.name = name

    def forward(self, a):
        return getattr(self, self.name)(a) * getattr(self.block, self.name)


#: torch itself refuses dots and the empty name, and names that its Module has.
NAMES = [
    name
    for name in (
        *HOSTILE,
        "update",
        "items",
        "keys",
        "get",
        "pop",
        "freeze",
        "weight",
        "args",
        "mx",
        "nn",
        "self",
        "x",
        "a",
    )
    if name and not hasattr(torch.nn.Module(), name)
]


@pytest.mark.parametrize("name", NAMES)
def test_modules_and_parameters_of_any_name(name):
    result = port_of(lambda: Named(name), (x(2, 3),))
    result.check(x(2, 3))
    check_source(result.port.model_py)
    names = {n.id for n in ast.walk(ast.parse(result.port.model_py)) if isinstance(n, ast.Name)}
    assert not names & {"os", "evil"}


def test_two_names_that_become_one_identifier():
    class Twins(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("a-b", torch.nn.Linear(3, 3))
            self.add_module("a_b", torch.nn.Linear(3, 3))

        def forward(self, a):
            return getattr(self, "a-b")(self.a_b(a))

    port_of(Twins, (x(2, 3),)).check(x(2, 3))


def test_names_of_inputs_and_outputs():
    class Keywords(torch.nn.Module):
        def forward(self, mx, nn, args, list):  # noqa: A002
            return {"update": mx + nn, "class": args * list, "mx": mx - args}

    arrays = tuple(x(2, 3, seed=seed) for seed in range(4))
    result = port_of(Keywords, arrays)
    result.check(*arrays)
    assert [row["name"] for row in result.port.outputs] == ["update", "class", "mx"]


KEYS = {
    "quote": 'a"b',
    "newline": "x\ny",
    "backslash": "a\\",
    "code": 'a": 1 / 0, "b',
    "unicode": "名前",
}


@pytest.mark.parametrize("key", [pytest.param(k, id=i) for i, k in KEYS.items() if i != "unicode"])
def test_keys_of_outputs_are_data(key):
    _check_key(key)


def test_keys_of_outputs_may_be_of_any_script():
    _check_key(KEYS["unicode"])


def _check_key(key: str) -> None:
    class Returns(torch.nn.Module):
        def forward(self, a):
            return {key: a + 1, "other": a * 2}

    result = port_of(Returns, (x(2, 3),))
    result.check(x(2, 3))
    assert list(result.model(to_mlx(x(2, 3)))) == [key, "other"]
    check_source(result.port.model_py)


class Evil(torch.nn.Module):
    def forward(self, a):
        return a + 1


Evil.__name__ = Evil.__qualname__ = 'Evil"""\nimport os\nos.abort()\n"""'


def test_a_class_s_name_is_data():
    result = port_of(Evil, (x(2, 3),))
    result.check(x(2, 3))
    check_source(result.port.model_py)


def test_a_config_s_strings_are_data():
    from porter.compile import compile_port
    from porter.sources import SourceOptions
    from porter.sources.built import built_source

    source = built_source(
        's"""\nimport os',
        SourceOptions(),
        "module",
        'n"""\nimport os',
        torch.nn.Linear(3, 4),
        (x(2, 3),),
        {},
    )
    source.config = {
        "model_type": 'evil"\nimport os',
        "hidden_size": 4,
        "__class__": 3,
        "update": 4,
        "mx": 3,
        "self": 4,
    }
    port = compile_port(source)
    check_source(port.model_py)
    space: dict = {"__name__": "emitted"}
    import sys
    import types

    sys.modules["emitted"] = types.ModuleType("emitted")
    try:
        exec(port.model_py, space)
    finally:
        del sys.modules["emitted"]
    assert "os" not in space
    assert space["Model"](model_args(space["ModelArgs"], port.config))
