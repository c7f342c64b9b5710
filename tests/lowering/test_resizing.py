"""Interpolation, sliding windows, and writes into copies against torch."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from lowering.check import Case, bools, check, integers, rows
from lowering.evaluate import lower

from porter.errors import UnsupportedError

IMAGE = (2, 3, 6, 7)


def resize(**options):
    return lambda x: F.interpolate(x, **options)


# The weights are differences of float32 coordinates, which the float64 reference has exactly.
RESIZING = [
    Case("nearest-2", resize(scale_factor=2), [IMAGE], axes=(0, 2, 3)),
    Case("nearest-uneven", resize(scale_factor=(3, 2)), [IMAGE]),
    Case("nearest-1d", resize(scale_factor=2), [(2, 3, 5)], axes=(0, 2)),
    Case("nearest-3d", resize(scale_factor=2), [(1, 2, 3, 4, 5)]),
    Case("nearest-size", resize(size=(10, 4)), [IMAGE], axes=(0, 2, 3)),
    Case("nearest-fraction", resize(scale_factor=1.7), [IMAGE]),
    Case("nearest-exact", resize(size=(10, 4), mode="nearest-exact"), [IMAGE]),
    Case("bilinear-2", resize(scale_factor=2, mode="bilinear"), [IMAGE], axes=(0, 2, 3), kappa=3),
    Case(
        "bilinear-2-corners",
        resize(scale_factor=2, mode="bilinear", align_corners=True),
        [IMAGE],
        axes=(0, 2),
        kappa=3,
    ),
    Case("bilinear-size", resize(size=(10, 4), mode="bilinear"), [IMAGE], axes=(0, 2, 3), kappa=3),
    Case(
        "bilinear-corners",
        resize(size=(11, 4), mode="bilinear", align_corners=True),
        [IMAGE],
        axes=(0, 2),
        kappa=3,
    ),
    Case(
        "bilinear-one", resize(size=(1, 4), mode="bilinear", align_corners=True), [IMAGE], kappa=3
    ),
    Case("bilinear-cell", resize(size=(5, 4), mode="bilinear"), [(2, 3, 1, 1)]),
    Case("bicubic-cell", resize(size=(5, 4), mode="bicubic", align_corners=True), [(2, 3, 1, 1)]),
    Case("nearest-cell", resize(scale_factor=3), [(2, 3, 1)]),
    Case("bilinear-fraction", resize(scale_factor=1.7, mode="bilinear"), [IMAGE], kappa=3),
    Case(
        "bilinear-half", resize(scale_factor=0.5, mode="bilinear"), [IMAGE], axes=(0, 2, 3), kappa=3
    ),
    Case("bilinear-same", resize(size=(6, 7), mode="bilinear"), [IMAGE]),
    Case("linear", resize(size=9, mode="linear"), [(2, 3, 5)], kappa=3),
    Case("trilinear", resize(size=(5, 4, 9), mode="trilinear"), [(1, 2, 3, 4, 5)], kappa=3),
    Case("bicubic-2", resize(scale_factor=2, mode="bicubic"), [IMAGE], axes=(0, 2, 3), kappa=4),
    Case("bicubic-size", resize(size=(9, 5), mode="bicubic"), [IMAGE], axes=(0, 2, 3), kappa=4),
    Case(
        "bicubic-corners", resize(size=(9, 5), mode="bicubic", align_corners=True), [IMAGE], kappa=4
    ),
    Case("bicubic-fraction", resize(scale_factor=1.3, mode="bicubic"), [IMAGE], kappa=4),
    Case(
        "bilinear-antialias", resize(size=(4, 9), mode="bilinear", antialias=True), [IMAGE], kappa=4
    ),
    Case(
        "bicubic-antialias",
        resize(size=(4, 9), mode="bicubic", antialias=True),
        [IMAGE],
        axes=(0, 2),
        kappa=4,
    ),
    Case(
        "bicubic-antialias-3",
        resize(size=(2, 21), mode="bicubic", antialias=True),
        [IMAGE],
        kappa=4,
    ),
]
WINDOWS = [
    Case("unfold", lambda x: x.unfold(2, 3, 2), [IMAGE], axes=(0, 2)),
    Case("unfold-side-by-side", lambda x: x.unfold(2, 3, 3), [IMAGE]),
    Case("im2col", lambda x: F.unfold(x, 3, padding=1), [IMAGE], axes=(0, 2)),
    Case("im2col-strided", lambda x: F.unfold(x, (2, 3), 2, (0, 1), (2, 1)), [IMAGE]),
    Case("im2col-patches", lambda x: F.unfold(x, 2, stride=2), [(2, 3, 6, 8)]),
    Case("col2im", lambda x: F.fold(x, (5, 6), 3, padding=1), [(2, 18, 30)]),
    Case("col2im-strided", lambda x: F.fold(x, (6, 7), (2, 3), 2, (0, 1), (2, 1)), [(2, 12, 10)]),
    Case("col2im-apart", lambda x: F.fold(x, (7, 8), 2, stride=3), [(2, 12, 6)]),
    Case("col2im-patches", lambda x: F.fold(x, (6, 8), 2, stride=2), [(2, 12, 12)]),
]
X = (2, 3, 5)


def write(place, value):
    def function(x, *more):
        y = x.clone()
        y[place] = more[0] if more else value
        return y

    return function


WRITES = [
    Case("write-slice", write((slice(None), slice(1, 3)), 2.5), [X], axes=(0,)),
    Case("write-slice-array", write((slice(None), slice(1, 3)), None), [X, (2, 2, 5)]),
    Case("write-select", write((slice(None), 0), 1.0), [X], axes=(0,)),
    Case("write-step", write((Ellipsis, slice(0, None, 2)), None), [X, (2, 3, 3)]),
    Case(
        "write-mask", lambda x, m: torch.index_put(x, [m], torch.tensor(2.0)), [X, bools(2, 3, 5)]
    ),
    Case("write-index", write((slice(None), torch.tensor([2, 0])), None), [X, (2, 2, 5)]),
    Case(
        "scatter",
        lambda x, i, v: x.scatter(1, i, v),
        [X, integers(2, 1, 5, low=0, high=3), (2, 1, 5)],
    ),
    Case("scatter-value", lambda x, i: x.scatter(1, i, 3.0), [X, integers(2, 1, 5, low=0, high=3)]),
    Case("index_copy", lambda x, i, v: x.index_copy(1, i, v), [X, torch.tensor([2, 0]), (2, 2, 5)]),
    Case("index_fill", lambda x, i: x.index_fill(1, i, 3.0), [X, torch.tensor([2, 0])]),
    Case("weight_norm", lambda v, g: torch._weight_norm(v, g, 0), [(4, 3, 5), (4, 1, 1)], n=15),
    Case("fft", lambda x: torch.fft.fftn(x, dim=(1, 2)).real, [X], n=15, kappa=2),
    Case("rfft", lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=-1), n=5, dim=-1), [X], n=15),
]
CASES = RESIZING + WINDOWS + WRITES


def test_an_image_of_integers_is_refused():
    """torch's kernel for bytes rounds weights, which its decomposition does not."""
    module = Case("bytes", lambda x: F.interpolate(x, (7, 9), mode="bilinear"), []).module()
    with pytest.raises(UnsupportedError, match="where torch rounds"):
        lower(module, (torch.randint(0, 255, (1, 2, 4, 5), dtype=torch.uint8),))


@pytest.mark.parametrize("case", rows(CASES))
def test_resizing(case):
    check(case)
