"""Factorizations, transforms, complex numbers, and convolutions that MLX lacks."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from lowering.check import Case, check, rows
from torch import nn

from tests.passes.programs import Fn
from tests.random_modules.parity import port_of

SQUARE = (3, 4, 4)
WINDOW = torch.hann_window(8)


def positive_definite(x):
    return x @ x.mT + 4 * torch.eye(4, dtype=x.dtype)


def spectrum(x, **options):
    return torch.view_as_real(
        torch.stft(x, 8, 4, window=WINDOW.to(x), return_complex=True, **options)
    )


def there_and_back(x):
    frames = torch.stft(x, 8, 2, window=WINDOW.to(x), return_complex=True)
    return torch.istft(frames * 2, 8, 2, window=WINDOW.to(x), length=x.shape[-1])


ONE = (1.0,)
CASES = [
    Case("inverse", lambda x: torch.linalg.inv(positive_definite(x)), [SQUARE], n=16, kappa=64, probes=ONE),
    Case("cholesky", lambda x: torch.linalg.cholesky(positive_definite(x)), [SQUARE], n=16, kappa=16, probes=ONE),
    Case("solve", lambda x, y: torch.linalg.solve(positive_definite(x), y), [SQUARE, (4, 2)], n=16, kappa=64, probes=ONE),
    Case("solve-vector", lambda x, y: torch.linalg.solve(positive_definite(x), y), [SQUARE, (3, 4)], n=16, kappa=64,
         probes=ONE),
    Case("singular-values", lambda x: torch.linalg.svdvals(x), [(3, 5)], n=16, kappa=16, probes=ONE),
    Case("eigenvalues", lambda x: torch.linalg.eigvalsh(positive_definite(x)), [SQUARE], n=16, kappa=16, probes=ONE),
    Case("determinant", lambda x: torch.linalg.det(positive_definite(x)), [SQUARE], n=16, kappa=64, probes=ONE),
    Case("pinverse", torch.pinverse, [(5, 3)], n=16, kappa=64, probes=ONE),
    Case("pinverse-tolerance", lambda x: torch.linalg.pinv(x @ x.mT, atol=0.1, rtol=0.01), [(3, 5)], n=16, kappa=256,
         probes=ONE),
    Case("pinverse-hermitian", lambda x: torch.linalg.pinv(positive_definite(x), hermitian=True), [SQUARE], n=16, kappa=256,
         probes=ONE),
    Case("solve-right", lambda x, y: torch.linalg.solve(positive_definite(x), y, left=False), [SQUARE, (3, 2, 4)], n=16,
         kappa=64, probes=ONE),
    Case("triangular-right", lambda x, y: torch.linalg.solve_triangular(positive_definite(x), y, upper=True, left=False,
         unitriangular=True), [(4, 4), (3, 2, 4)], n=16, kappa=256, probes=ONE),
    Case("lu", torch.linalg.lu, [(2, 5, 3)], n=16, kappa=16, probes=ONE),
    Case("lu-solve", lambda x, y: torch.linalg.lu_solve(*torch.linalg.lu_factor(positive_definite(x)), y), [SQUARE, (3, 4, 2)],
         n=16, kappa=64, probes=ONE),
    Case("lu-solve-adjoint", lambda x, y: torch.linalg.lu_solve(*torch.linalg.lu_factor(positive_definite(x)), y, adjoint=True),
         [SQUARE, (3, 4, 2)], n=16, kappa=64, probes=ONE),
    Case("lu-unpack", lambda x: torch.lu_unpack(*torch.linalg.lu_factor(x)), [(2, 5, 3)], n=16, kappa=16, probes=ONE),
    Case("logdet", lambda x: torch.logdet(positive_definite(x)), [SQUARE], n=16, kappa=64, probes=ONE),
    Case("matrix-exponential", torch.linalg.matrix_exp, [SQUARE], n=64, kappa=64, probes=(1.0, 1e-3)),
    Case("householder", lambda x, y: torch.linalg.householder_product(x, y), [(2, 5, 3), (2, 3)], n=16, kappa=16, probes=ONE),
    Case("tensorsolve", lambda x, y: torch.linalg.tensorsolve(torch.eye(6).to(x) + x.reshape(6, 6) / 9, y.reshape(6)),
         [(6, 2, 3), (2, 3)], n=16, kappa=64, probes=ONE),
    Case("pdist", lambda x: F.pdist(x, 3.0), [(5, 4)], n=4, kappa=16),
    Case("cross", lambda x, y: torch.linalg.cross(x, y), [(4, 3), (4, 3)], n=2, kappa=8),
    Case("cdist", torch.cdist, [(2, 4, 3), (2, 5, 3)], n=3, kappa=8),
    Case("cdist-1", lambda x, y: torch.cdist(x, y, p=1), [(2, 4, 3), (2, 5, 3)], n=3, kappa=8),
    Case("einsum-ellipsis", lambda x, y: torch.einsum("...ij,...kj->...ik", x, y), [(2, 3, 4), (5, 4)], n=4, kappa=8),
    Case("stft", spectrum, [(2, 40)], n=8, kappa=16),
    Case("stft-normalized", lambda x: spectrum(x, normalized=True, center=False), [(40,)], n=8, kappa=16),
    Case("istft", there_and_back, [(2, 40)], n=16, kappa=64),
    Case("fft-ortho", lambda x: torch.fft.fft(x, norm="ortho").abs(), [(3, 8)], n=8, kappa=16),
    Case("hfft", lambda x: torch.fft.hfft(torch.complex(x, x)), [(3, 8)], n=16, kappa=16),
    Case("hfft2", lambda x: torch.fft.hfft2(torch.complex(x, x)), [(3, 6, 8)], n=64, kappa=16),
    Case("ihfftn", lambda x: torch.view_as_real(torch.fft.ihfftn(x, norm="ortho")), [(3, 6, 8)], n=64, kappa=16),
    Case("rfft2-sizes", lambda x: torch.fft.rfft2(x, s=(6, 10)).imag, [(3, 8, 8)], n=64, kappa=16),
    Case("polar", lambda x, y: torch.view_as_real(torch.polar(x.abs(), y) * torch.complex(x, y)), [(3, 4), (3, 4)],
         n=2, kappa=16, probes=(1.0, 8.0)),
    Case("complex-norm", lambda x, y: torch.complex(x, y).norm(dim=1), [(3, 4), (3, 4)], n=8, kappa=4),
    Case("complex-var-mean", lambda x, y: [t.abs() for t in torch.var_mean(torch.complex(x, y), 1)], [(3, 4), (3, 4)], n=8,
         kappa=16),
    Case("complex-full", lambda x, y: torch.full_like(torch.complex(x, y), 2.0).abs() + x, [(3, 4), (3, 4)]),
    Case("complex-silu", lambda x, y: torch.view_as_real(F.silu(torch.complex(x, y))), [(3, 4), (3, 4)], kappa=64,
         probes=(1.0,)),
    Case("complex-stft", lambda x: spectrum(torch.complex(x, x * 2), onesided=False), [(2, 40)], n=8, kappa=16),
    Case("angle", lambda x, y: torch.complex(x, y).angle(), [(3, 4), (3, 4)], kappa=4),
    Case("conv3d-groups", nn.Conv3d(4, 6, 3, padding=1, groups=2), [(1, 4, 4, 5, 5)], n=54, kappa=16),
    Case("conv3d-transposed-groups", nn.ConvTranspose3d(4, 6, 2, stride=2, groups=2), [(1, 4, 3, 4, 3)], n=16, kappa=16),
    Case("transposed-by-weight", lambda x, w: F.conv_transpose2d(x, w, groups=2), [(1, 4, 5, 5), (4, 3, 2, 2)], n=8,
         kappa=16),
    Case("fold", lambda x: F.fold(x, (5, 6), (3, 2), padding=1, stride=(2, 1)), [(2, 12, 21)], n=6, kappa=8),
    Case("unfold-alone", lambda x: F.unfold(x, 2), [(3, 5, 5)]),
    Case("pad-cut-edge", lambda x: F.pad(x, (-6, 8), "replicate"), [(2, 3, 5)]),
]  # fmt: skip


@pytest.mark.parametrize("case", rows(CASES))
def test_algebra(case):
    check(case)


def test_a_transposed_convolution_by_a_window_of_any_size():
    """How much of the padding MLX can cut depends on the window: all of it is cut afterwards."""

    def forward(x, w):
        return F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1)

    image, windows = (
        torch.randn(1, 2, 5, 6),
        [torch.randn(2, 3, *size) for size in ((3, 4), (1, 2))],
    )
    ported = port_of(lambda: Fn(forward), [image, windows[0]])
    for window in windows:
        ported.check(image, window)
