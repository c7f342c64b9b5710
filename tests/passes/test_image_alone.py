"""propagate_layout: an image that gets its axis of samples in the forward is taken channels-last, too."""

import torch
from torch import nn

from tests.random_modules.parity import check_source, port_of


class Alone(nn.Module):
    """One image (3, height, width), normalized and made a batch of one, as detectors take theirs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, image):
        mean = torch.as_tensor([0.4, 0.5, 0.6])
        image = (image - mean[:, None, None])[None]
        return self.conv(image[0][None]).mean(dim=(2, 3))


def test_an_image_alone_is_taken_channels_last():
    image = torch.randn(3, 8, 9)
    ported = port_of(Alone, [image], {"image": {1: "height", 2: "width"}})
    check_source(ported.port.model_py)
    assert ported.port.inputs[0]["permute"] == [1, 2, 0]
    assert "transpose" not in ported.port.model_py
    assert "[0]" not in ported.port.model_py
    ported.check(image)
    ported.check(torch.randn(3, 5, 6))
