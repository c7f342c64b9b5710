"""Reading images at computed places."""

import mlx.core as mx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from lowering.check import Case, check, rows

from porter.functions.sampling import grid_sample
from tests.random_modules.parity import to_mlx

IMAGE, VOLUME = (2, 3, 5, 6), (2, 3, 4, 5, 6)


def sampled(mode: str, padding: str, align: bool):
    return lambda x, grid: F.grid_sample(x, grid, mode, padding, align)


CASES = [
    *(
        Case(
            f"{mode}-{padding}-{align}", sampled(mode, padding, align), [IMAGE, (2, 4, 7, 2)], n=30, kappa=40,
            probes=(1.0, 8.0),
        )
        for mode in ("bilinear", "nearest", "bicubic")
        for padding in ("zeros", "border", "reflection")
        for align in (False, True)
    ),
    Case("volume", sampled("bilinear", "reflection", False), [VOLUME, (2, 3, 4, 5, 3)], n=30, kappa=40, probes=(1.0,)),
    Case("sizes", sampled("bilinear", "zeros", False), [IMAGE, (2, 4, 7, 2)], axes=(2, 3), n=30, kappa=40, probes=(1.0,)),
    Case("affine-grid", lambda t: F.affine_grid(t, (2, 3, 5, 6), align_corners=False), [(2, 2, 3)], n=3),
    Case("affine-grid-corners", lambda t: F.affine_grid(t, (2, 3, 5, 1), align_corners=True), [(2, 2, 3)], n=3),
    Case("affine-grid-volume", lambda t: F.affine_grid(t, (2, 3, 4, 5, 6), align_corners=False), [(2, 3, 4)], n=4),
]  # fmt: skip


def test_places_that_are_no_number():
    """As maps of one row give them, where the author divides by what is between the first and the last."""
    image, grid = torch.randn(1, 2, 1, 3), torch.zeros(1, 1, 3, 2)
    grid[..., 1] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    found = grid_sample(to_mlx(image.permute(0, 2, 3, 1)), to_mlx(grid))
    assert bool(mx.isnan(found).all()) == bool(F.grid_sample(image, grid).isnan().all()) is True


@pytest.mark.parametrize("case", rows(CASES))
def test_sampling(case):
    torch.manual_seed(0)
    check(case)
