"""What a source does for one picture is done for each: against the same function called picture by picture."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

from porter.sources.one_picture import NotOnePicture, of_every_picture

TABLE = torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
ORDER = torch.tensor([5, 2, 0, 11, 3])
KERNEL = torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(2))
POOLING = torch.nn.MultiheadAttention(6, 2, batch_first=True).requires_grad_(False)

#: Of a batch of one picture, (1, 3, 4, 6).
PIXELS = {
    "conv": lambda x: F.conv2d(x, KERNEL, stride=2).flatten(2).transpose(1, 2),
    "tokens": lambda x: torch.cat([TABLE[None, :2, :6], F.conv2d(x, KERNEL, stride=2).flatten(2).mT], dim=1),
    "loop": lambda x: torch.cat([one.flatten(1).T for one in x], dim=0),
    "cut": lambda x: x[0][:, 1:-1, ::2],
    "tiles": lambda x: x.view(1, 3, 2, 2, 3, 2).permute(0, 2, 4, 1, 3, 5).reshape(6, 3, 2, 2),
    "conv of tiles": lambda x: F.conv2d(
        x.view(1, 3, 2, 2, 3, 2).permute(0, 2, 4, 1, 3, 5).reshape(6, 3, 2, 2), KERNEL
    ),
    "tokens of tiles": lambda x: _tokens(x),
    "newline": lambda x: torch.cat([x[0], TABLE[0, :3, None, None].expand(3, 4, 1)], dim=-1),
    "unfold": lambda x: F.unfold(x, 2, stride=2).view(12, -1).t(),
    "smaller": lambda x: F.interpolate(x, size=(2, 3), mode="bilinear"),
    "pooled": lambda x: POOLING(TABLE[None, :2, :6], x.flatten(2).mT[..., [0, 1, 2] * 2], x.flatten(2).mT.repeat(1, 1, 2))[0],
    "stack": lambda x: torch.stack([x[0, 0], x[0, 1]]),
    "stack in a batch": lambda x: torch.stack([x, -x], dim=1),
    "sum": lambda x: x.sum(dim=(-1, -2)) + x.mean(),
    "written": lambda x: _written(torch.zeros_like(x), x),
    "repeated": lambda x: x.repeat(2, 1, 1, 1) * x[:, :1],
    "new axis": lambda x: x[:, None] + TABLE[:4, :6],
    "padding": lambda x: x[(x == 0).sum((1, 2, 3)) != x[0].numel()],
    "mask of padding": lambda x: torch.ones(1, 4)[(x == 0).sum((1, 2, 3)) != x[0].numel()] + x[0, 0, :, 0],
    "count": lambda x: torch.split(x.flatten(0, 1), [int((x != 0).all((1, 2, 3)).sum()), 2])[1],
}  # fmt: skip
#: Of a picture that is a row of 12 patches of 8 features.
PATCHES = {
    "scaled": lambda x: x * TABLE + 1.0,
    "normed": lambda x: F.layer_norm(x, (8,)) / x.norm(2, dim=-1, keepdim=True),
    "order": lambda x: x[ORDER] + x[torch.tensor([True] * 5 + [False] * 7)],
    "all": lambda x: x.unsqueeze(0)[torch.ones(1, 12, dtype=torch.bool)],
    "some": lambda x: (
        x.unsqueeze(0)[torch.arange(12)[None] % 3 > 0] + x[torch.ones(12, dtype=torch.bool)][:8]
    ),
    "groups": lambda x: x.reshape(3, 4, 8)[torch.tensor([2, 0, 1]), :, :].reshape(12, 8),
    "split": lambda x: torch.cat([part.mean(0, keepdim=True) for part in x.split([5, 7])]),
    "batch": lambda x: F.linear(x.unsqueeze(0), TABLE).squeeze(0).softmax(dim=-1),
    "first axis": lambda x: x.softmax(dim=0).cumsum(0).flip(0),
    "attention": lambda x: _attention(x),
    "attention with a bias": lambda x: (
        _biased(x.unsqueeze(0))[0] + _biased(x.view(2, 6, 8)).flatten(0, 1)
    ),
    "windows": lambda x: _attention(x.view(3, 4, 8), heads=True),
    "product": lambda x: (x @ TABLE.T) @ x,
    "einsum": lambda x: (
        torch.einsum("bpc, dc -> bpd", x[None], TABLE)[0] + torch.einsum("pc,qc->pq", x, x)
    ),
    "chunks": lambda x: torch.cat(x.chunk(2, dim=-1)[::-1], dim=0),
    "positions": lambda x: x + TABLE[torch.arange(12).flip(0)] * torch.linspace(0, 1, 12)[:, None],
    "every other": lambda x: x[..., ::2].repeat_interleave(2, dim=0).unflatten(0, (2, -1)),
}


def _tokens(x):
    """A tower of the six tiles of a picture: samples from the first convolution on."""
    tiles = x.view(1, 3, 2, 2, 3, 2).permute(0, 2, 4, 1, 3, 5).reshape(6, 3, 2, 2)
    tokens = F.conv2d(tiles, KERNEL[:4, :, :1, :1]).flatten(2).mT
    begin = TABLE[:1, None, :4].expand(6, 1, 4)
    tokens = torch.cat([begin, tokens, TABLE[:6, None, :4]], dim=1)[:, :, ::2]
    tokens = (
        F.layer_norm(tokens + TABLE[:6, :2], (2,)) * TABLE[:6, None, :1]
        + tokens.view(6, 1, 6, 2)[:, 0]
    )
    heads = tokens.unflatten(2, (2, 1)).transpose(1, 2)
    mask = torch.zeros(6, 6) if x.shape[0] == 1 else None
    seen = F.scaled_dot_product_attention(heads, heads @ TABLE[:1, :1], heads, mask)
    return (seen @ seen.mT @ TABLE[:6, :2]).expand(6, 2, 6, 2)[1:].sum(1).repeat(1, 2, 1)


def _written(target, x):
    target[:, :, 1:3] = x[:, :, :2]
    return target


def _biased(x):
    q = x.unflatten(-1, (2, 4)).transpose(1, 2)
    return F.scaled_dot_product_attention(q, -q, q, q @ q.mT).transpose(1, 2).flatten(2)


def _attention(x, heads=False):
    q = x.unflatten(-1, (2, 4)).transpose(-3, -2)
    q = q if heads else q.unsqueeze(0)
    return F.scaled_dot_product_attention(q, -q, q).transpose(1, 2).flatten(2)


def _one_by_one(function, pixels):
    found = [function(picture) for picture in pixels]
    return torch.cat([x.reshape(1) if x.ndim == 0 else x for x in found])


def _assert_same(found, truth):
    """Up to the rounding of sums in another order, relative to the whole."""
    assert found.shape == truth.shape
    assert (found - truth).norm() <= 1e-6 * truth.norm()


@pytest.mark.parametrize("name", PIXELS)
def test_a_batch_of_one_picture(name):
    pixels = torch.randn(5, 3, 4, 6)
    found = of_every_picture(PIXELS[name], pixels, (1, 3, 4, 6))
    _assert_same(found, _one_by_one(PIXELS[name], pixels[:, None]))


@pytest.mark.parametrize("name", PATCHES)
def test_a_row_of_patches(name):
    pixels = torch.randn(5, 12, 8)
    found = of_every_picture(PATCHES[name], pixels, (12, 8))
    _assert_same(found, _one_by_one(PATCHES[name], pixels))


def test_a_condition_that_is_the_same_everywhere_chooses_once():
    """Padding that no picture of this size has."""

    class Seen(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            names.append(func.__name__)
            return func(*args, **(kwargs or {}))

    def function(x, padding):
        x = x.masked_fill(padding[..., None], 0.0)
        return torch.where(padding[:, None], torch.nn.Parameter(TABLE) * 0.0, x)

    names = []
    with Seen():
        of_every_picture(function, torch.randn(5, 12, 8), (12, 8), padding=[False] * 12)
        assert not {"where", "masked_fill"} & {*names}
        of_every_picture(function, torch.randn(5, 12, 8), (12, 8), padding=[False] * 11 + [True])
    assert {"where", "masked_fill"} <= {*names}


def test_sizes_are_numbers():
    def function(x, grid):
        rows, columns = grid[0].tolist()
        ends = F.pad(grid.prod(-1).cumsum(0), (1, 0))
        return x[ends[0] : ends[1]].view(rows, grid[0, 1], -1)[:, : columns - 1]

    pixels = torch.randn(5, 12, 8)
    found = of_every_picture(function, pixels, (12, 8), grid=[[3, 4]])
    torch.testing.assert_close(found, pixels.view(15, 4, 8)[:, :3])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[x.sum(-1) > 0],  # as many rows as a picture has bright ones
        lambda x: x if F.linear(x, torch.nn.Parameter(TABLE.clone())).sum() > 0 else -x,
        lambda x: torch.nonzero(x),
        lambda x: torch.fft.fft(x),
    ],
)
def test_what_depends_on_a_picture_is_refused(function):
    with pytest.raises(NotOnePicture):
        of_every_picture(function, torch.randn(5, 12, 8), (12, 8))
