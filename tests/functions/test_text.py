"""The functions that emitted files hold: found by name, each after what it calls, with its imports."""

import subprocess
import sys

import pytest

from porter.functions import function, texts
from porter.functions.text import _table
from porter.style import check


def test_callees_come_first():
    names = [text.name for text in texts({"grid_sample"})]
    assert names.index("cells_of") < names.index("grid_sample")
    assert "cubic_weights" not in names


def test_imports_are_those_used():
    (text,) = texts({"inside_image"})
    assert text.imports == ("import mlx.core as mx",)


def test_an_unknown_name_raises():
    with pytest.raises(KeyError):
        function("no such function")


def test_functions_stand_alone():
    """What an emitted file holds of a function names nothing that it does not hold, and says what it does."""
    for name in _table():
        found = texts({name})
        lines = sorted({line for text in found for line in text.imports})
        source = "\n".join([*lines, *(text.source for text in found)])
        done = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F", "-"],
            input=source, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{name}: {done.stdout}"
        assert function(name).__doc__, name


def test_what_waits_for_the_host_says_why():
    """A function whose result's size depends on the data says so on the line, for those who read an emitted file."""
    for name in _table():
        source = "\n".join(text.source for text in texts({name}))
        assert not check(source, only=("S2",)), name
