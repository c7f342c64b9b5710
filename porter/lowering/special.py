"""Special functions: porter's own where MLX has none, all computed in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from porter.ir import Value
from porter.lowering.arithmetic import names_of
from porter.lowering.creation import made
from porter.lowering.promotion import promoted
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering

#: The op's names, the function, and its arguments beside the array: first ones, then named ones.
FUNCTIONS: tuple[tuple[tuple[str, ...], str, tuple[Any, ...], dict[str, Any]], ...] = (
    (("aten.erfc", "aten.erfc_", "aten.special_erfc"), "erfc", (), {}),
    (("aten.special_erfcx", "prims.erfcx"), "erfcx", (), {}),
    (("aten.special_log_ndtr",), "log_ndtr", (), {}),
    (("aten.lgamma", "aten.special_gammaln", "prims.lgamma"), "lgamma", (), {}),
    (("aten.digamma", "aten.special_digamma", "aten.special_psi", "prims.digamma"), "digamma", (), {}),
    (("aten.i0", "aten.special_i0", "aten.special_modified_bessel_i0", "prims.bessel_i0"), "bessel_i", (0,), {}),
    (("aten.special_i1", "aten.special_modified_bessel_i1", "prims.bessel_i1"), "bessel_i", (1,), {}),
    (("aten.special_i0e", "prims.bessel_i0e"), "bessel_i", (0,), {"scaled": True}),
    (("aten.special_i1e", "prims.bessel_i1e"), "bessel_i", (1,), {"scaled": True}),
    (("aten.special_bessel_j0", "prims.bessel_j0"), "bessel_j", (0,), {}),
    (("aten.special_bessel_j1", "prims.bessel_j1"), "bessel_j", (1,), {}),
    (("aten.special_modified_bessel_k0",), "bessel_k", (0,), {}),
    (("aten.special_modified_bessel_k1",), "bessel_k", (1,), {}),
    (("aten.special_scaled_modified_bessel_k0",), "bessel_k", (0,), {"scaled": True}),
    (("aten.special_scaled_modified_bessel_k1",), "bessel_k", (1,), {"scaled": True}),
    (("aten.special_spherical_bessel_j0", "prims.spherical_bessel_j0"), "spherical_bessel_j0", (), {}),
    (("aten.special_ndtri", "prims.ndtri"), "ndtri", (), {}),
)  # fmt: skip


def _function(name: str, first: tuple[Any, ...], options: dict[str, Any]) -> Callable[..., Value]:
    def lower(call: Call, x: Value) -> Value:
        return _computed(call, name, *first, x, **options)

    return lower


def _computed(call: Call, name: str, *args: Any, **options: Any) -> Value:
    """In float32, and the result in the type that must come out."""
    build = call.build
    args = tuple(build.cast(x, "float32") if isinstance(x, Value) else x for x in args)
    result = build.op(f"fn.{name}", *args, shape=call.shape, dtype="float32", **options)
    return build.cast(result, call.dtype)


for _names, _name, _first, _options in FUNCTIONS:
    lowering(*(f"{name}.default" for name in _names))(_function(_name, _first, _options))


#: The families of orthogonal polynomials, as porter's function and torch name them.
POLYNOMIALS = {
    "t": "chebyshev_polynomial_t", "u": "chebyshev_polynomial_u", "v": "chebyshev_polynomial_v",
    "w": "chebyshev_polynomial_w", "h": "hermite_polynomial_h", "he": "hermite_polynomial_he",
    "laguerre": "laguerre_polynomial_l", "legendre": "legendre_polynomial_p",
}  # fmt: skip


def _polynomial(kind: str, is_shifted: bool) -> Callable[..., Value]:
    def lower(call: Call, x: Any, order: Any) -> Value:
        x, order = (
            item if isinstance(item, Value) else made(call, "mx.array", item, shape=(), dtype="float32")
            for item in (x, order)
        )  # fmt: skip
        x = call.build.cast(x, "float32")
        if is_shifted:  # from -1 to 1 onto 0 to 1
            x = call.build.op("-", call.build.op("*", 2, x), 1)
        return _computed(call, "orthogonal_polynomial", kind, x, order)

    return lower


for _kind, _name in POLYNOMIALS.items():
    for _shifted in (False, True) if "chebyshev" in _name else (False,):
        lowering(
            *(
                f"aten.special_{'shifted_' * _shifted}{_name}.{overload}"
                for overload in ("default", "x_scalar", "n_scalar")
            )
        )(_polynomial(_kind, _shifted))


@lowering("aten.polygamma.default", "aten.special_polygamma.default")
def polygamma(call: Call, order: int, x: Value) -> Value:
    return _computed(call, "polygamma", order, x) if order else _computed(call, "digamma", x)


@lowering(
    *(f"aten.special_zeta.{kind}" for kind in ("default", "self_scalar", "other_scalar")),
    "prims.zeta.default",
)
def zeta(call: Call, s: Any, q: Any) -> Value:
    arrays = [
        x if isinstance(x, Value) else made(call, "mx.array", x, shape=(), dtype="float32")
        for x in (s, q)
    ]
    return _computed(call, "zeta", *arrays)


@lowering(*names_of("exp2", "default"), "aten.special_exp2.default", "prims.exp2.default")
def exp2(call: Call, x: Value) -> Value:
    return call.build.op("**", 2, *promoted(call, x), shape=call.shape, dtype=call.dtype)


@lowering("aten.frexp.Tensor", "prims.frexp.default")
def frexp(call: Call, x: Value) -> list[Value]:
    """Half types are exact in float32, and so are their mantissas in the half type."""
    build = call.build
    mantissa, exponent = build.node(
        "fn.frexp", build.cast(x, "float32"), shapes=[x.shape] * 2, dtypes=["float32", "int32"]
    ).outputs
    return [build.cast(mantissa, x.dtype), exponent]


@lowering("aten.nextafter.default", "aten.nextafter_.default", "prims.nextafter.default")
def nextafter(call: Call, x: Value, other: Value) -> Value:
    if call.dtype != "float32":
        raise refuse(call, "the neighbours of a half-precision number")
    return call.build.op("fn.nextafter", x, other, shape=call.shape, dtype=call.dtype)
