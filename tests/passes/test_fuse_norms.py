"""fuse_norms: RMS norms as T5, Llama and others spell them, and near misses."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from porter.passes.fuse.fuse_norms import fuse_norms
from tests.passes.programs import Fn, ops, piped, rewritten, x
from tests.random_modules.parity import port_of


def t5(a, w):
    variance = a.to(torch.float32).pow(2).mean(-1, keepdim=True)
    return w * (a * torch.rsqrt(variance + 1e-6))


def llama(a, w):
    h = a.to(torch.float32)
    h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-5)
    return w * h.to(a.dtype)


FUSED = {
    "T5": (t5, 1e-6),
    "Llama": (llama, 1e-5),
    "weight behind": (
        lambda a, w: (a * torch.rsqrt(a.square().mean(-1, keepdim=True) + 0.1)) * w,
        0.1,
    ),
    "x * x": (lambda a, w: w * (torch.rsqrt(1e-3 + (a * a).mean(-1, keepdim=True)) * a), 1e-3),
    "axis by its number": (
        lambda a, w: w * (a * torch.rsqrt(a.pow(2).mean(2, keepdim=True) + 1e-6)),
        1e-6,
    ),
    "axis in a tuple": (
        lambda a, w: w * (a * torch.rsqrt(a.pow(2).mean((-1,), keepdim=True) + 1e-6)),
        1e-6,
    ),
}


@pytest.mark.parametrize(("forward", "eps"), FUSED.values(), ids=FUSED)
def test_rms_norms_are_found(forward, eps):
    program, (count,) = rewritten(Fn(forward, torch.rand(6)), [x(2, 5, 6)], fuse_norms)
    assert count == 1
    assert ops(program) == {"nn.RMSNorm": 1}
    assert program.nodes[0].attrs == {"dims": 6, "eps": eps}


NEAR_MISSES = {
    "wrong axis": lambda a, w: w * (a * torch.rsqrt(a.pow(2).mean(1, keepdim=True) + 1e-6)),
    "two axes": lambda a, w: w * (a * torch.rsqrt(a.pow(2).mean((1, 2), keepdim=True) + 1e-6)),
    "first axis": lambda a, w: w * (a * torch.rsqrt(a.pow(2).mean(0, keepdim=True) + 1e-6)),
    "cubes": lambda a, w: w * (a * torch.rsqrt(a.abs().pow(3).mean(-1, keepdim=True) + 1e-6)),
    "a sum": lambda a, w: w * (a * torch.rsqrt(a.pow(2).sum(-1, keepdim=True) + 1e-6)),
    "another's mean": lambda a, w: (
        w * (a.flip(0) * torch.rsqrt(a.pow(2).mean(-1, keepdim=True) + 1e-6))
    ),
    "no epsilon": lambda a, w: w * (a * torch.rsqrt(a.pow(2).mean(-1, keepdim=True))),
    "root of a root": lambda a, w: (
        w * (a * torch.rsqrt((a.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()))
    ),
    "product of two": lambda a, w: (
        w * (a * torch.rsqrt((a * a.flip(0)).abs().mean(-1, keepdim=True) + 1e-6))
    ),
}


@pytest.mark.parametrize("forward", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses_stay_spelled_out(forward):
    program, (count,) = rewritten(Fn(forward, torch.rand(5)), [x(2, 5, 5)], fuse_norms)
    assert count == 0
    assert ops(program)["nn.RMSNorm"] == 0


def test_a_weight_of_one_number_is_no_norm_weight():
    program, (count,) = rewritten(Fn(t5, torch.rand(1)), [x(2, 5, 6)], fuse_norms)
    assert count == 1
    assert ops(program) == {"mx.fast.rms_norm": 1, "*": 1}


def test_norms_without_a_weight_of_their_own():
    """Gemma's weight is stored less 1."""
    program, (count,) = rewritten(
        Fn(
            lambda a, w: a * torch.rsqrt(a.pow(2).mean(-1, keepdim=True) + 1e-6) * (1.0 + w),
            torch.rand(6),
        ),
        [x(2, 5, 6)],
        fuse_norms,
    )
    assert count == 1
    assert ops(program) == {"mx.fast.rms_norm": 1, "+": 1}
    program, (count,) = rewritten(
        lambda a: a / torch.sqrt((a * a).mean(-1, keepdim=True) + 1e-6), [x(2, 5, 6)], fuse_norms
    )
    assert count == 1
    assert ops(program) == {"mx.fast.rms_norm": 1}


def centered(a, axis=-1):
    return a - a.mean(axis, keepdim=True)


LAYERS = {
    "square root": lambda a, w, b: (
        centered(a) / torch.sqrt(centered(a).pow(2).mean(-1, keepdim=True) + 1e-6) * w + b
    ),
    "one difference": lambda a, w, b: (
        (c := centered(a)) * torch.rsqrt((c * c).mean(-1, keepdim=True) + 1e-6) * w + b
    ),
    "var": lambda a, w, b: b + w * (
        centered(a) / (a.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    ),
    "power": lambda a, w, b: (
        w * (centered(a) * (a.var(-1, keepdim=True, unbiased=False) + 1e-6) ** -0.5) + b
    ),
}  # fmt: skip


@pytest.mark.parametrize("forward", LAYERS.values(), ids=LAYERS)
def test_layer_norms_are_found(forward):
    module = Fn(forward, torch.rand(6), torch.rand(6))
    program, (count,) = rewritten(module, [x(2, 5, 6)], fuse_norms)
    assert count == 1
    assert ops(program) == {"nn.LayerNorm": 1}
    assert program.nodes[0].attrs == {"dims": 6, "eps": 1e-6, "affine": True, "bias": True}


def channels_first(a, w, b):
    """ConvNeXt's and SAM's norm over the channels of a feature map."""
    a = centered(a, 1) / torch.sqrt(centered(a, 1).pow(2).mean(1, keepdim=True) + 1e-6)
    return w[:, None, None] * a + b[:, None, None]


def test_a_norm_over_channels_is_one_over_the_last_axis():
    module = Fn(channels_first, torch.rand(4), torch.rand(4))
    program, (count,) = rewritten(module, [x(2, 4, 5, 6)], fuse_norms)
    assert count == 1
    assert ops(program) == {".transpose": 2, "nn.LayerNorm": 1}
    # its parameters stand in a list and have no module in common that could be the layer
    assert ops(piped(module, [x(2, 4, 5, 6)])) == {"mx.fast.layer_norm": 1}


def rms_over_channels(a, w):
    a = a * torch.rsqrt(a.pow(2).mean(1, keepdim=True) + 1e-6)
    return a * w.reshape(1, -1, 1, 1)


@pytest.mark.parametrize("size", [(2, 4, 5, 6), (2, 4, 4, 4)])
def test_an_rms_norm_over_channels_is_one_over_the_last_axis(size):
    program, (count,) = rewritten(Fn(rms_over_channels, torch.rand(4)), [x(*size)], fuse_norms)
    assert count == 1
    assert ops(program) == {".transpose": 2, "nn.RMSNorm": 1}
    assert program.nodes[1].attrs == {"dims": 4, "eps": 1e-6}


def test_an_rms_norm_without_weights_is_over_channels_only_of_feature_maps():
    def normed(a):
        return a * torch.rsqrt(a.pow(2).mean(1, keepdim=True) + 1e-6)

    assert ops(piped(normed, [x(2, 4, 5, 6)])) == {"mx.fast.rms_norm": 1}
    assert "mx.fast.rms_norm" not in ops(piped(normed, [x(2, 5, 6)]))


def test_a_layer_norm_without_weights():
    program, (count,) = rewritten(
        lambda a: centered(a) / torch.sqrt(a.var(-1, keepdim=True, unbiased=False) + 1e-6),
        [x(2, 5, 6)],
        fuse_norms,
    )
    assert count == 1
    assert ops(program) == {"mx.fast.layer_norm": 1}


NO_LAYERS = {
    "its variance is the unbiased one, over n - 1": lambda a: (
        centered(a) / torch.sqrt(a.var(-1, keepdim=True) + 1e-6)
    ),
    "eps is added to the deviation, not to the variance": lambda a: (
        centered(a) / (a.std(-1, keepdim=True) + 1e-6)
    ),
    "it is over axis 0 of 3": lambda a: (
        centered(a, 0) / torch.sqrt(a.var(0, keepdim=True, unbiased=False) + 1e-6)
    ),
}


@pytest.mark.parametrize(("reason", "forward"), NO_LAYERS.items())
def test_what_is_no_layer_norm_says_why(reason, forward):
    program, (count,) = rewritten(forward, [x(2, 5, 6)], fuse_norms)
    assert count == 0
    assert list(program.misses) == [("a layer norm", reason)]


class _Spelled(nn.Module):
    """A norm by mean and variance over some axes, its gain and bias where authors put them."""

    def __init__(self, axes, shape, form="behind"):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(shape))
        self.axes, self.form = axes, form

    def forward(self, a):
        mean = a.mean(self.axes, keepdim=True)
        root = torch.sqrt(a.var(self.axes, keepdim=True, unbiased=False) + 1e-8)
        if self.form == "inside":  # speechbrain's
            return self.gamma * (a - mean) / root + self.beta
        if self.form == "turned":  # asteroid's
            return (self.gamma * ((a - mean) / root).transpose(1, -1) + self.beta).transpose(1, -1)
        return (a - mean) / root * self.gamma + self.beta


SPELLED = {
    "global, turned": ((1, 2), (6,), "turned", (2, 6, 5), "nn.GroupNorm(1, 6"),
    "global": ((1, 2, 3), (6, 1, 1), "behind", (2, 6, 5, 4), "nn.GroupNorm(1, 6"),
    "global, channels last": ((1, 2), (6,), "behind", (2, 5, 6), "nn.GroupNorm(1, 6"),
    "channels, inside": ((1,), (1, 6, 1), "inside", (2, 6, 5), "nn.LayerNorm(6"),
    "instances": ((2, 3), (6, 1, 1), "inside", (2, 6, 5, 4), "nn.InstanceNorm(6"),
    "a series": ((1,), (6,), "behind", (2, 5, 6), "nn.InstanceNorm(6"),
    "lines of features": ((2,), (6, 1), "behind", (2, 6, 5), "nn.InstanceNorm(6"),
}


@pytest.mark.parametrize(("axes", "shape", "form", "size", "wanted"), SPELLED.values(), ids=SPELLED)
def test_norms_over_several_axes(axes, shape, form, size, wanted):
    net = nn.Sequential
    a = torch.randn(size)
    ported = port_of(lambda: net(_Spelled(axes, shape, form), nn.Tanh()), [a])
    ported.check(a)
    assert wanted in ported.port.model_py
    assert "sqrt" not in ported.port.model_py


def test_a_series_that_is_scaled_back_keeps_its_deviation():
    def forward(a):
        mean = a.mean(1, keepdim=True)
        root = torch.sqrt(a.var(1, keepdim=True, unbiased=False) + 1e-5)
        return ((a - mean) / root).tanh() * root + mean

    program, (count,) = rewritten(forward, [x(2, 5, 6)], fuse_norms)
    assert count == 0
    assert list(program.misses) == [
        ("a layer norm", "its mean or its deviation is read elsewhere too")
    ]


def test_a_square_that_is_read_elsewhere_stays():
    def forward(a, w):
        square = a.pow(2)
        return w * (a * torch.rsqrt(square.mean(-1, keepdim=True) + 1e-6)), square

    program, (count,) = rewritten(Fn(forward, torch.rand(6)), [x(2, 5, 6)], fuse_norms)
    assert count == 1
    assert ops(program)["**"] + ops(program)["mx.square"] == 1


class _Direction(nn.Module):
    """lucidrains' norm: the direction, times the root of the width, times a gain."""

    def __init__(self, shape, axis, plus=0.0):
        super().__init__()
        self.g, self.axis, self.plus = nn.Parameter(torch.randn(shape)), axis, plus

    def forward(self, a):
        gain = self.g + self.plus if self.plus else self.g
        return F.normalize(a, dim=self.axis) * gain * a.shape[self.axis] ** 0.5


@pytest.mark.parametrize(
    ("shape", "axis", "plus", "size", "wanted"),
    [
        ((6,), -1, 0.0, (2, 5, 6), "nn.RMSNorm"),
        ((6, 1, 1), 1, 0.0, (2, 6, 4, 5), "nn.RMSNorm"),
        ((6,), -1, 1.0, (2, 5, 6), "mx.fast.rms_norm"),
    ],
)
def test_a_direction_times_the_root_of_the_width_is_a_norm(shape, axis, plus, size, wanted):
    a = torch.randn(size)
    ported = port_of(lambda: _Direction(shape, axis, plus), [a])
    ported.check(a)
    assert wanted in ported.port.model_py
    assert "sqrt" not in ported.port.model_py


def test_a_direction_times_another_number_stays():
    class Net(nn.Module):
        def forward(self, a):
            return F.normalize(a, dim=-1) * 2.0

    a = torch.randn(2, 5, 6)
    ported = port_of(Net, [a])
    ported.check(a)
    assert "rms_norm" not in ported.port.model_py
