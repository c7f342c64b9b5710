"""Linear and convolution layers, norms, pooling and attention against torch."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from lowering.check import Case, bools, check, integers, rows
from lowering.evaluate import lower
from torch import nn

IMAGE = (2, 4, 9, 11)

LINEAR = [
    Case("matmul-int", torch.matmul, [integers(2, 3, 5), integers(5, 4)]),
    Case("matvec-int", torch.mv, [integers(3, 5), integers(5)]),
    Case("dot-int32", torch.dot, [integers(5, dtype=torch.int32), integers(5, dtype=torch.int32)]),
    Case(
        "addmm-int",
        lambda x, y, z: torch.addmm(x, y, z, alpha=2),
        [integers(3, 4), integers(3, 5), integers(5, 4)],
    ),
    Case(
        "matmul-complex",
        lambda x, y: torch.view_as_real(torch.complex(x, x * 2) @ torch.complex(y, -y)),
        [(3, 5), (5, 4)],
        n=10,
        kappa=4,
    ),
    Case("linear", nn.Linear(5, 7), [(2, 3, 5)], axes=(0, 1), n=5),
    Case("linear-no-bias", nn.Linear(5, 7, bias=False), [(2, 5)], axes=(0,), n=5),
    Case("linear-vector", nn.Linear(5, 7), [(5,)], n=5),
    Case("linear-computed", F.linear, [(2, 5), (7, 5), (7,)], n=5),
    Case("matmul", torch.matmul, [(2, 3, 5), (2, 5, 4)], axes=(1,), n=5),
    Case("matmul-broadcast", torch.matmul, [(2, 6, 3, 5), (5, 4)], axes=(0, 1), n=5),
    Case("matmul-vector", torch.matmul, [(3, 5), (5,)], n=5),
    Case("dot", torch.dot, [(5,), (5,)], n=5),
    Case("bmm", torch.bmm, [(2, 3, 5), (2, 5, 4)], n=5),
    Case("addmm", torch.addmm, [(4,), (3, 5), (5, 4)], n=5),
    Case(
        "addmm-scaled",
        lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2),
        [(3, 4), (3, 5), (5, 4)],
        n=5,
    ),
    Case(
        "baddbmm",
        lambda c, a, b: torch.baddbmm(c, a, b, alpha=0.3),
        [(2, 3, 4), (2, 3, 5), (2, 5, 4)],
        n=5,
    ),
    Case(
        "einsum",
        lambda a, b: torch.einsum("bhqd,bhkd->bhqk", a, b),
        [(2, 3, 4, 5), (2, 3, 6, 5)],
        axes=(2,),
        n=5,
    ),
    Case(
        "einsum-three",
        lambda a, b, c: torch.einsum("ij, jk, kl -> il", a, b, c),
        [(2, 3), (3, 4), (4, 5)],
        n=12,
    ),
    Case(
        "einsum-ellipsis",
        lambda a, b: torch.einsum("...qhd, ...khd -> ...hqk", a, b),
        [(2, 3, 4, 2, 5), (3, 6, 2, 5)],
        axes=(0,),
        n=5,
    ),
    Case("outer", torch.outer, [(3,), (4,)]),
    Case("inner", torch.inner, [(3, 5), (4, 5)], n=5),
    Case("bilinear", nn.Bilinear(3, 4, 5), [(2, 3), (2, 4)], n=12),
]
CONVOLUTION = [
    Case("conv1d", nn.Conv1d(4, 6, 3, padding=1), [(2, 4, 9)], axes=(0, 2), n=12),
    Case("conv1d-groups", nn.Conv1d(4, 8, 3, stride=2, groups=2), [(2, 4, 9)], n=6),
    Case("conv2d", nn.Conv2d(4, 6, 3), [IMAGE], axes=(0, 2, 3), n=36),
    Case(
        "conv2d-strided",
        nn.Conv2d(4, 6, (3, 5), (2, 1), (1, 2), bias=False),
        [IMAGE],
        axes=(0,),
        n=60,
    ),
    Case("conv2d-dilated", nn.Conv2d(4, 6, 3, padding=2, dilation=2), [IMAGE], n=36),
    Case("conv2d-depthwise", nn.Conv2d(4, 4, 3, padding=1, groups=4), [IMAGE], axes=(0,), n=9),
    Case("conv2d-groups", nn.Conv2d(4, 6, 3, groups=2), [IMAGE], n=18),
    Case("conv2d-same", nn.Conv2d(4, 6, (3, 4), padding="same"), [IMAGE], axes=(0, 2, 3), n=48),
    Case("conv2d-valid", nn.Conv2d(4, 6, 3, padding="valid"), [IMAGE], n=36),
    Case("conv2d-reflect", nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), [IMAGE], n=36),
    Case("conv2d-unbatched", nn.Conv2d(4, 6, 3), [(4, 9, 11)], n=36),
    Case("conv2d-computed", lambda x, w: F.conv2d(x, w * 2, stride=2), [IMAGE, (6, 4, 3, 3)], n=36),
    Case(
        "conv3d", nn.Conv3d(2, 3, (2, 3, 3), padding=(0, 1, 1)), [(1, 2, 4, 5, 6)], axes=(2,), n=36
    ),
    Case(
        "deconv1d", nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1), [(2, 4, 9)], axes=(0, 2), n=16
    ),
    Case(
        "deconv2d",
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
        [IMAGE],
        axes=(0, 2),
        n=36,
    ),
    Case(
        "deconv2d-uneven", nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2)), [IMAGE], n=36
    ),
    Case(
        "deconv2d-dilated", nn.ConvTranspose2d(4, 6, 3, 2, 1, dilation=2, bias=False), [IMAGE], n=36
    ),
    Case("deconv2d-groups", nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), [IMAGE], n=18),
    Case(
        "deconv2d-depthwise",
        nn.ConvTranspose2d(4, 4, 3, stride=2, groups=4, padding=1, output_padding=1),
        [IMAGE],
        n=9,
    ),
    Case(
        "deconv1d-groups",
        nn.ConvTranspose1d(4, 8, 4, stride=2, padding=1, groups=2),
        [(2, 4, 9)],
        n=8,
    ),
    Case("deconv2d-unbatched", nn.ConvTranspose2d(4, 6, 3), [(4, 5, 6)], n=36),
    Case(
        "deconv2d-cut",
        nn.ConvTranspose2d(4, 6, 2, 3, padding=2, output_padding=1),
        [(2, 4, 5, 6)],
        axes=(0, 2),
        n=16,
    ),
    Case("deconv3d", nn.ConvTranspose3d(2, 3, 3, stride=2), [(1, 2, 3, 4, 5)], n=54),
]
NORMS = [
    Case(
        "native_layer_norm",
        lambda x: torch.native_layer_norm(x, (3, 5), None, None, 1e-5),
        [(2, 3, 5)],
        n=15,
        kappa=8,
        probes=(1.0, 8.0),
    ),
    Case(
        "native_group_norm",
        lambda x: torch.native_group_norm(x, None, None, 2, 4, 15, 2, 1e-5),
        [(2, 4, 3, 5)],
        n=30,
        kappa=8,
        probes=(1.0, 8.0),
    ),
    Case("batch_norm2d", nn.BatchNorm2d(4), [IMAGE], axes=(0, 2)),
    Case("batch_norm-eps", nn.BatchNorm2d(4, eps=1e-2), [IMAGE]),
    Case("batch_norm-plain", nn.BatchNorm2d(4, affine=False), [IMAGE]),
    Case("batch_norm-batch", nn.BatchNorm2d(4, track_running_stats=False), [IMAGE], n=200),
    Case("batch_norm1d", nn.BatchNorm1d(4), [(5, 4)], axes=(0,)),
    Case("batch_norm1d-length", nn.BatchNorm1d(4), [(5, 4, 7)], axes=(0, 2)),
    Case("batch_norm3d", nn.BatchNorm3d(4), [(2, 4, 3, 5, 6)], axes=(0, 2)),
    Case(
        "weight-standardized",
        lambda w, g: F.batch_norm(w.reshape(1, 6, -1), None, None, g, training=True),
        [(6, 4, 3, 3), (6,)],
        n=36,
    ),
    Case("layer_norm", nn.LayerNorm(6), [(2, 3, 6)], axes=(0, 1), n=6, kappa=2),
    Case("layer_norm-no-bias", nn.LayerNorm(6, bias=False, eps=1e-6), [(2, 3, 6)], n=6, kappa=2),
    Case("layer_norm-plain", nn.LayerNorm(6, elementwise_affine=False), [(2, 3, 6)], n=6, kappa=2),
    Case("layer_norm-axes", nn.LayerNorm((3, 6)), [(2, 3, 6)], axes=(0,), n=18),
    Case(
        "layer_norm-computed",
        lambda x, w: F.layer_norm(x, (6,), w * 2),
        [(2, 3, 6), (6,)],
        n=6,
        kappa=2,
    ),
    Case("group_norm", nn.GroupNorm(2, 4), [IMAGE], axes=(0, 2), n=200),
    Case("group_norm-one", nn.GroupNorm(1, 4, affine=False), [(3, 4)], n=4, kappa=2),
    Case("group_norm-computed", lambda x, w: F.group_norm(x, 2, w * 2), [IMAGE, (4,)], n=200),
    Case("instance_norm", nn.InstanceNorm2d(4), [IMAGE], axes=(0, 2), n=99),
    Case("instance_norm-affine", nn.InstanceNorm1d(4, affine=True), [(2, 4, 9)], n=9),
    Case(
        "instance_norm-tracked",
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        [IMAGE],
    ),
    Case("rms_norm", nn.RMSNorm(6, eps=1e-6), [(2, 3, 6)], axes=(0,), n=6),
    Case("rms_norm-no-eps", nn.RMSNorm(6), [(2, 3, 6)], n=6),
    Case("rms_norm-axes", nn.RMSNorm((3, 6), eps=1e-5), [(2, 3, 6)], n=18),
    Case("rms_norm-plain", nn.RMSNorm(6, eps=1e-5, elementwise_affine=False), [(2, 3, 6)], n=6),
]
POOLING = [
    Case("max_pool2d", nn.MaxPool2d(3, 2, 1), [IMAGE], axes=(0, 2, 3)),
    Case("max_pool2d-uneven", nn.MaxPool2d((2, 3), (1, 2), (0, 1)), [IMAGE]),
    Case("max_pool2d-ceil", nn.MaxPool2d(3, 2, ceil_mode=True), [(2, 4, 10, 11)], axes=(0, 2, 3)),
    Case(
        "max_pool2d-ceil-padded",
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        [(2, 4, 10, 11)],
        axes=(0, 2, 3),
    ),
    Case("max_pool2d-ceil-dropped", nn.MaxPool2d(2, 2, 1, ceil_mode=True), [(2, 4, 9, 11)]),
    Case("max_pool2d-ceil-whole", nn.MaxPool2d(640, ceil_mode=True), [(2, 4, 9, 11)]),
    Case("max_pool2d-ceil-apart", nn.MaxPool2d(1, 3, ceil_mode=True), [(2, 4, 9, 11)]),
    Case("max_pool2d-dilated", nn.MaxPool2d(2, 2, 1, dilation=3), [IMAGE]),
    Case("max_pool2d-dilated-ceil", nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True), [IMAGE]),
    Case("max_pool2d-unbatched", nn.MaxPool2d(2), [(4, 8, 8)]),
    Case("max_pool1d", nn.MaxPool1d(3, 2), [(2, 4, 9)], axes=(0, 2)),
    Case("max_pool3d", nn.MaxPool3d(2), [(1, 2, 4, 6, 5)]),
    Case("avg_pool2d", nn.AvgPool2d(3, 2, 1), [IMAGE], axes=(0, 2, 3), n=9),
    Case(
        "avg_pool2d-uncounted",
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        [IMAGE],
        axes=(0, 2, 3),
        n=9,
    ),
    Case("avg_pool2d-ceil-whole", nn.AvgPool2d(640, ceil_mode=True), [(2, 4, 9, 11)]),
    Case(
        "avg_pool2d-ceil", nn.AvgPool2d(3, 2, ceil_mode=True), [(2, 4, 10, 11)], axes=(0, 2, 3), n=9
    ),
    Case(
        "avg_pool2d-ceil-padded",
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        [(2, 4, 10, 11)],
        axes=(0, 2),
        n=9,
    ),
    Case(
        "avg_pool2d-ceil-uncounted",
        nn.AvgPool2d(3, 2, 1, True, False),
        [(2, 4, 10, 11)],
        axes=(0, 2),
        n=9,
    ),
    Case("avg_pool2d-ceil-dropped", nn.AvgPool2d(2, 2, 1, True), [(2, 4, 9, 10)], n=9),
    Case("avg_pool2d-divisor", nn.AvgPool2d(2, 2, divisor_override=3), [IMAGE], n=9),
    Case("avg_pool1d", nn.AvgPool1d(4, 2), [(2, 4, 9)], axes=(0, 2), n=4),
    Case("avg_pool3d", nn.AvgPool3d(2), [(1, 2, 4, 6, 5)], n=8),
    Case("adaptive_avg-1", nn.AdaptiveAvgPool2d(1), [IMAGE], axes=(0, 2, 3), n=99),
    Case("adaptive_avg-divisible", nn.AdaptiveAvgPool2d((3, 2)), [(2, 4, 9, 8)], n=12),
    Case("adaptive_avg-uneven", nn.AdaptiveAvgPool2d((4, 3)), [IMAGE], axes=(0, 2, 3), n=16),
    Case("adaptive_avg-up", nn.AdaptiveAvgPool2d((7, None)), [(2, 4, 5, 6)], n=4),
    Case("adaptive_avg-same", nn.AdaptiveAvgPool2d(6), [(2, 4, 6, 6)]),
    Case("adaptive_avg1d", nn.AdaptiveAvgPool1d(4), [(2, 4, 9)], axes=(0, 2), n=4),
    Case("adaptive_avg3d", nn.AdaptiveAvgPool3d((2, 3, 1)), [(1, 2, 5, 7, 6)], n=60),
    Case("adaptive_max", nn.AdaptiveMaxPool2d((4, 3)), [IMAGE], axes=(0,)),
    Case("adaptive_max1d-1", nn.AdaptiveMaxPool1d(1), [(2, 4, 9)], axes=(0, 2)),
    Case("adaptive_max-1", nn.AdaptiveMaxPool2d(1), [IMAGE], axes=(0, 2, 3)),
]
Q = (2, 4, 5, 8)
ATTENTION = [
    Case("attention", F.scaled_dot_product_attention, [Q, Q, Q], n=8, kappa=4),
    Case(
        "attention-self",
        lambda x: F.scaled_dot_product_attention(x, x * 2, x),
        [Q],
        axes=(0, 2),
        n=8,
        kappa=16,
    ),
    Case(
        "attention-cross",
        F.scaled_dot_product_attention,
        [Q, (2, 4, 7, 8), (2, 4, 7, 3)],
        n=8,
        kappa=4,
    ),
    Case(
        "attention-scale",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.3),
        [Q, Q, Q],
        n=8,
        kappa=4,
    ),
    Case(
        "attention-causal",
        lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True),
        [Q],
        axes=(0, 2),
        n=8,
        kappa=16,
    ),
    Case(
        "attention-causal-longer",
        lambda q, k: F.scaled_dot_product_attention(q, k, k, is_causal=True),
        [Q, (2, 4, 7, 8)],
        n=8,
        kappa=4,
    ),
    Case("attention-additive", F.scaled_dot_product_attention, [Q, Q, Q, (5, 5)], n=8, kappa=16),
    Case(
        "attention-boolean",
        F.scaled_dot_product_attention,
        [Q, Q, Q, bools(2, 1, 5, 5)],
        n=8,
        kappa=4,
    ),
    Case(
        "attention-masked-rows",
        F.scaled_dot_product_attention,
        [Q, Q, Q, torch.eye(5).bool() & (torch.arange(5) > 1)],
        n=8,
        kappa=4,
    ),
    Case(
        "attention-infinite-rows",
        lambda q, m: F.scaled_dot_product_attention(
            q, q, q, torch.zeros(5, 5).masked_fill(m, float("-inf"))
        ),
        [Q, torch.eye(5).bool() | (torch.arange(5) > 1)[:, None]],
        n=8,
        kappa=4,
    ),
    Case(
        "attention-gqa",
        lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True),
        [Q, (2, 2, 5, 8)],
        n=8,
        kappa=4,
    ),
    Case(
        "attention-3d",
        F.scaled_dot_product_attention,
        [(4, 5, 8), (4, 6, 8), (4, 6, 8)],
        n=8,
        kappa=4,
    ),
    Case(
        "attention-5d",
        F.scaled_dot_product_attention,
        [(2, 3, 4, 5, 8), (2, 3, 4, 6, 8), (2, 3, 4, 6, 8)],
        n=8,
        kappa=4,
    ),
]
CASES = LINEAR + CONVOLUTION + NORMS + POOLING + ATTENTION


@pytest.mark.parametrize("case", rows(CASES))
def test_layers(case):
    check(case)


def test_places_that_nothing_reads_are_not_found():
    program = lower(nn.AdaptiveMaxPool1d(1), (torch.randn(2, 4, 9),)).program
    assert [node.op for node in program.nodes] == ["mx.max"]


def test_a_norm_by_the_batchs_own_statistics_is_a_layer_that_tracks_none():
    lowered = lower(nn.BatchNorm2d(4, track_running_stats=False).eval(), (torch.randn(IMAGE),))
    norms = [node for node in lowered.program.nodes if node.op == "nn.BatchNorm"]
    assert [node.attrs["track_running_stats"] for node in norms] == [False]
    assert set(norms[0].params) == {"weight", "bias"}
