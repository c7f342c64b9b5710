"""Sizes as expressions over the axes of arrays in reach, of which there may be many."""

from types import SimpleNamespace

import pytest
import sympy

from porter.emit import measured
from porter.emit.measured import Measured
from porter.ir import Value

N, H, W = sympy.symbols("n h w", positive=True, integer=True)


def reader(monkeypatch) -> tuple[Measured, list[int]]:
    """A Measured over one instance, and how many expressions it has compared."""
    dims = SimpleNamespace(
        vector=lambda value, axis: {0: value.shape[axis]},
        find=lambda *_: None,
        name=lambda value, axis, _: f"{value.name}{axis}",
    )
    compared, plain = [0], measured.simplify

    def counting(size):
        compared[0] += 1
        return plain(size)

    monkeypatch.setattr(measured, "simplify", counting)
    return Measured(dims, set), compared


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (H, "b1 // a0"),
        (W // 4, "b0 // 4"),
        (N * W, "a0 * b0"),
        (N + W, "a0 + b0"),
        (W - N, "b0 - a0"),
        (N - 2, "a0 - 2"),
    ],
)
def test_expressions_over_axes(monkeypatch, size, text):
    arrays = [Value((N, 4), "float32", name="a"), Value((W, H * N), "float32", name="b")]
    found = reader(monkeypatch)[0].text({0: size}, arrays)
    assert found is not None
    assert found.code == text


def test_pairs_of_many_axes_are_not_all_compared(monkeypatch):
    arrays = [Value((N + 2 * i, H + 3 * i), "float32", name=f"a{i}x") for i in range(150)]
    found, compared = reader(monkeypatch)
    assert found.text({0: N + H + 7 * W}, arrays) is None
    assert compared[0] < 5000


def test_a_number_is_no_axis_that_happens_to_have_its_size(monkeypatch):
    image = Value((N, 16, H), "float32", name="x")
    table = Value((1, 16), "float32", name="t", path="table")
    found = reader(monkeypatch)[0].text({0: 16 / H}, [image], real=True)
    assert found is not None
    assert found.code == "16 / x2"
    found = reader(monkeypatch)[0].text({0: 16 / H}, [image, table], real=True)
    assert found is not None
    assert found.code == "t1 / x2"
