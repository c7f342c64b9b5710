"""propagate_layout, fold_parameters and the permutations behind them."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from porter.passes.layout.fold_parameters import fold_parameters
from tests.passes.programs import Fn, before, ops, piped, rewritten, x


class Sep(nn.Module):
    """Depthwise and pointwise convs with a residual."""

    def __init__(self, dim: int = 6):
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.pointwise = nn.Conv2d(dim, dim, 1)

    def forward(self, a):
        return a + self.pointwise(F.silu(self.norm(self.depthwise(a))))


class SqueezeExcite(nn.Module):
    def __init__(self, dim: int = 6):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(dim, 2, 1), nn.Conv2d(2, dim, 1)

    def forward(self, a):
        gate = self.expand(F.relu(self.reduce(a.mean((2, 3), keepdim=True))))
        return a * gate.sigmoid()


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, a):
        return torch.cat([self.a(a), self.b(a), F.max_pool2d(a, 3, 1, 1)], dim=1)


def seq(*layers):
    return nn.Sequential(*layers)


IMAGES = {
    "conv norm relu": lambda: seq(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1)
    ),
    "strided, padded, dilated": lambda: seq(
        nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, padding=2, dilation=2)
    ),
    "separable residual": lambda: seq(nn.Conv2d(3, 6, 1), Sep(), Sep()),
    "squeeze and excite": lambda: seq(nn.Conv2d(3, 6, 1), SqueezeExcite()),
    "branches": lambda: seq(Branches(), nn.Conv2d(12, 4, 1)),
    "pools": lambda: seq(nn.Conv2d(3, 6, 3), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Conv2d(6, 4, 1)),
    "group norm": lambda: seq(nn.Conv2d(3, 6, 3), nn.GroupNorm(3, 6), nn.Conv2d(6, 4, 1)),
    "instance norm": lambda: seq(
        nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6, affine=True), nn.Conv2d(6, 4, 1)
    ),
    "transposed conv": lambda: seq(
        nn.Conv2d(3, 6, 3), nn.ConvTranspose2d(6, 4, 2, 2), nn.Conv2d(4, 4, 1)
    ),
    "upsampled": lambda: seq(nn.Conv2d(3, 6, 3), nn.Upsample(scale_factor=2), nn.Conv2d(6, 4, 1)),
    "padded": lambda: seq(
        nn.ZeroPad2d((1, 2, 0, 3)), nn.Conv2d(3, 6, 3), nn.ZeroPad2d(1), nn.Conv2d(6, 4, 1)
    ),
    "prelu": lambda: seq(nn.Conv2d(3, 6, 3), nn.PReLU(6), nn.Conv2d(6, 4, 1)),
    "classifier": lambda: seq(
        nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)
    ),
    "flatten before Linear": lambda: seq(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(6 * 6 * 6, 5)),
    "adaptive pool, flatten": lambda: seq(
        nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5)
    ),
    "softmax over channels": lambda: seq(nn.Conv2d(3, 6, 3), nn.Softmax(1), nn.Conv2d(6, 4, 1)),
}


@pytest.mark.parametrize("name", IMAGES)
def test_conv_nets_hold_no_transpose(name):
    program = piped(IMAGES[name](), [x(2, 3, 8, 8)])
    assert ops(program)[".transpose"] == 0
    assert program.inputs[0].permute == (0, 2, 3, 1)


@pytest.mark.parametrize("name", IMAGES)
def test_an_input_as_torch_has_it_costs_one_transpose(name):
    program = piped(IMAGES[name](), [x(2, 3, 8, 8)], "nchw")
    assert program.inputs[0].permute is None
    assert ops(program)[".transpose"] == 1


class OverImages(nn.Module):
    """A conv, a function of the image, a conv."""

    def __init__(self, function, channels: int = 6):
        super().__init__()
        self.function = function
        self.first, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(channels, 4, 1)

    def forward(self, a):
        return self.last(self.function(self.first(a)))


FUNCTIONS = {
    "mean over channels": (lambda a: a - a.mean(1, keepdim=True), 6),
    "max over channels": (lambda a: torch.cat([a, a.amax(1, keepdim=True)], 1), 7),
    "global response": (lambda a: a / a.norm(dim=(2, 3), keepdim=True).mean(1, keepdim=True), 6),
    "softmax over width": (lambda a: a.softmax(3), 6),
    "argmax in a gate": (lambda a: a * (a.argmax(1, keepdim=True) > 2), 6),
    "chunk": (lambda a: (c := a.chunk(2, 1))[0] * c[1].sigmoid(), 3),
    "channels cut": (lambda a: a[:, 1:4], 3),
    "space cut": (lambda a: a[:, :, 1:-1, ::2], 6),
    "one row": (lambda a: a + a[:, :, 2].unsqueeze(2), 6),
    "channels shuffled": (lambda a: a.view(2, 2, 3, 6, 6).transpose(1, 2).reshape(2, 6, 6, 6), 6),
    "rolled": (lambda a: torch.roll(a, (1, -2), (2, 3)), 6),
    "flipped": (lambda a: a.flip(3), 6),
    "a number for each channel": (lambda a: a * torch.arange(6.0).view(1, 6, 1, 1), 6),
    "an image added": (lambda a: a + torch.arange(36.0).view(6, 6), 6),
    "stacked": (lambda a: torch.stack([a, a * 2], 1).flatten(1, 2), 12),
    "cumsum over height": (lambda a: a.cumsum(2), 6),
    "sorted over channels": (lambda a: a.sort(1)[0], 6),
    "global context": (lambda a: a * F.adaptive_avg_pool2d(a, 1), 6),
    "pixel shuffle": (lambda a: F.pixel_shuffle(a[:, :4], 2), 1),
    "one channel of a row": (
        lambda a: a + a.amax((1, 3)).repeat_interleave(6, 1).view(2, 1, 6, 6),
        6,
    ),
    "adaptive pool to more": (lambda a: F.adaptive_avg_pool2d(a, (7, 4)), 6),
    "where": (lambda a: torch.where(a > 0, a, a.mean((2, 3), keepdim=True)), 6),
    "clamped": (lambda a: a.clamp(-0.5, 0.5), 6),
}


@pytest.mark.parametrize(("function", "channels"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_of_images_follow_their_axes(function, channels):
    program = piped(OverImages(function, channels), [x(2, 3, 8, 8)])
    assert program.inputs[0].permute == (0, 2, 3, 1)


#: A shuffle is a transpose; numbers made in the forward are laid out there.
SHUFFLES = {"channels shuffled", "pixel shuffle", "a number for each channel", "an image added"}


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - SHUFFLES))
def test_functions_of_images_need_no_transpose(name):
    assert ops(piped(OverImages(*FUNCTIONS[name]), [x(2, 3, 8, 8)]))[".transpose"] == 0


class Tokens(nn.Module):
    """A conv branch and a token branch, added: PVT, CoaT, CvT."""

    def __init__(self, dim: int = 6):
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 2, 2)
        self.norm, self.linear = nn.LayerNorm(dim), nn.Linear(dim, dim)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, a):
        a = self.patch(a)
        b, c, h, w = a.shape
        tokens = a.flatten(2).transpose(1, 2)
        tokens = tokens + self.linear(self.norm(tokens))
        image = tokens.transpose(1, 2).reshape(b, c, h, w)
        tokens = tokens + self.conv(image).flatten(2).transpose(1, 2)
        return tokens.mean(1)


def test_tokens_and_images_are_one_layout():
    program = piped(Tokens(), [x(2, 3, 8, 8)])
    assert ops(program)[".transpose"] == 0


def test_tokens_and_images_of_any_size():
    program = piped(Tokens(), [x(2, 3, 8, 8)], dynamic={"a": {0: "batch", 2: "height", 3: "width"}})
    assert ops(program)[".transpose"] == 0


class Permuted(nn.Module):
    """ConvNeXt: the author's own channels-last part."""

    def __init__(self, dim: int = 6):
        super().__init__()
        self.stem, self.depthwise = (
            nn.Conv2d(3, dim, 2, 2),
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim),
        )
        self.norm, self.linear = nn.LayerNorm(dim), nn.Linear(dim, dim)
        self.gamma = nn.Parameter(torch.rand(dim))

    def forward(self, a):
        a = self.stem(a)
        h = self.depthwise(a).permute(0, 2, 3, 1)
        h = self.gamma * self.linear(self.norm(h))
        return (a + h.permute(0, 3, 1, 2)).mean((2, 3))


def test_the_authors_permutes_go_too():
    assert ops(piped(Permuted(), [x(2, 3, 8, 8)]))[".transpose"] == 0


class NormPermuted(nn.Module):
    """LayerNorm2d as many write it, an activation after it, then convs and a residual: MambaOut's stem, EdgeNeXt."""

    def __init__(self, dim: int = 6):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, dim, 2, 2), nn.Conv2d(dim, dim, 3, padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, a):
        a = self.norm(self.first(a).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        a = F.gelu(a)
        return (a + self.last(F.pad(a * 2, (1, 1, 1, 1)))[:, :, 1:-1, 1:-1]).mean((2, 3))


def test_a_norm_between_the_authors_permutes():
    assert ops(piped(NormPermuted(), [x(2, 3, 12, 8)]))[".transpose"] == 0


class NormThenPool(nn.Module):
    """A permuted LayerNorm before a global pool: SAM's neck."""

    def __init__(self, dim: int = 6):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, dim, 2), nn.LayerNorm(dim)

    def forward(self, a):
        a = self.norm(self.first(a).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return a.mean((2, 3), keepdim=True).squeeze((2, 3))


class Weighed(nn.Module):
    """Maps weighed by numbers of a learned vector: BiFPN."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)
        self.weights = nn.Parameter(torch.rand(2))

    def forward(self, a):
        a, weights = self.first(a), F.relu(self.weights)
        return self.last(weights[0] * a + weights[1] * F.silu(a))


def test_a_single_number_has_no_axes():
    assert ops(piped(Weighed(), [x(2, 3, 8, 9)]))[".transpose"] == 0


class Circular(nn.Module):
    """Tokens turned before a convolution that pads round: Autoformer's embedding."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 6, 3, padding=1, padding_mode="circular")

    def forward(self, a):
        return self.conv(a.permute(0, 2, 1)).transpose(1, 2)


def test_the_authors_permute_goes_through_padding_round():
    assert ops(piped(Circular(), [x(2, 9, 3)]))[".transpose"] == 0


def test_a_norm_before_a_pool():
    assert ops(piped(NormThenPool(), [x(2, 3, 5, 4)]))[".transpose"] == 0


LINES = {
    "conv norm relu": lambda: seq(
        nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 4, 1)
    ),
    "pool": lambda: seq(nn.Conv1d(3, 6, 3), nn.MaxPool1d(2), nn.Conv1d(6, 4, 1)),
    "transposed": lambda: seq(nn.ConvTranspose1d(3, 6, 2, 2), nn.Conv1d(6, 4, 3, groups=2)),
    "classifier": lambda: seq(
        nn.Conv1d(3, 6, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 5)
    ),
    "flatten before Linear": lambda: seq(nn.Conv1d(3, 6, 3), nn.Flatten(), nn.Linear(6 * 8, 5)),
}


@pytest.mark.parametrize("name", LINES)
def test_lines(name):
    program = piped(LINES[name](), [x(2, 3, 10)])
    assert ops(program)[".transpose"] == 0
    assert program.inputs[0].permute == (0, 2, 1)
    assert ops(piped(LINES[name](), [x(2, 3, 10)], "nchw"))[".transpose"] == 1


VOLUMES = {
    "conv norm relu": lambda: seq(
        nn.Conv3d(3, 6, 3), nn.BatchNorm3d(6), nn.ReLU(), nn.Conv3d(6, 4, 1)
    ),
    "pool": lambda: seq(nn.Conv3d(3, 6, 1), nn.MaxPool3d(2), nn.Conv3d(6, 4, 1)),
    "classifier": lambda: seq(
        nn.Conv3d(3, 6, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 5)
    ),
    "flatten before Linear": lambda: seq(nn.Conv3d(3, 6, 3), nn.Flatten(), nn.Linear(6 * 8, 5)),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes(name):
    program = piped(VOLUMES[name](), [x(2, 3, 4, 4, 4)])
    assert ops(program)[".transpose"] == 0
    assert program.inputs[0].permute == (0, 2, 3, 4, 1)
    assert ops(piped(VOLUMES[name](), [x(2, 3, 4, 4, 4)], "nchw"))[".transpose"] == 1


def test_an_input_that_no_conv_reads_stays_as_it_is():
    program = piped(seq(nn.Linear(5, 4)), [x(2, 3, 4, 5)])
    assert program.inputs[0].permute is None


@pytest.mark.parametrize("dynamic", [None, {"args_0": {0: "batch", 3: "height", 4: "width"}}])
def test_frames_that_become_samples_are_channels_last(dynamic):
    class Frames(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 2, 2)

        def forward(self, a):
            batch, frames, channels, height, width = a.shape
            return self.conv(a.reshape(batch * frames, channels, height, width)).mean((2, 3))

    program = piped(Frames(), [x(2, 5, 3, 8, 6)], dynamic=dynamic)
    assert ".transpose" not in ops(program)
    assert program.inputs[0].permute == (0, 1, 3, 4, 2)


def test_an_input_normalized_before_the_conv_is_channels_last():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.register_buffer("mean", torch.rand(1, 3, 1, 1))

        def forward(self, a):
            return self.conv((a - self.mean) / 2)

    program = piped(Net(), [x(2, 3, 4, 4)])
    assert program.inputs[0].permute == (0, 2, 3, 1)
    assert ops(program)[".transpose"] == 0


def test_an_image_output_says_how_it_is_stored():
    program = piped(seq(nn.Conv2d(3, 4, 1)), [x(2, 3, 5, 7)])
    assert program.output_values()[0].permute == (0, 2, 3, 1)
    assert program.output_values()[0].shape == (2, 5, 7, 4)


# ------------------------------------------------------------------------------------------------------- fold_parameters


PARAMETERS = {
    "transposed": (lambda a, p: a @ p.t(), (5, 3)),
    "reshaped": (lambda a, p: a * p.view(1, 3), (3,)),
    "widened": (lambda a, p: a + p[None], (3,)),
    "permuted and reshaped": (lambda a, p: a + p.permute(1, 0, 2).reshape(2, 3), (1, 2, 3)),
    "two readers of one form": (lambda a, p: (a @ p.t()) * (a @ p.t()), (5, 3)),
}


@pytest.mark.parametrize(("forward", "shape"), PARAMETERS.values(), ids=PARAMETERS)
def test_parameters_are_stored_as_they_are_read(forward, shape):
    program, (count,) = rewritten(Fn(forward, torch.rand(shape)), [x(2, 3)], fold_parameters)
    assert count > 0
    assert not {".transpose", ".reshape", "[]", "mx.expand_dims"} & set(ops(program))


NOT_FOLDED = {
    "read in two forms": (lambda a, p: a @ p.t() + a @ p, (3, 3)),
    "a part of it": (lambda a, p: a * p[1:], (4,)),
    "every second": (lambda a, p: a * p[::2], (6,)),
}


@pytest.mark.parametrize(("forward", "shape"), NOT_FOLDED.values(), ids=NOT_FOLDED)
def test_parameters_read_otherwise_stay(forward, shape):
    program, (count,) = rewritten(Fn(forward, torch.rand(shape)), [x(2, 3)], fold_parameters)
    assert count == 0
    assert {".transpose", "[]"} & set(ops(program))


def test_the_passes_before_the_layout_are_verified_too():
    program, _counts = rewritten(Tokens(), [x(2, 3, 8, 8)], *before("propagate_layout"))
    assert ops(program)[".transpose"] > 0  # what there is to do


# ---------------------------------------------------------------------------------------------------------- permutations
