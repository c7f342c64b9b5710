"""The whole conversion of each golden model: proven, at other batches and sizes, and the same when compiled."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import torch

import porter
from porter.artifact import read_facts
from porter.sources import SourceOptions, resolve
from tests.golden import sources
from tests.random_modules.parity import flat, to_mlx

pytestmark = pytest.mark.slow
SPEC = f"{Path(sources.__file__)}:"
#: Of the largest element of the float32 reference; deep nets at 224 lose some of float32's digits on both sides.
RELATIVE = 2e-4


@pytest.fixture(scope="module", params=sources.NAMES)
def converted(request, tmp_path_factory) -> tuple[str, porter.convert.__class__, Path]:
    out = tmp_path_factory.mktemp("converted") / request.param
    return request.param, porter.convert(f"{SPEC}{request.param}", out), out


def test_the_proof_passes(converted):
    _, conversion, _ = converted
    report = conversion.report.to_dict()
    assert conversion.verdict == "pass", (report["culprits"], report["uncompared"])
    assert report["compile"]["equal"]
    assert all(module["verdict"] == "pass" for module in report["modules"])


def test_compiled_is_the_same(converted):
    name, _, out = converted
    inputs = arrays(name, out, {})
    plain, compiled = porter.load(out)(*inputs), porter.load(out, compiled=True)(*inputs)
    for first, second in zip(values(plain), values(compiled), strict=True):
        assert first.shape == second.shape
        worst = mx.abs(first - second).max().item()
        assert worst <= 1e-5 * mx.abs(first).max().item()


@pytest.mark.parametrize(
    "dims", [{"batch": 3}, {"batch": 1}, {"length": 7}, {"height": 256, "width": 192}], ids=str
)
def test_other_sizes(converted, dims):
    name, _, out = converted
    facts = read_facts(out)
    named = {size for row in facts.inputs for size in row["shape"] if isinstance(size, str)}
    if not set(dims) <= named:
        pytest.skip(f"{name} has no {'or '.join(set(dims) - named)} to change")
    source = resolve(f"{SPEC}{name}", SourceOptions())
    tensors = resized(name, out, dims)
    with torch.no_grad():
        reference = flat(
            source.materialize()(*tensors[: len(source.args)], **keywords(source, tensors))
        )
    result = values(porter.load(out)(*arrays(name, out, dims)))
    for row, array, expected in zip(facts.outputs, result, reference, strict=True):
        truth = expected.permute(row["permute"]).numpy() if row["permute"] else expected.numpy()
        assert array.shape == truth.shape
        assert np.abs(np.array(array) - truth).max() <= RELATIVE * np.abs(truth).max()


def test_the_batch_may_change(converted):
    """What the other tests skip for want of a named dim, this one misses."""
    _, _, out = converted
    assert all(row["shape"][0] == "batch" for row in read_facts(out).inputs)


def keywords(source, tensors) -> dict[str, torch.Tensor]:
    return dict(zip(source.kwargs, tensors[len(source.args) :], strict=True))


def resized(name: str, out: Path, dims: dict[str, int]) -> list[torch.Tensor]:
    """The factory's inputs, repeated and cut to the wanted sizes, in torch's layout."""
    source = resolve(f"{SPEC}{name}", SourceOptions())
    tensors = [*source.args, *source.kwargs.values()]
    result = []
    for row, tensor in zip(read_facts(out).inputs, tensors, strict=True):
        axes = row["permute"] or list(range(tensor.ndim))
        for stored, size in enumerate(row["shape"]):
            if size in dims:
                axis = axes[stored]
                copies = -(-dims[size] // tensor.shape[axis])
                tensor = torch.cat([tensor] * copies, axis).narrow(axis, 0, dims[size])
        result.append(tensor)
    return result


def arrays(name: str, out: Path, dims: dict[str, int]) -> list[mx.array]:
    rows = read_facts(out).inputs
    tensors = resized(name, out, dims)
    return [
        to_mlx(t.permute(row["permute"]) if row["permute"] else t)
        for row, t in zip(rows, tensors, strict=True)
    ]


def values(result) -> list[mx.array]:
    if isinstance(result, mx.array):
        return [result]
    return list(result.values() if isinstance(result, dict) else result)
