"""split_complex: a rotation by complex numbers is one in real ones."""

import torch

from porter.passes.fuse.fuse_rope import fuse_rope
from porter.passes.split_complex import split_complex
from tests.passes.programs import rewritten, x


def _rotated(a):
    freqs = 100.0 ** (-torch.arange(0, 8, 2, dtype=torch.float32) / 8)
    angles = torch.arange(a.shape[1], dtype=torch.float32)[:, None] * freqs
    turn = torch.polar(torch.ones_like(angles), angles)
    z = torch.view_as_complex(a.reshape(*a.shape[:-1], -1, 2))
    return torch.view_as_real(z * turn[None, :, None]).flatten(3)


def test_rotary_embedding():
    program, counts = rewritten(
        _rotated,
        [x(2, 5, 3, 8)],
        split_complex,
        fuse_rope,
        dynamic={"args_0": {0: "batch", 1: "length"}},
    )
    assert counts[0] == 2
    assert [n.attrs["traditional"] for n in program.nodes if n.op == "nn.RoPE"] == [True]
    assert not any(v.dtype.startswith("complex") for n in program.nodes for v in n.outputs)


def test_a_complex_result_stays():
    def forward(a):
        z = torch.view_as_complex(a.reshape(*a.shape[:-1], -1, 2))
        return torch.view_as_real(torch.exp(z))

    _, counts = rewritten(forward, [x(2, 8)], split_complex)
    assert counts == [0]
