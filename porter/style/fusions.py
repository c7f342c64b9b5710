"""S6, S7 and S9: what mlx has a name for is called by it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from porter.style.finding import Finding
from porter.style.reading import (
    Flow,
    Reading,
    commuted,
    dotted,
    is_call,
    is_number,
    operand,
    same,
)

Match = Callable[[ast.AST, Flow], str | None]


def check_attention(reading: Reading) -> Iterator[Finding]:
    """S6: no softmax between two matmuls, unless the scores or the weights are read elsewhere, or changed in between."""
    for _, flow in reading.forwards:
        for node in ast.walk(flow.function):
            weights = _left_of_matmul(node)
            softmax = _through_casts(flow, weights)
            if not is_call(softmax, "softmax") or not _alone(flow, weights):
                continue
            assert isinstance(softmax, ast.Call)
            if _is_scores(flow, operand(softmax)):
                yield Finding("S6", softmax.lineno, "softmax attention is spelled out")


def _left_of_matmul(node: ast.AST) -> ast.expr | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        return node.left
    if isinstance(node, ast.Call) and dotted(node.func) == "mx.matmul" and node.args:
        return node.args[0]
    return None


def _alone(flow: Flow, node: ast.expr | None) -> bool:
    value = flow.resolve(node)
    return value is None or flow.read_once(value)


def _through_casts(flow: Flow, node: ast.expr | None) -> ast.expr | None:
    node = flow.resolve(node)
    while is_call(node, "astype"):
        assert isinstance(node, ast.Call)
        node = flow.resolve(operand(node))
    return node


def _is_scores(flow: Flow, node: ast.expr | None, depth: int = 0) -> bool:
    """Whether a matmul lies behind scales, masks and casts, each of them read once."""
    if node is None or depth > 8 or not _alone(flow, node):
        return False
    node = _through_casts(flow, node)
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.MatMult):
            return True
        if isinstance(node.op, (ast.Add, ast.Mult, ast.Div)):
            return any(_is_scores(flow, side, depth + 1) for side in (node.left, node.right))
    if isinstance(node, ast.Call):
        if dotted(node.func) == "mx.matmul":
            return True
        if dotted(node.func) == "mx.where":
            return any(_is_scores(flow, side, depth + 1) for side in node.args[1:])
    return False


def check_heads(reading: Reading) -> Iterator[Finding]:
    """S7: no keys or values repeated for the query heads of their group."""
    for _, flow in reading.forwards:
        for node in ast.walk(flow.function):
            if not is_call(node, "scaled_dot_product_attention"):
                continue
            assert isinstance(node, ast.Call)
            for argument in node.args[1:3]:
                value = flow.resolve(argument)
                if is_call(value, "reshape"):
                    assert isinstance(value, ast.Call)
                    value = flow.resolve(operand(value))
                if is_call(value, "repeat", "tile", "broadcast_to"):
                    yield Finding("S7", argument.lineno, "keys or values are repeated")


def check_patterns(reading: Reading) -> Iterator[Finding]:
    """S9: nothing is left that a function or a layer of mlx computes."""
    for _, flow in reading.forwards:
        for node in ast.walk(flow.function):
            for match in _PATTERNS:
                sentence = match(node, flow)
                if sentence:
                    yield Finding("S9", getattr(node, "lineno", 0), sentence)
                    break


def _silu(node: ast.AST, flow: Flow) -> str | None:
    for x, gate in commuted(node, ast.Mult):
        gate_value = flow.resolve(gate)
        if is_call(gate_value, "sigmoid"):
            assert isinstance(gate_value, ast.Call)
            argument = operand(gate_value)
            if same(x, argument):
                return "x * sigmoid(x) is nn.silu(x)"
            if any(
                is_number(factor, 1.702) and same(x, other)
                for factor, other in commuted(flow.resolve(argument), ast.Mult)
            ):
                return "x * sigmoid(1.702 x) is nn.gelu_fast_approx(x)"
    return None


def _gelu(node: ast.AST, flow: Flow) -> str | None:
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Add):
        return None
    for one, inner in commuted(node, ast.Add):
        value = flow.resolve(inner)
        if not is_number(one, 1.0) or not is_call(value, "erf", "tanh"):
            continue
        assert isinstance(value, ast.Call)
        text = ast.unparse(flow.resolve(operand(value)) or node)
        if is_call(value, "erf"):
            return "x / 2 * (1 + erf(x / sqrt(2))) is nn.gelu(x)"
        if "0.044715" in text or "0.0447" in text:
            return "the tanh form of GELU is nn.gelu_approx(x)"
    return None


def _norm(node: ast.AST, flow: Flow) -> str | None:
    """x * rsqrt(mean(x^2) + eps), and (x - mean) / sqrt(var + eps) unless the mean or the root is read elsewhere."""
    root: ast.expr | None = None
    if is_call(node, "rsqrt"):
        root = flow.resolve(operand(node))  # type: ignore[arg-type]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        right = flow.resolve(node.right)
        centered = flow.resolve(node.left)
        mean = centered.right if isinstance(centered, ast.BinOp) else None
        if is_call(right, "sqrt") and _alone(flow, node.right) and _alone(flow, mean):
            root = flow.resolve(operand(right))  # type: ignore[arg-type]
    for total, eps in commuted(root, ast.Add):
        value = flow.resolve(total)
        if is_number(flow.resolve(eps)) or dotted(eps).rpartition(".")[2] in ("eps", "norm_eps"):
            if is_call(value, "mean") and _is_square(flow, operand(value)):  # type: ignore[arg-type]
                return "a root mean square norm is nn.RMSNorm or mx.fast.rms_norm"
            if is_call(value, "var") and not _is_unbiased(value):
                return "a norm by mean and variance is nn.LayerNorm, nn.GroupNorm or mx.fast.layer_norm"
    return None


def _is_unbiased(variance: ast.expr | None) -> bool:
    keywords = variance.keywords if isinstance(variance, ast.Call) else []
    return any(keyword.arg == "ddof" and is_number(keyword.value, 1) for keyword in keywords)


def _is_square(flow: Flow, node: ast.expr | None) -> bool:
    node = flow.resolve(node)
    if isinstance(node, ast.BinOp):
        power = isinstance(node.op, ast.Pow) and is_number(node.right, 2)
        return power or (isinstance(node.op, ast.Mult) and same(node.left, node.right))
    return is_call(node, "square")


def _rope(node: ast.AST, flow: Flow) -> str | None:
    """concatenate([-x2, x1]) with x1 and x2 parts of one array."""
    if not is_call(node, "concatenate"):
        return None
    assert isinstance(node, ast.Call)
    parts = node.args[0] if node.args else None
    if not isinstance(parts, (ast.List, ast.Tuple)) or len(parts.elts) != 2:
        return None
    first = flow.resolve(parts.elts[0])
    second = flow.resolve(parts.elts[1])
    if not isinstance(first, ast.UnaryOp) or not isinstance(first.op, ast.USub):
        return None
    inner = flow.resolve(first.operand)
    halves = isinstance(inner, ast.Subscript) and isinstance(second, ast.Subscript)
    if halves and same(inner.value, second.value):  # type: ignore[union-attr]
        return "a rotated half is mx.fast.rope"
    return None


def _log_softmax(node: ast.AST, flow: Flow) -> str | None:
    if not isinstance(node, ast.Call) or dotted(node.func) != "mx.log":
        return None
    found = is_call(flow.resolve(operand(node)), "softmax")
    return "log(softmax(x)) is nn.log_softmax(x)" if found else None


def _identity(node: ast.AST, flow: Flow) -> str | None:
    """What changes nothing."""
    if isinstance(node, ast.BinOp) and is_number(node.right):
        if isinstance(node.op, (ast.Mult, ast.Div)) and is_number(node.right, 1):
            return None if isinstance(node.left, ast.Constant) else "multiplies by 1"
        if isinstance(node.op, (ast.Add, ast.Sub)) and is_number(node.right, 0):
            return "adds 0"
    if is_call(node, "transpose") and isinstance(node, ast.Call):
        inner = flow.resolve(operand(node))
        outer_axes, inner_axes = _axes(node), _axes(inner)
        if outer_axes and inner_axes and len(outer_axes) == len(inner_axes):
            return "two transposes in a row are one"
    if is_call(node, "reshape") and isinstance(node, ast.Call):
        inner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if is_call(inner, "reshape"):
            return "two reshapes in a row are one"
    return None


def _axes(node: ast.expr | None) -> list[int]:
    if not is_call(node, "transpose"):
        return []
    assert isinstance(node, ast.Call)
    return [a.value for a in node.args if isinstance(a, ast.Constant) and type(a.value) is int]


_PATTERNS: tuple[Match, ...] = (_silu, _gelu, _norm, _rope, _log_softmax, _identity)
