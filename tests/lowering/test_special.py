"""Special functions against torch in float64, over the whole range that a float32 holds of them."""

import math

import pytest
import torch
from lowering.check import Case, check, positive, rows

LINE = torch.linspace(-30, 30, 241)
NEAR = torch.linspace(-9.71, 9.93, 97)  # no whole number: those are poles
AXIS = torch.cat([torch.logspace(-5, 1.5, 60), torch.tensor([1.0, 2.0, 3.0])])
ONE = (1.0,)
CASES = [
    Case("erfc", torch.erfc, [torch.linspace(-4, 9, 131)], kappa=64, probes=ONE),
    Case("erfcx", torch.special.erfcx, [torch.linspace(-4, 60, 131)], kappa=16, probes=ONE),
    Case("log_ndtr", torch.special.log_ndtr, [torch.linspace(-30, 5, 131)], kappa=16, probes=ONE),
    Case("ndtri", torch.special.ndtri, [torch.linspace(0.001, 0.999, 99)], kappa=16, probes=ONE),
    Case("lgamma", torch.lgamma, [NEAR], kappa=32, probes=ONE),
    Case("lgamma-positive", torch.lgamma, [AXIS], kappa=8, probes=ONE),
    Case("multigammaln", lambda x: torch.special.multigammaln(x + 3, 3), [positive(4, 5)], kappa=16, probes=ONE),
    Case("digamma", torch.digamma, [NEAR], kappa=64, probes=ONE),
    Case("trigamma", lambda x: torch.polygamma(1, x), [NEAR], kappa=64, probes=ONE),
    Case("polygamma", lambda x: torch.polygamma(3, x), [NEAR], kappa=64, probes=ONE),
    Case("zeta", torch.special.zeta, [1 + positive(4, 5), positive(4, 5)], kappa=32, probes=ONE),
    Case("i0", torch.special.i0, [LINE], kappa=64, probes=ONE),
    Case("i0e", torch.special.i0e, [LINE], kappa=16, probes=ONE),
    Case("i1", torch.special.i1, [LINE], kappa=64, probes=ONE),
    Case("i1e", torch.special.i1e, [LINE], kappa=16, probes=ONE),
    Case("j0", torch.special.bessel_j0, [LINE], kappa=16, probes=ONE),
    Case("j1", torch.special.bessel_j1, [LINE], kappa=16, probes=ONE),
    Case("k0", torch.special.modified_bessel_k0, [AXIS], kappa=32, probes=ONE),
    Case("k1-scaled", torch.special.scaled_modified_bessel_k1, [AXIS], kappa=16, probes=ONE),
    Case("spherical-j0", torch.special.spherical_bessel_j0, [LINE], kappa=16, probes=ONE),
    Case("exp2", torch.exp2, [NEAR], kappa=16, probes=ONE),
    Case("hypot", torch.hypot, [LINE * 1e30, LINE.flip(0) * 1e30], kappa=4, probes=ONE),
    Case("frexp", torch.frexp, [torch.tensor([0.0, 1.0, -3.7, 2.0**-126, 5e30, math.inf])], probes=ONE),
    Case("round-decimals", lambda x: torch.round(x, decimals=2), [NEAR], probes=ONE),
    Case("round-tens", lambda x: torch.round(x * 100, decimals=-1), [NEAR], probes=ONE),
    Case("chebyshev", torch.special.chebyshev_polynomial_u, [NEAR[:20] / 10, torch.arange(20) % 7], kappa=32, probes=ONE),
    Case("hermite", torch.special.hermite_polynomial_he, [NEAR[:20], torch.arange(20) % 7], kappa=32, probes=ONE),
    Case("legendre", torch.special.legendre_polynomial_p, [NEAR[:20] / 10, torch.arange(20) % 7], kappa=32, probes=ONE),
    Case("laguerre", torch.special.laguerre_polynomial_l, [NEAR[:20], torch.arange(20) % 7], kappa=32, probes=ONE),
]  # fmt: skip


@pytest.mark.parametrize("case", rows(CASES))
def test_special(case):
    check(case)


def test_nextafter():
    """The bits, not the budget: neighbours differ by less than any tolerance."""
    from lowering.evaluate import lower, run

    start = torch.tensor([0.0, 0.0, 1.0, -1.0, -1.0, math.inf, 3.0])
    goal = torch.tensor([1.0, -1.0, 2.0, 0.0, -5.0, 0.0, 3.0])
    case = Case("nextafter", torch.nextafter, [])
    (found,) = run(lower(case.module(), (start, goal)), [start, goal])
    assert found.tolist() == torch.nextafter(start, goal).tolist()
