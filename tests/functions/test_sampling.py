"""Resizing along one axis, counted from either end."""

import mlx.core as mx
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from porter.functions.sampling import resize_cubic, resize_linear
from tests.random_modules.parity import check_source, port_of


@pytest.mark.parametrize(
    ("resize", "mode"), [(resize_linear, "bilinear"), (resize_cubic, "bicubic")]
)
def test_an_axis_may_be_counted_from_the_end(resize, mode):
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    expected = interpolate(x, size=(4, 9), mode=mode)
    found = resize(resize(mx.array(x.numpy()), 4, axis=-2), 9, axis=-1)
    assert found.shape == (2, 3, 4, 9)
    assert np.allclose(np.array(found), expected.numpy(), atol=1e-5)


class _Masks(torch.nn.Module):
    """A mask for each query, which no layer has its channels last for."""

    def forward(self, queries, pixels):
        masks = torch.einsum("bqc,bchw->bqhw", queries, pixels)
        return interpolate(masks, size=(4, 9), mode="bilinear").sigmoid()


def test_masks_of_queries_are_resized_over_their_last_axes():
    inputs = [torch.randn(2, 3, 8), torch.randn(2, 8, 5, 6)]
    ported = port_of(_Masks, inputs)
    ported.check(*inputs)
    check_source(ported.port.model_py)
