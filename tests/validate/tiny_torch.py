"""The source: a convolution, a norm, two blocks of an MLP with a residual, a head."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.fc1 = nn.Linear(dim, dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(dim, dim)

    def forward(self, x):
        return x + self.fc2(self.act(self.fc1(self.norm(x))))


class Net(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.conv = nn.Conv2d(3, dim, 3, padding=1)
        self.bn = nn.BatchNorm2d(dim)
        self.blocks = nn.ModuleList([Block(dim), Block(dim)])
        self.head = nn.Linear(dim, 10)

    def forward(self, image):
        x = self.bn(self.conv(image)).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def net():
    model = Net().eval()
    with torch.no_grad():
        model.bn.running_mean.normal_()
        model.bn.running_var.uniform_(0.5, 2)
        for block in model.blocks:
            block.norm.weight.normal_(1, 0.1)
            block.norm.bias.normal_(0, 0.1)
            block.fc1.bias.normal_(0, 0.5)
    return model, (torch.randn(2, 3, 6, 8),)


def net_with_nan():
    model, (image,) = net()
    image[0, 0, 0, 0] = float("nan")
    return model, (image,)


def net_with_large_values():
    model, (image,) = net()
    return model, (image * 2e4,)
