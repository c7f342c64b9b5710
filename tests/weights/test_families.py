"""Checkpoint names for module names: prefixes and legacy names, never a guess between two."""

import pytest

from porter.weights.families import FOLDERS, RULES_FILE, rename, rules


@pytest.mark.parametrize(
    ("keys", "wanted", "found"),
    [
        (["a.w", "b.w"], ["b.w", "a.w"], {"a.w": "a.w", "b.w": "b.w"}),
        (["bert.a.w", "bert.b.w", "cls.x"], ["a.w", "b.w"], {"a.w": "bert.a.w", "b.w": "bert.b.w"}),
        (["a.w", "b.w"], ["bert.a.w", "bert.b.w", "cls.x"], {"bert.a.w": "a.w", "bert.b.w": "b.w"}),
        (["m.model.a", "m.model.b"], ["a", "b"], {"a": "m.model.a", "b": "m.model.b"}),
        (
            ["n.gamma", "n.beta"],
            ["n.weight", "n.bias"],
            {"n.weight": "n.gamma", "n.bias": "n.beta"},
        ),
        (["bert.n.gamma"], ["n.weight"], {"n.weight": "bert.n.gamma"}),
        (["n.gamma"], ["bert.n.weight"], {"bert.n.weight": "n.gamma"}),
        (["gamma"], ["weight"], {"weight": "gamma"}),
        (["ls1.gamma"], ["ls1.gamma"], {"ls1.gamma": "ls1.gamma"}),
        (
            ["c.weight_g", "c.weight_v"],
            ["c.parametrizations.weight.original0", "c.parametrizations.weight.original1"],
            {
                "c.parametrizations.weight.original0": "c.weight_g",
                "c.parametrizations.weight.original1": "c.weight_v",
            },
        ),
        (["n.gamma", "n.weight"], ["n.weight"], {"n.weight": "n.weight"}),
        (["a.w"], ["b.w"], {}),
        (["x.w", "y.w"], ["w"], {}),
        (["a", "bert.b"], ["a", "b"], {"a": "a", "b": "bert.b"}),
        ([], ["a"], {}),
        (["a"], [], {}),
    ],
)
def test_rename(keys, wanted, found):
    assert rename(keys, wanted) == found
    assert list(rename(keys, wanted)) == [name for name in wanted if name in found]


def test_no_key_serves_two_names():
    found = rename(["bert.a", "bert.a.a"], ["a", "a.a"])
    assert len(set(found.values())) == len(found)


def test_rules_come_from_the_data_file():
    assert any((folder / RULES_FILE).is_file() for folder in FOLDERS)
    assert [rule.match.pattern for rule in rules()][:2] == [r"(.*\.)?gamma", r"(.*\.)?beta"]
