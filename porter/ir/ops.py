"""What is known of MLX ops: which are elementwise, which reduce, which work along axes."""

INFIX = {"+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "&", "|", "^", "@"}

_UNARY_MX = (
    "abs arccos arccosh arcsin arcsinh arctan arctanh ceil cos cosh erf erfinv exp expm1 floor isfinite isinf isnan isneginf "
    "isposinf log log10 log1p log2 logical_not negative reciprocal round rsqrt sigmoid sign sin sinh sqrt square stop_gradient "
    "tan tanh nan_to_num degrees radians real imag conjugate bitwise_invert"
)
_BINARY_MX = (
    "maximum minimum power logical_and logical_or logaddexp arctan2 where clip add subtract multiply divide floor_divide "
    "remainder equal not_equal less less_equal greater greater_equal bitwise_and bitwise_or bitwise_xor left_shift right_shift"
)
#: What makes an array of one number.
FILLED = ("mx.zeros", "mx.ones", "mx.full")
#: Functions of mlx.nn without parameters that act on each element.
ACTIVATIONS = {
    f"nn.{name}"
    for name in (
        "relu gelu gelu_approx gelu_fast_approx silu sigmoid hardswish relu6 leaky_relu elu selu celu softplus mish softsign "
        "hard_shrink softshrink hard_tanh log_sigmoid relu2 step tanh"
    ).split()
}
#: Functions of porter's own that act on each element.
_ELEMENTWISE_FN = (
    "elu erfcx erfc log_ndtr lgamma digamma zeta nextafter hypot spherical_bessel_j0 ndtri"
)
ELEMENTWISE = (
    (INFIX - {"@"})
    | {"neg", "~", ".astype", "swiglu"}
    | {f"mx.{name}" for name in f"{_UNARY_MX} {_BINARY_MX}".split()}
    | {f"fn.{name}" for name in _ELEMENTWISE_FN.split()}
    | ACTIVATIONS
)
#: Ops with `axis=` that lose or keep that axis by `keepdims=`.
REDUCTIONS = {
    f"mx.{name}"
    for name in "sum mean max min prod all any var std argmax argmin logsumexp median".split()
} | {"mx.linalg.norm"}
#: Ops with `axis=` whose output has the input's shape or one that differs along the axis alone.
ALONG_AXIS = {
    f"mx.{name}"
    for name in "softmax cumsum cumprod cummax cummin logcumsumexp sort argsort repeat concatenate split flip".split()
} | {"nn.log_softmax", "nn.glu", "fn.average_windows", "fn.resize_linear", "fn.resize_cubic"}
#: Layers that act on the last axis and leave the others alone.
LAST_AXIS_LAYERS = {
    "nn.Linear",
    "nn.LayerNorm",
    "nn.RMSNorm",
    "mx.fast.layer_norm",
    "mx.fast.rms_norm",
    "nn.QuantizedLinear",
}
