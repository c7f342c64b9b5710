"""What torch.export need not work out: half of its time in a convolutional network with symbolic sizes.

Norms, activations and softmax have their input's shape, which torch finds by running their decompositions; what it notes beside
each result (`tensor_meta`) nobody reads, and its memory of earlier results costs more than it saves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch._dynamo.config as settings
from torch import Tensor
from torch._decomp import decomposition_table
from torch.fx.experimental import proxy_tensor

aten = torch.ops.aten
#: Of one array of floats, whose result has its shape and type.
_ELEMENTWISE = (
    aten.elu.default, aten.gelu.default, aten.hardsigmoid.default, aten.hardswish.default, aten.hardtanh.default,
    aten.leaky_relu.default, aten.mish.default, aten.softplus.default, aten.clamp_min.default, aten.rsqrt.default,
    aten.pow.Tensor_Scalar, aten.relu.default, aten.silu.default, aten.sigmoid.default, aten.tanh.default, aten.exp.default,
    aten.sqrt.default, aten.neg.default, aten.abs.default, aten.sin.default, aten.cos.default, aten.log.default,
)  # fmt: skip


@contextmanager
def quick_fakes() -> Iterator[None]:
    """While it lasts, torch's fake tensors skip all that; undone at the end."""
    table: dict[Any, Any] = decomposition_table  # type: ignore[assignment]
    metadata = proxy_tensor._extract_tensor_metadata
    kept = {op: table[op] for op in _QUICK}
    try:
        table |= {op: _or_worked_out(quick, kept[op]) for op, quick in _QUICK.items()}
        proxy_tensor._extract_tensor_metadata = lambda *_, **__: None  # type: ignore[assignment,return-value]
        with settings.patch(fake_tensor_cache_enabled=False):
            yield
    finally:
        proxy_tensor._extract_tensor_metadata = metadata
        table |= kept


def _or_worked_out(quick: Callable[..., Any], worked_out: Callable[..., Any]) -> Any:
    """The quick result on a dense array, where there is one, else the decomposition's."""

    @functools.wraps(worked_out)  # torch goes by where a decomposition is from
    def run(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        found = quick(x, *args, **kwargs) if _is_dense(x) else None
        return worked_out(x, *args, **kwargs) if found is None else found

    return run


def _elementwise(x: Tensor, *_: Any, **__: Any) -> Tensor | None:
    return _like(x) if x.is_floating_point() else None


def _softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor | None:
    return x.new_empty(x.shape) if x.is_floating_point() and dtype is None else None


def _batch_norm(x: Tensor, *_: Any) -> tuple[Tensor, ...]:
    statistic = x.new_empty(0)
    return _like(x), statistic, statistic


def _layer_norm(x: Tensor, shape: list[Any], *_: Any) -> tuple[Tensor, ...] | None:
    outer = x.ndim - len(shape)
    sizes = [*x.shape[outer:]]
    if not all(isinstance(size, int) for size in (*sizes, *shape)) or sizes != [*shape]:
        return None  # torch says what does not fit
    statistic = x.new_empty([*x.shape[:outer], *(1 for _ in shape)])
    return _like(x), statistic, statistic


def _group_norm(
    x: Tensor, weight: Any, bias: Any, batch: Any, channels: Any, area: Any, groups: int, *_: Any
) -> tuple[Tensor, ...]:
    statistic = x.new_empty([batch, groups])
    return _like(x), statistic, statistic


_QUICK: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    aten._safe_softmax.default: _softmax,
    aten._native_batch_norm_legit_no_training.default: _batch_norm,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_group_norm.default: _group_norm,
}


def _like(x: Tensor) -> Tensor:
    return x.new_empty_strided(x.shape, x.stride())


def _is_dense(x: Tensor) -> bool:
    """Whether the elements lie one beside the other, in some order of axes, at the traced sizes."""
    known = [
        [n.node.hint if isinstance(n, torch.SymInt) else n for n in numbers]
        for numbers in (x.stride(), x.shape)
    ]
    if any(n is None for numbers in known for n in numbers):
        return False
    expected = 1
    for stride, size in sorted(zip(*known, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
