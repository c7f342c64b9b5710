"""fold_batchnorm: norms after convolutions and Linears become recipes; others stay and say why."""

import pytest
import torch
from torch import nn

from porter.compile import compile_port
from porter.passes.fuse.fold_batchnorm import fold_batchnorm
from porter.sources import SourceOptions
from porter.sources.built import built_source
from porter.weights.readers import ModuleTensors
from tests.passes.programs import before, ops, rewritten, x
from tests.random_modules.parity import Ported, loaded, randomized

FOLDED = {
    "conv": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), x(2, 3, 6, 7)),
    "without bias": (nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)), x(2, 3, 6, 7)),
    "without affine": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4, affine=False)), x(2, 3, 9)),
    "depthwise": (nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4)), x(2, 4, 6, 7)),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4)), x(2, 3, 6, 7)),
    "linear": (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), x(5, 3)),
}  # fmt: skip


@pytest.mark.parametrize(("module", "image"), FOLDED.values(), ids=FOLDED)
def test_a_norm_after_a_convolution_folds(module, image):
    program, counts = rewritten(module, [image], *before("fold_batchnorm"), fold_batchnorm)
    assert counts[-1] == 1
    assert ops(program)["nn.BatchNorm"] == 0


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(self.conv(self.conv(x)))


class Branched(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return x + self.bn(x)


KEPT = {
    "no convolution or Linear is right before it": nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)),
    "something else reads the convolution's output": Branched(),
    "the convolution's weight is used more than once": Twice(),
    "it keeps no statistics": nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)
    ),
}


@pytest.mark.parametrize(("reason", "module"), KEPT.items())
def test_other_norms_stay_and_say_why(reason, module):
    program, counts = rewritten(module, [x(2, 3, 6, 7)], *before("fold_batchnorm"), fold_batchnorm)
    assert counts[-1] == 0
    assert list(program.misses) == [("a BatchNorm", reason)]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 5, 3, bias=False), nn.BatchNorm2d(5)

    def forward(self, x):
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


@pytest.mark.parametrize("fold", [True, False])
def test_the_option_folds_and_nothing_else_does(fold):
    module, image = randomized(Net()).eval(), x(2, 3, 8, 9)
    source = built_source("test", SourceOptions(), "factory", "Net", module, (image,), {})
    port = compile_port(source, fold_batchnorm=fold)
    assert ("BatchNorm" in port.model_py) != fold
    assert ("rsqrt" in str(port.recipes["conv1.weight"])) == fold
    first = next(m["outputs"][0]["value"] for m in port.modules)
    assert first == ("batch_norm" if fold else "conv2d")
    Ported(module, port, loaded(port, ModuleTensors(module.state_dict()))).check(image)
