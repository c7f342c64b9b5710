"""Special functions of float32 arrays. A&S is Abramowitz and Stegun, Handbook of Mathematical Functions."""

import math

import mlx.core as mx


def erfcx(x: mx.array) -> mx.array:
    """exp(x**2) * (1 - erf(x)): for x >= 0 a Chebyshev fit in 1 / (1 + x / 2), good to 1e-9; below by symmetry."""
    coefficients = (
        -0.03605364879, 0.2137325795, -0.5104317602, 0.5878506987, -0.2800418715, 0.02476200454, -0.06577722275,
        -0.005591836963, 0.08428571846, 0.1762389971, 0.2468368335, 0.2820947155, 0.282094792,
    )  # fmt: skip
    t = 1 / (1 + mx.abs(x) / 2)
    fit = mx.zeros_like(t)
    for coefficient in coefficients:
        fit = fit * t + coefficient
    return mx.where(x < 0, 2 * exp_square(x) - fit * t, fit * t)


def exp_square(x: mx.array, sign: int = 1) -> mx.array:
    """exp(sign * x**2) in two factors: the first exponent is exact, so a large square loses nothing to rounding."""
    high = mx.round(x * 16) / 16
    return mx.exp(sign * high * high) * mx.exp(sign * (x - high) * (x + high))


def erfc(x: mx.array) -> mx.array:
    """1 - erf(x), without the cancellation for large x."""
    tail = exp_square(mx.minimum(mx.abs(x), 27), -1) * erfcx(mx.abs(x))
    tail = mx.where(mx.isnan(x), x, mx.where(mx.abs(x) > 27, 0, tail))
    return mx.where(x < 0, 2 - tail, tail)


def log_ndtr(x: mx.array) -> mx.array:
    """The logarithm of the standard normal distribution function."""
    low = mx.log(erfcx(mx.maximum(-x, 0) * math.sqrt(0.5)) / 2) - x * x / 2
    return mx.where(x < -1, low, mx.log1p(-erfc(mx.maximum(x, -1) * math.sqrt(0.5)) / 2))


def lgamma(x: mx.array) -> mx.array:
    """log|gamma(x)|: about 2 by its Taylor series (A&S 6.1.33), above 3 by Stirling's, below 0 by reflection."""
    taylor = (
        0.3224670334, 0.06735230105, 0.02058080843, 0.007385551029, 0.002890510331, 0.001192753912, 0.0005096695247,
        0.0002231547585, 9.945751278e-5, 4.492623674e-5, 2.050721278e-5, 9.439488275e-6, 4.37486679e-6, 2.039215754e-6,
        9.55141213e-7, 4.492469199e-7, 2.120718481e-7, 1.004322482e-7, 4.769810169e-8, 2.271109461e-8, 1.083865921e-8,
        5.183475042e-9,
    )  # (zeta(k) - 1) / k for k = 2, 3, ...  # fmt: skip
    stirling = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
    y = mx.where(x < 0, 1 - x, x)
    z = mx.where(
        y < 0.5, y, mx.where(y < 1.5, y - 1, mx.minimum(y, 3) - 2)
    )  # Taylor's, from 1 or 2
    near = mx.zeros_like(z)
    for coefficient in reversed(taylor):
        near = coefficient - z * near
    near = z * ((1 - mx.euler_gamma) + z * near)
    near = mx.where(y < 1.5, near - mx.log1p(z), near)
    near = mx.where(y < 0.5, near - mx.log(y), near)
    large = mx.maximum(y, 3)
    tail = mx.zeros_like(y)
    for coefficient in reversed(stirling):
        tail = coefficient + tail / (large * large)
    far = (large - 0.5) * (mx.log(large) - 1) + (0.5 * math.log(2 * math.pi) - 0.5 + tail / large)
    value = mx.where(y < 3, near, mx.where(y == math.inf, y, far))
    sine = mx.abs(mx.sin(math.pi * (x - mx.round(x))))
    return mx.where(x < 0, math.log(math.pi) - mx.log(sine) - value, value)


def digamma(x: mx.array) -> mx.array:
    """The logarithmic derivative of gamma: shifted to 6 and above, A&S 6.3.18; below 0 by reflection."""
    series = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760)
    y = mx.where(x < 0, 1 - x, x)
    shifted = mx.zeros_like(y)
    for _ in range(6):
        shifted = mx.where(y < 6, shifted + 1 / y, shifted)
        y = mx.where(y < 6, y + 1, y)
    square = 1 / (y * y)
    tail = mx.zeros_like(y)
    for coefficient in reversed(series):
        tail = coefficient + tail * square
    value = mx.log(y) - 0.5 / y - tail * square - shifted
    rest = x - mx.round(x)
    reflected = mx.where(rest == 0, math.nan, value - math.pi / mx.tan(math.pi * rest))
    return mx.where(x < 0, reflected, mx.where(x == 0, -1 / x, value))


def zeta(s: mx.array, q: mx.array) -> mx.array:
    """The sum of (q + k)**-s over k = 0, 1, ... for q > 0: nine terms, then Euler and Maclaurin's formula (A&S 23.2.9)."""
    bernoulli = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000)
    total = mx.zeros_like(s + q)
    for k in range(9):
        total = total + (q + k) ** -s
    a = q + 9
    power = a**-s
    total = total + power * a / (s - 1) + power / 2
    factor, power = s, power / a
    for k, coefficient in enumerate(bernoulli):
        total = total + coefficient * factor * power
        factor = factor * (s + 2 * k + 1) * (s + 2 * k + 2)
        power = power / (a * a)
    outside = mx.where(q == 0, math.inf, math.nan)
    total = mx.where(q > 0, total, outside)
    return mx.where(s > 1, total, mx.where(s == 1, math.inf, math.nan))


def polygamma(order: int, x: mx.array) -> mx.array:
    """The derivative of digamma of an order from 1 on, by zeta (A&S 6.4.10), below 0 by reflection (6.4.7)."""
    y = mx.where(x < 0, 1 - x, x)
    sign = -1 if order % 2 == 0 else 1
    value = sign * math.factorial(order) * zeta(mx.array(order + 1.0), y)
    rest = x - mx.round(x)
    cotangent = 1 / mx.tan(math.pi * mx.where(rest == 0, 0.5, rest))
    powers = [0.0, 1.0]  # of the cotangent, whose derivative is -pi * (1 + cotangent**2)
    for _ in range(order):
        slopes = [k * c for k, c in enumerate(powers)][1:]
        powers = [-math.pi * (a + b) for a, b in zip([*slopes, 0, 0], [0, 0, *slopes], strict=True)]
    turned = mx.zeros_like(x)
    for coefficient in reversed(powers):
        turned = turned * cotangent + coefficient
    turned = mx.where(rest == 0, sign * math.inf, -math.pi * turned - sign * value)
    return mx.where(x < 0, turned, value)


def bessel_i(order: int, x: mx.array, scaled: bool = False) -> mx.array:
    """The modified Bessel function I of order 0 or 1, times exp(-|x|) if `scaled`: A&S 9.6.10, above 15 A&S 9.7.1."""
    y = mx.abs(x)
    near = mx.minimum(y, 15)
    series = mx.ones_like(y)
    for k in range(30, 0, -1):
        series = 1 + series * (near * near / 4) / (k * (k + order))
    if order:
        series = series * near / 2
    far = mx.maximum(y, 15)
    tail = mx.ones_like(y)
    for k in range(8, 0, -1):
        tail = 1 - tail * (4 * order**2 - (2 * k - 1) ** 2) / (k * 8 * far)
    tail = tail / mx.sqrt(2 * math.pi * far)
    value = mx.where(y < 15, series * mx.exp(-near), tail)
    if not scaled:
        value = mx.where(y < 15, series, mx.exp(far / 2) * (tail * mx.exp(far / 2)))
    return value * mx.sign(x) if order else value


def frexp(x: mx.array) -> tuple[mx.array, mx.array]:
    """Mantissas of magnitude 0.5 to 1 and exponents with x = mantissa * 2**exponent, read off the bits of a float32."""
    is_small = mx.abs(x) < 2.0**-126
    bits = mx.where(is_small, x * 2.0**24, x).view(mx.int32)
    exponent = ((bits >> 23) & 0xFF) - 126 - 24 * is_small.astype(mx.int32)
    mantissa = ((bits & ~(0xFF << 23)) | (126 << 23)).view(mx.float32)
    is_plain = mx.isfinite(x) & (x != 0)
    return mx.where(is_plain, mantissa, x), mx.where(is_plain, exponent, 0)


def nextafter(x: mx.array, other: mx.array) -> mx.array:
    """The float32 beside x in the direction of the other: its bits, as a whole number, change by one."""
    x, other = mx.broadcast_arrays(x, other)
    bits = x.view(mx.int32)
    stepped = mx.where((other > x) == (x > 0), bits + 1, bits - 1).view(mx.float32)
    least = mx.where(other > 0, mx.array(1, mx.int32), mx.array(-(2**31) + 1, mx.int32)).view(
        mx.float32
    )
    moved = mx.where(x == 0, least, stepped)
    moved = mx.where(x == other, other, moved)
    return mx.where(mx.isnan(x) | mx.isnan(other), math.nan, moved)


def hypot(x: mx.array, other: mx.array) -> mx.array:
    """sqrt(x**2 + other**2), by the larger of the two, so that no square overflows."""
    x, other = mx.abs(x), mx.abs(other)
    large, small = mx.maximum(x, other), mx.minimum(x, other)
    ratio = small / mx.where((large == 0) | (large == math.inf), 1, large)
    return mx.where(small == math.inf, small, large * mx.sqrt(1 + ratio * ratio))


def spherical_bessel_j0(x: mx.array) -> mx.array:
    """sin(x) / x, which is 1 at 0."""
    safe = mx.where(x == 0, 1, x)
    return mx.where(x == 0, 1, mx.where(mx.abs(x) == math.inf, 0, mx.sin(safe) / safe))


def bessel_j(order: int, x: mx.array) -> mx.array:
    """The Bessel function J of order 0 or 1: to 25 its integral (A&S 9.1.21) by 40 points, then Hankel's series (9.2.5)."""
    y = mx.abs(x)
    near = mx.minimum(y, 25)
    total = mx.zeros_like(y)
    for k in range(40):
        angle = math.pi * (k + 0.5) / 40
        total = total + mx.cos(order * angle - near * math.sin(angle))
    far = mx.maximum(y, 25)
    terms = [mx.ones_like(far)]
    for k in range(1, 6):
        terms.append(terms[-1] * ((4 * order**2 - (2 * k - 1) ** 2) / k) / (8 * far))
    even, odd = terms[0] - terms[2] + terms[4], terms[1] - terms[3] + terms[5]
    phase = far - (order / 2 + 0.25) * math.pi
    large = mx.sqrt(2 / (math.pi * far)) * (even * mx.cos(phase) - odd * mx.sin(phase))
    value = mx.where(y < 25, total / 40, mx.where(y == math.inf, 0, large))
    return mx.where(x < 0, -value, value) if order else value


def bessel_k(order: int, x: mx.array, scaled: bool = False) -> mx.array:
    """The modified Bessel function K of order 0 or 1, times exp(x) if `scaled`: A&S 9.6.24 by the trapezoidal rule."""
    total = mx.zeros_like(x)
    for k in range(200):
        t = 0.1 * k
        weight = math.cosh(order * t) * (0.05 if k == 0 else 0.1)
        total = total + weight * mx.exp(-x * (2 * math.sinh(t / 2) ** 2))
    total = total if scaled else total * mx.exp(-x)
    return mx.where(x > 0, total, mx.where(x == 0, math.inf, math.nan))


def ndtri(p: mx.array) -> mx.array:
    """The inverse of the standard normal distribution function; in its tails by Newton's method on its logarithm."""
    tail = mx.minimum(p, 1 - p)
    x = -mx.sqrt(-2 * mx.log(tail)) + 1.2
    for _ in range(8):
        ratio = erfcx(-x * math.sqrt(0.5)) * math.sqrt(
            math.pi / 2
        )  # the distribution over the density
        x = mx.minimum(x - (log_ndtr(x) - mx.log(tail)) * ratio, 0)
    x = mx.where(tail == 0, -math.inf, mx.where(tail < 0, math.nan, x))
    middle = math.sqrt(2) * mx.erfinv(2 * mx.clip(p, 0.2, 0.8) - 1)
    return mx.where((p > 0.2) & (p < 0.8), middle, mx.where(p > 0.5, -x, x))


def orthogonal_polynomial(kind: str, x: mx.array, order: mx.array) -> mx.array:
    """The polynomial of a family at x, of the order that `order` says for each element, by its recurrence (A&S 22.7).

    Chebyshev's are "t", "u", "v" and "w", Hermite's "h" and "he". Waits for the largest order on the host.
    """
    first = {
        "t": x,
        "u": 2 * x,
        "v": 2 * x - 1,
        "w": 2 * x + 1,
        "h": 2 * x,
        "he": x,
        "laguerre": 1 - x,
        "legendre": x,
    }
    order = mx.trunc(order.astype(mx.float32))
    before, value = mx.ones_like(x), first[kind]
    result = mx.where(order == 0, before, mx.where(order == 1, value, mx.zeros_like(x + order)))
    # S2: how many steps it takes depends on the data
    largest: int = int(order.max().item())  # type: ignore[arg-type]
    for k in range(1, largest):
        if kind == "legendre":
            after = ((2 * k + 1) * x * value - k * before) / (k + 1)
        elif kind == "laguerre":
            after = ((2 * k + 1 - x) * value - k * before) / (k + 1)
        elif kind == "he":
            after = x * value - k * before
        else:
            after = 2 * x * value - (2 * k if kind == "h" else 1) * before
        before, value = value, after
        result = mx.where(order == k + 1, value, result)
    return result
