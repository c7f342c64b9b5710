"""Modules that check their numbers; pytest rewrites the assertions of test files."""

import torch
from torch import nn


class Checked(nn.Module):
    """Each way to check: an assertion, a negated condition, one of several, and torch's own distributions."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def forward(self, x):
        assert (x > -100).all(), "too small"
        if not torch.isfinite(x).all() or x.max() > 100:
            raise ValueError("no numbers")
        y = self.mix(x)
        if (y.abs() < 1000).all():
            y = y * 2
        else:
            raise ValueError("too large")
        return torch.distributions.Categorical(logits=y).probs


class Branches(Checked):
    def forward(self, x):
        return self.mix(x) if (x > 0).all() else x
