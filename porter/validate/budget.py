"""How large an error a correct port may have.

The leaf rule is the one measured in `probes/error_budget.py`:

    budget = max(3 * E(torch_d), 4 * sqrt(n) * 2^-24 * kappa, 2 * u_d / sqrt(3))

with n the reduction length, u_d the unit roundoff of the compute dtype, kappa the conditioning of
the few ops where it is known. E(torch_d) is torch's own distance from float64.

What runs many ops in a row (a block, the whole model) gets a depth allowance. Rounding errors of
successive ops are nearly independent, so their sum grows with the square root of their number
(Higham and Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41
(2019)); the two floor terms are therefore multiplied by sqrt(depth). How much the network amplifies
errors is already in E(torch_d), which passed through the same network; but an MLX op may round
worse than torch's (4 to 15 times on the CPU), so E(torch_d) is multiplied by `ratio`: the root
mean square of the leafs' E(mlx) over that of their E(torch), over the leafs that passed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

UNIT_ROUNDOFF = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}
TORCH_MULTIPLE = 3.0
SUM_CONSTANT = 4.0
#: A margin above this is a wrong port, between 1 and this a matter of precision.
SEMANTIC = 30.0
#: The largest margin that is reported: NaN on one side, a wrong shape.
CAP = 1e9
#: Between the correct MLX CPU op and torch's, the measured ratio of errors is at most this.
MAX_RATIO = 16.0


def budget(
    torch_error: float,
    n: float,
    dtype: str = "float32",
    *,
    kappa: float = 1.0,
    depth: int = 1,
    ratio: float = 1.0,
) -> float:
    """The relative RMS error that is allowed; the module's docstring has the formula."""
    steps = math.sqrt(max(depth, 1))
    own = TORCH_MULTIPLE * torch_error * ratio if math.isfinite(torch_error) else 0.0
    sums = SUM_CONSTANT * math.sqrt(max(n, 1.0)) * UNIT_ROUNDOFF["float32"] * kappa * steps
    rounding = 2.0 * UNIT_ROUNDOFF.get(dtype, UNIT_ROUNDOFF["float32"]) / math.sqrt(3.0) * steps
    return max(own, sums, rounding)


def margin(error: float, allowed: float) -> float:
    """E(mlx) / budget, at most CAP, which stands for what no budget covers."""
    if not math.isfinite(error):
        return CAP
    return min(error / allowed, CAP)


def verdict(value: float) -> str:
    """ "pass" up to 1, "warn" (precision) up to 30, "fail" (semantic) above."""
    if value <= 1.0:
        return "pass"
    return "warn" if value <= SEMANTIC else "fail"


def rounding_ratio(pairs: Iterable[tuple[float, float]]) -> float:
    """`ratio` of the module's docstring, from (E(mlx), E(torch)) of leafs that passed."""
    finite = [(m, t) for m, t in pairs if math.isfinite(m) and math.isfinite(t)]
    torch_sum = sum(t * t for _, t in finite)
    if torch_sum == 0:
        return 1.0
    ratio = math.sqrt(sum(m * m for m, _ in finite) / torch_sum)
    return min(max(ratio, 1.0), MAX_RATIO)
