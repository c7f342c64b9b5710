"""`lengths.max()`, where an author wants a size of it: the longest sample of a padded batch fills its array."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from porter.sources.source import Source

#: What is done to lengths one by one, and grows with them: the longest stays so.
_GROWING: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "__add__": operator.add, "__radd__": operator.add, "add_": operator.add,
    "sub": operator.sub, "__sub__": operator.sub, "sub_": operator.sub,
    "mul": operator.mul, "__mul__": operator.mul, "__rmul__": operator.mul,
    "floor_divide": operator.floordiv, "__floordiv__": operator.floordiv, "__rshift__": operator.rshift,
}  # fmt: skip
_ALIKE = {"to", "long", "int", "type", "clone", "detach", "contiguous", "cpu", "type_as"}
#: By an array's id: the array, which is kept so that no other has its id, and a size.
_Known = dict[int, tuple[Tensor, Any]]
_LARGEST = {"max", "amax"}
_MAKERS = {"arange", "zeros", "ones", "full", "empty", "new_zeros", "new_ones", "__getitem__"}
_FILLED = "where the source makes a size of the largest of its lengths, the port takes it that the longest fills its array"


@contextmanager
def longest_fills(source: Source) -> Iterator[list[str]]:
    """Sizes that are the largest of an input's lengths are the size of the axis that this is in the example.

    Yields what was taken for granted.
    """
    mode = _LongestFills(source)
    assert source.module is not None
    hook = source.module.register_forward_pre_hook(mode.begin, with_kwargs=True)
    try:
        with mode:
            yield mode.granted
    finally:
        hook.remove()


class _LongestFills(TorchFunctionMode):
    def __init__(self, source: Source) -> None:
        super().__init__()
        self.granted: list[str] = []
        self._examples = pytree.tree_leaves((source.args, source.kwargs))
        self._most = [
            int(t.max()) if isinstance(t, Tensor) and _are_lengths(t) else None
            for t in self._examples
        ]
        self._longest: _Known = {}  # of arrays of lengths
        self._numbers: _Known = {}  # arrays of one number, the largest length

    def begin(self, _: torch.nn.Module, args: Any, kwargs: Any) -> None:
        """What the forward is given, as it is traced."""
        given = pytree.tree_leaves((args, kwargs))
        if len(given) != len(self._examples):
            return
        arrays = [
            (example, traced)
            for example, traced in zip(self._examples, given, strict=True)
            if isinstance(example, Tensor) and example.ndim > 1
        ]
        for example, most, value in zip(self._examples, self._most, given, strict=True):
            if most is None:
                continue
            sizes = [
                traced.shape[axis]
                for other, traced in arrays
                if other.shape[0] == example.shape[0]
                for axis, size in enumerate(other.shape)
                if axis and size == most
            ]
            if sizes:
                free = [size for size in sizes if isinstance(size, torch.SymInt)]
                self._longest[id(value)] = value, (free or sizes)[0]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        first: Any = args[0] if args else None
        if id(first) in self._numbers and name in ("item", "__int__", "__index__"):
            number = self._number(first)
            return number if name == "item" else int(number)
        if name in _MAKERS:
            args, kwargs = self._with_numbers((args, kwargs))
        result = func(*args, **kwargs)
        for known in (self._longest, self._numbers):
            if id(first) in known and isinstance(result, Tensor):
                self._follow(known, name, known[id(first)][1], args[1:], kwargs, result)
        return result

    def _number(self, array: Tensor) -> Any:
        self.granted.append(_FILLED)
        return self._numbers[id(array)][1]

    def _follow(
        self, known: _Known, name: str, size: Any, rest: tuple, options: dict, result: Tensor
    ) -> None:
        whole = rest and isinstance(rest[0], (int, torch.SymInt)) and not isinstance(rest[0], bool)
        if name in _LARGEST and result.ndim == 0:
            self._numbers[id(result)] = result, size
        elif name in _ALIKE and not result.is_floating_point():
            known[id(result)] = result, size
        elif whole and name in _GROWING and not options:
            known[id(result)] = result, _GROWING[name](size, rest[0])
        elif whole and name in ("div", "__truediv__") and options.get("rounding_mode"):
            known[id(result)] = result, size // rest[0]

    def _with_numbers(self, tree: Any) -> Any:
        """Numbers in the place of the arrays that hold the largest length, in slices too."""
        if isinstance(tree, Tensor):
            return self._number(tree) if id(tree) in self._numbers else tree
        if isinstance(tree, slice):
            return slice(*map(self._with_numbers, (tree.start, tree.stop, tree.step)))
        if isinstance(tree, (tuple, list)) and not hasattr(tree, "_fields"):
            return type(tree)(map(self._with_numbers, tree))
        if isinstance(tree, dict):
            return {key: self._with_numbers(value) for key, value in tree.items()}
        return tree


def _are_lengths(t: Tensor) -> bool:
    return t.ndim == 1 and t.numel() > 0 and t.dtype in (torch.int64, torch.int32)
