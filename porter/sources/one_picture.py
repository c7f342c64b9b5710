"""Pictures of one size, traced together: the source's code sees one of them, and each array holds them all.

Sources take pictures of many sizes one by one, in loops over their sizes, which no graph can hold. Where all have one size,
what the code does for one it does for each: it runs once, on arrays that it takes for those of a batch of one picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

#: What tells of an array without reading it.
_FACTS = {
    "dim", "size", "numel", "nelement", "is_floating_point", "is_complex", "element_size", "stride", "is_contiguous",
    "get_device", "__len__",
}  # fmt: skip
#: What gives the same sizes, in another type or place.
_CONVERSIONS = {
    "to", "type", "float", "half", "bfloat16", "int", "long", "bool", "double", "type_as", "contiguous", "clone", "detach",
    "cpu",
}  # fmt: skip
#: What asks for numbers.
_READS = {"tolist", "item", "__bool__", "__int__", "__float__", "__index__"}
#: What has no numbers that could be known.
_UNKNOWN = ("empty", "rand", "normal", "bernoulli", "multinomial")

Rule = Callable[[Any, tuple, dict, Any], Any]


class NotOnePicture(TypeError):
    """The source does something with a picture's array for which there is no rule."""


class OnePicture(torch.Tensor):
    """What the source takes for an array of one picture, of shape `sizes`.

    `every` is that of all pictures: (pictures, *sizes), or with the first axis in the pictures', as samples are: a batch of one
    always, and a batch of parts of a picture where samples are what the array was made of.
    `known` is the array of an example, where it depends on the pixels alone.
    """

    every: torch.Tensor
    sizes: tuple[int, ...]
    pictures: Any
    known: torch.Tensor | None

    @staticmethod
    def __new__(
        cls: Any, every: torch.Tensor, sizes: tuple[int, ...], pictures: Any, known: Any = None
    ) -> OnePicture:
        one: OnePicture = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, sizes, dtype=every.dtype, device=every.device
        )
        one.every, one.sizes, one.pictures, one.known = every, sizes, pictures, known
        return one

    @property
    def folded(self) -> bool:
        """Whether the first axis is in the pictures'."""
        return self.every.ndim == len(self.sizes)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.__name__
        if name == "__get__":
            name = func.__self__.__name__
            if name == "data":
                return args[0]
            if name not in ("T", "mT"):
                name = "dim"
        if name in _FACTS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if name in _READS:
            return _read(name, args[0])
        if name.startswith("new_"):  # an array that all pictures share
            return func(args[0].every, *args[1:], **kwargs)
        return _done(name, func, args, kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise NotOnePicture(f"{func} has no rule")


def _read(name: str, one: OnePicture) -> Any:
    if one.known is None:
        raise NotOnePicture(f"{name} reads numbers that depend on the weights")
    with as_is():
        return getattr(one.known, name)()


def _done(name: str, func: Any, args: tuple, kwargs: dict) -> Any:
    from porter.sources.picture_rules import RULES, pictures_of

    rule: Rule | None = RULES.get(name) or RULES.get(name.removesuffix("_"))
    if rule is None:
        raise NotOnePicture(f"{name} has no rule")
    if name in ("__getitem__", "__setitem__"):
        args = (args[0], _places(args[0], args[1]), *args[2:])
    sizes = _sizes(func, args, kwargs)
    found = rule(func, args, kwargs, sizes)
    known = _known(func, args, kwargs)
    if sizes is None:
        return found
    if isinstance(sizes, tuple):
        if name.endswith("_") and not name.endswith("__"):  # in place
            return args[0]
        return _wrapped(found, sizes, known, pictures_of(args))
    rows = known if known is not None else [None] * len(sizes)
    return tuple(_wrapped(*row, pictures_of(args)) for row in zip(found, sizes, rows, strict=True))


def _wrapped(every: Any, sizes: tuple[int, ...], known: torch.Tensor | None, pictures: Any) -> Any:
    if sizes[:1] == (1,) and every.ndim > len(sizes):
        every = every.squeeze(1)
    first, inner = pictures, sizes
    if every.ndim == len(sizes):
        first, inner = pictures * sizes[0], sizes[1:]
    if str(every.shape[0]) != str(first) or tuple(every.shape[1:]) != inner:
        raise NotOnePicture(f"{tuple(every.shape)} for {sizes} of each picture")
    return OnePicture(every, sizes, pictures, known)


def _sizes(func: Any, args: tuple, kwargs: dict) -> Any:
    """The sizes of what the function gives for one picture; a list of them where it gives several arrays."""

    def bare(tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(tensor, OnePicture):
            return torch.empty(tensor.sizes, dtype=tensor.dtype, device="meta")
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

    if func.__name__ in _CONVERSIONS:
        return args[0].sizes
    if _indexes(func) and any(isinstance(t, OnePicture) for t in pytree.tree_leaves(args[1])):
        return _chosen_sizes(*args)
    with as_is():
        args, kwargs = pytree.tree_map_only(torch.Tensor, bare, (args, kwargs))
        kwargs = {name: "meta" if name == "device" else value for name, value in kwargs.items()}
        found = func(*args, **kwargs)
    if isinstance(found, torch.Tensor):
        return tuple(found.shape)
    return None if found is None else [tuple(one.shape) for one in found]


def _indexes(func: Any) -> bool:
    return func.__name__ == "__getitem__"


def _places(array: Any, index: Any) -> Any:
    """The index with places for conditions that are the same for every picture; whole axes where these always hold."""
    items = [*index] if isinstance(index, tuple) else [index]
    found: list[Any] = []
    for item in items:
        if type(item) is not torch.Tensor or item.dtype != torch.bool:
            found.append(item)
            continue
        with as_is():
            whole = item.ndim == 1 and bool(item.all())
            found += [slice(None)] if whole else item.nonzero(as_tuple=True)
    return tuple(found) if len(found) > 1 or isinstance(index, tuple) else found[0]


def _chosen_sizes(array: Any, index: Any) -> tuple[int, ...]:
    """Of rows that a picture's own numbers choose: all, or a table's for whole numbers."""
    if not isinstance(index, OnePicture):
        raise NotOnePicture("several indices, some of which depend on the picture")
    if index.dtype != torch.bool:
        return index.sizes + tuple(array.shape[1:])
    with as_is():
        chosen = index.known is not None and bool(index.known.all())
    if not chosen:
        raise NotOnePicture("rows are chosen by what a picture shows")
    return tuple(array.sizes if isinstance(array, OnePicture) else array.shape)


def _known(func: Any, args: tuple, kwargs: dict) -> Any:
    """What the function gives for the example picture; None where that depends on weights."""
    leaves = pytree.tree_leaves((args, kwargs))
    for leaf in leaves:
        if isinstance(leaf, OnePicture):
            if leaf.known is None:
                return None
        elif isinstance(leaf, torch.Tensor) and type(leaf) is not torch.Tensor:
            return None
    with as_is():
        args, kwargs = pytree.tree_map_only(OnePicture, lambda one: one.known, (args, kwargs))
        return func(*args, **kwargs)


class as_is:  # noqa: N801
    """Within it torch computes, and nothing is traced."""

    def __enter__(self) -> None:
        self._modes, self._functions = _disable_current_modes(), torch._C.DisableTorchFunction()
        self._modes.__enter__()
        self._functions.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._functions.__exit__(*error)
        self._modes.__exit__(*error)


class _Constants(TorchFunctionMode):
    """What depends on no weight and no pixel is computed at once: the sizes of the picture, and what follows from them."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        leaves = pytree.tree_leaves((args, kwargs))
        symbolic = any(isinstance(leaf, torch.SymInt) for leaf in leaves)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        unknown = not tensors and func.__name__.startswith(_UNKNOWN)
        if symbolic or unknown or any(type(tensor) is not torch.Tensor for tensor in tensors):
            args, kwargs = _numbers((args, kwargs))
            chosen = _chosen(func, args) if not kwargs else None
            return func(*args, **kwargs) if chosen is None else chosen
        with as_is():
            return func(*args, **kwargs)


def _numbers(tree: Any) -> Any:
    """With whole numbers for arrays that hold one: they are sizes and places."""

    def number(leaf: Any) -> Any:
        if isinstance(leaf, slice):
            return slice(*(number(part) for part in (leaf.start, leaf.stop, leaf.step)))
        if type(leaf) is not torch.Tensor:
            return leaf
        with as_is():
            whole = leaf.ndim == 0 and not leaf.is_floating_point() and leaf.dtype != torch.bool
            return int(leaf) if whole else leaf

    return pytree.tree_map(number, tree)


def _chosen(func: Any, args: tuple) -> Any:
    """What is taken everywhere, where a condition that is the same for every picture is the same at every place."""
    if func.__name__ == "where" and len(args) == 3:
        condition, yes, no = args
    elif func.__name__ == "masked_fill":
        no, condition, yes = args
    else:
        return None
    if type(condition) is not torch.Tensor:
        return None
    with as_is():
        found = yes if bool(condition.all()) else None if bool(condition.any()) else no
    shapes = [tuple(x.shape) for x in (condition, yes, no) if isinstance(x, torch.Tensor)]
    same = isinstance(found, torch.Tensor) and tuple(found.shape) == torch.broadcast_shapes(*shapes)
    types = {x.dtype for x in (yes, no) if isinstance(x, torch.Tensor)}
    return found if same and len(types) == 1 else None


def of_every_picture(
    function: Callable[..., Any], pixels: torch.Tensor, shape: tuple[int, ...], **sizes: Any
) -> Any:
    """What `function(pixels, **sizes)` gives for all `pixels` (pictures, ...), though it takes one picture of that shape.

    `sizes` are lists of numbers, of which arrays are made. The pictures' arrays are put together along their first axis.
    """
    with as_is():
        example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        known = {name: torch.tensor(value) for name, value in sizes.items()}
    inner = shape[1:] if shape[:1] == (1,) else shape
    count = pixels.shape[0]
    one = OnePicture(pixels.reshape(count, *inner), shape, count, example)
    with _Constants():
        found = function(one, **known)
        return pytree.tree_map_only(OnePicture, joined, found)


def joined(one: OnePicture) -> torch.Tensor:
    """The arrays of all pictures, one behind the other."""
    return one.every if one.folded or not one.sizes else one.every.flatten(0, 1)
