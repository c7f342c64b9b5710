"""mapping.toml round-trips whatever names and configs there are, and refuses what is not one."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from porter.errors import InputError
from porter.weights import recipes as r
from porter.weights.mapping import Mapping
from porter.weights.toml_text import toml

RECIPES = {
    "layer1.layers.0.conv1.weight": r.permute(r.source("layer1.0.conv1.weight"), [0, 2, 3, 1]),
    "a\"b'c\\d\n\0\x7f\x85\u2028😀": r.source("x\"'\\\n\0\ud800"),
    "": r.cast(r.source(""), "float32"),
    "[x]\n[tensors]": r.source("'''"),
}
CONFIG = {
    "depths": [3, 4, 6, 3],
    "eps": 1e-5,
    "big": 1e16,
    "inf": float("inf"),
    "act": "gelu",
    "none": None,
    "rope": {"type": "yarn", "factor": 4.0, "x y": None},
    "nested": {"a": {"b": [1, "q'"]}},
    "flag": True,
    "many words": -0.0,
}

text = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(text, v, max_size=3),
    max_leaves=6,
)


def test_round_trip(tmp_path):
    mapping = Mapping("timm:x", RECIPES, CONFIG, {"num_batches_tracked\n": 'counter, "unused"'})
    mapping.save(tmp_path / "mapping.toml")
    assert Mapping.load(tmp_path / "mapping.toml") == mapping


def test_looks_as_documented(tmp_path):
    Mapping("x", {"a.weight": r.permute(r.source("b.weight"), [1, 0])}).save(tmp_path / "m.toml")
    assert (
        '"a.weight" = \'permute(source("b.weight"), [1, 0])\'' in (tmp_path / "m.toml").read_text()
    )


@given(st.dictionaries(text, plain), st.dictionaries(text, text), text)
def test_any_content(tmp_path_factory, config, ignored, name):
    path = tmp_path_factory.mktemp("m") / "mapping.toml"
    mapping = Mapping(name, {name: r.source(name)}, config, ignored)
    mapping.save(path)
    assert Mapping.load(path) == mapping


@given(st.dictionaries(text, text | st.dictionaries(text, text)))
def test_toml_is_what_tomllib_reads(tables):
    assert tomllib.loads(toml(tables)) == tables


def test_half_a_surrogate_pair_is_refused(tmp_path):
    with pytest.raises(InputError, match="Unicode"):
        Mapping("x", {"\ud800": r.source("a")}).save(tmp_path / "m.toml")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[",
        "schema = 2\nsource = 'x'\n[tensors]",
        "schema = 1\n[tensors]",
        "schema = 1\nsource = 3\n[tensors]",
        "schema = 1\nsource = 'x'",
        "schema = 1\nsource = 'x'\ntensors = 3",
        "schema = 1\nsource = 'x'\n[tensors]\na = 3",
        "schema = 1\nsource = 'x'\n[tensors]\na = 'eval(\"1\")'",
        "schema = 1\nsource = 'x'\n[tensors]\n[config_json]\na = '['",
        "schema = 1\nsource = 'x'\n[tensors]\n[config_json]\na = 3",
        "schema = 1\nsource = 'x'\n[tensors]\n[ignored]\na = 3",
        "schema = 1\nsource = 'x'\na = " + "[" * 5000,
    ],
)
def test_what_is_not_a_mapping(tmp_path, content):
    (tmp_path / "m.toml").write_text(content)
    with pytest.raises(InputError):
        Mapping.load(tmp_path / "m.toml")


def test_missing_and_binary_files(tmp_path):
    (tmp_path / "m.toml").write_bytes(b"\xff\xfe")
    for name in ("m.toml", "none.toml"):
        with pytest.raises(InputError):
            Mapping.load(tmp_path / name)
