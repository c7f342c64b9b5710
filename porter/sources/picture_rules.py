"""How torch's functions act on an array that holds every picture while the source sees one; see one_picture.py."""

from __future__ import annotations

from itertools import pairwise
from string import ascii_letters
from typing import Any

import torch
from torch.utils import _pytree as pytree

from porter.sources.one_picture import NotOnePicture, OnePicture, Rule, as_is


def _parted(x: Any) -> Any:
    """(pictures, *sizes); an array that is the same for every picture gets an axis for them."""
    if not isinstance(x, OnePicture):
        return x.unsqueeze(0)
    if not x.folded:
        return x.every
    if x.sizes[0] == 1:
        return x.every.unsqueeze(1)
    return x.every.unflatten(0, (x.pictures, x.sizes[0]))


def _widened(array: Any, rank: int) -> Any:
    """With `rank` axes, the new ones behind the first, so that it broadcasts with others."""
    while array.ndim < rank:
        array = array.unsqueeze(1)
    return array


def _together(tree: Any, sizes: tuple[int, ...]) -> Any:
    """The arrays of all pictures for those of one that broadcast to `sizes`: where all can, the first axis in the pictures'."""
    leaves = [x for x in pytree.tree_leaves(tree) if isinstance(x, torch.Tensor)]
    rank = len(sizes)

    def fits(x: torch.Tensor) -> bool:
        if isinstance(x, OnePicture) and len(x.sizes) == rank:
            return x.folded and x.sizes[0] == sizes[0]
        if isinstance(x, OnePicture):  # of fewer axes: the pictures come first in both
            return not x.folded and sizes[0] == 1
        return x.ndim < rank or x.shape[0] == 1

    if rank and all(fits(x) for x in leaves):
        return pytree.tree_map_only(OnePicture, lambda x: _widened(x.every, rank), tree)
    return pytree.tree_map_only(OnePicture, lambda x: _widened(_parted(x), rank + 1), tree)


def pictures_of(tree: Any) -> Any:
    """How many there are."""
    return next(x.pictures for x in pytree.tree_leaves(tree) if isinstance(x, OnePicture))


def _elementwise(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    args, kwargs = _together((args, kwargs), sizes)
    return func(*args, **kwargs)


def _last_axes(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    args, kwargs = pytree.tree_map_only(OnePicture, lambda x: x.every, (args, kwargs))
    return func(*args, **kwargs)


def _along(place: int, keyword: str = "dim", default: Any = None) -> Rule:
    """A function along an axis, or several, that stand at `place` among its arguments."""

    def rule(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
        x, rest, kwargs = args[0], [*args], dict(kwargs)
        given = rest[place] if len(rest) > place else kwargs.get(keyword, default)
        if not isinstance(x, OnePicture):
            raise NotOnePicture(f"{func.__name__} of an array by those of a picture")
        count = len(x.sizes)
        if given is None:
            axes = list(range(count))
        else:
            axes = [d % count for d in (given if isinstance(given, (tuple, list)) else [given])]
        if x.folded and 0 not in axes:
            rest[0] = x.every
        else:
            rest[0], axes = _parted(x), [d + 1 for d in axes]
        found = axes[0] if isinstance(given, int) else tuple(axes)
        if len(rest) > place:
            rest[place] = found
        else:
            kwargs[keyword] = found
        if any(isinstance(y, OnePicture) and y.folded != (rest[0] is x.every) for y in rest[1:]):
            raise NotOnePicture(f"{func.__name__} of arrays of different forms")
        others = [y.every if isinstance(y, OnePicture) else y for y in rest[1:]]
        return func(rest[0], *others, **kwargs)

    return rule


def _reshaped(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    x = args[0]
    if x.folded and sizes[:1] == x.sizes[:1]:
        first, inner = x.every.shape[0], sizes[1:]
    else:
        first, inner = x.pictures, sizes[1:] if sizes[:1] == (1,) else sizes
    same = str(x.every.shape[0]) == str(first) and tuple(x.every.shape[1:]) == inner
    return x.every if same else x.every.reshape(first, *inner)


def _reordered(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    x = args[0]
    with as_is():  # where each axis goes
        marks = torch.empty(tuple(range(2, 2 + len(x.sizes))), device="meta")
        order = [size - 2 for size in func(marks, *args[1:], **kwargs).shape]
    if x.folded and order[0] == 0:
        return x.every.permute(order)
    return _parted(x).permute(0, *(place + 1 for place in order))


def _expanded(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    x = args[0]
    if x.folded and len(x.sizes) == len(sizes) and x.sizes[0] == sizes[0]:
        return x.every.expand(x.every.shape[0], *sizes[1:])
    return _widened(_parted(x), 1 + len(sizes)).expand(x.pictures, *sizes)


def _repeated(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    times = args[1] if isinstance(args[1], (tuple, list)) else args[1:]
    return _widened(_parted(args[0]), 1 + len(sizes)).repeat(1, *times)


def _joined(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    arrays, count = args[0], len(sizes)
    axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % count
    pictures = pictures_of(arrays)
    if axis and all(x.folded for x in arrays if isinstance(x, OnePicture)):
        return func([_of_samples(x, pictures) for x in arrays], axis)
    return func([_of_pictures(x, pictures) for x in arrays], axis + 1)


def _of_pictures(x: Any, pictures: Any) -> Any:
    return _parted(x) if isinstance(x, OnePicture) else x.expand(pictures, *x.shape)


def _of_samples(x: Any, pictures: Any) -> Any:
    """With the first axis in the pictures'."""
    if isinstance(x, OnePicture):
        return x.every
    if x.shape[0] == 1 or x.stride(0) == 0:  # one for all
        return x[:1].expand(pictures * x.shape[0], *x.shape[1:])
    return x.expand(pictures, *x.shape).flatten(0, 1)


def _batched(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    """Samples, channels, and space."""
    if func is torch.Tensor.unfold:
        return _along(1, "dimension")(func, args, kwargs, sizes)
    x, *rest = args
    space = next((int(letter) for letter in func.__name__ if letter.isdigit()), None)
    alone = space is not None and len(x.sizes) == space + 1  # without an axis of samples
    if x.folded or alone or func.__name__ == "pad":
        return func(x.every, *rest, **kwargs)
    return func(x.every.flatten(0, 1), *rest, **kwargs)


def _attention(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    *arrays, mask = (*args, None)[:4] if len(args) < 4 else args[:4]
    rest, kwargs = args[4:], dict(kwargs)
    mask = kwargs.pop("attn_mask", mask)
    if _hides_nothing(mask):
        mask = None
    own = isinstance(mask, OnePicture)
    if own and (len(sizes) < 4 or len(mask.sizes) < 4 or mask.sizes[0] != sizes[0]):
        raise NotOnePicture("attention with a mask that depends on the picture")
    if len(sizes) < 4:
        return func(*(_parted(x) for x in arrays), mask, *rest, **kwargs)
    if mask is not None and not own and mask.ndim == 4 and mask.shape[0] != 1:
        raise NotOnePicture("attention with a mask for each part of a picture")
    pictures = pictures_of(arrays)

    def samples(x: Any) -> Any:
        if isinstance(x, OnePicture) and x.folded:
            return x.every
        return _of_pictures(x, pictures).flatten(0, 1)

    mask = samples(mask) if own else mask
    return func(*(samples(x) for x in arrays), mask, *rest, **kwargs)


def _multihead(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    """What nn.MultiheadAttention calls: samples stand second in queries, keys and values, and first in masks."""
    pictures = pictures_of((args, kwargs))

    def every(x: Any) -> Any:
        parted = _parted(x)
        return parted.expand(pictures, *parted.shape[1:])

    given = [every(x).movedim(0, 1).flatten(1, 2) for x in args[:3]]
    for name in ("key_padding_mask", "attn_mask"):
        mask = kwargs.get(name)
        if mask is not None and (name == "key_padding_mask" or mask.dim() == 3):
            kwargs = kwargs | {name: every(mask).flatten(0, 1)}
    found, weights = func(*given, *args[3:], **kwargs)
    samples = (pictures, args[0].shape[1])
    return [found.unflatten(1, samples).movedim(1, 0), weights.unflatten(0, samples)]


def _hides_nothing(mask: Any) -> bool:
    if type(mask) is not torch.Tensor:
        return False
    with as_is():
        return bool(mask.all() if mask.dtype == torch.bool else (mask == 0).all())


def _product(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    if any(len(x.shape) < 2 for x in args):
        raise NotOnePicture("a product with a row of numbers")
    first, second = args if func.__name__ != "__rmatmul__" else args[::-1]
    if len(sizes) > 2:
        return torch.matmul(*_together((first, second), (*sizes[:-2], 0, 0)))
    return torch.matmul(*(_parted(x) if isinstance(x, OnePicture) else x for x in (first, second)))


def _einsum(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    equation, *operands = args
    operands = [*operands[0]] if isinstance(operands[0], (list, tuple)) else operands
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    if not arrow or "." in equation:
        raise NotOnePicture(f"einsum of {equation}")
    axes = inputs.split(",")
    own = [isinstance(x, OnePicture) for x in operands]
    firsts = {letters[0] for letters, mine in zip(axes, own, strict=True) if mine}
    shared = "".join(letters for letters, mine in zip(axes, own, strict=True) if not mine)
    folded = all(x.folded for x in operands if isinstance(x, OnePicture))
    if folded and firsts == {*output[:1]} and not firsts & {*shared}:
        return func(equation, *(x.every if isinstance(x, OnePicture) else x for x in operands))
    free = next(letter for letter in ascii_letters if letter not in equation)
    axes = [free + letters if mine else letters for letters, mine in zip(axes, own, strict=True)]
    parts = (_parted(x) if isinstance(x, OnePicture) else x for x in operands)
    return func(f"{','.join(axes)}->{free}{output}", *parts)


def _looked_up(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    places, table, *rest = args
    if isinstance(table, OnePicture) or not isinstance(places, OnePicture):
        raise NotOnePicture("a table that depends on the picture")
    return func(places.every, table, *rest, **kwargs)


def _item(func: Any, args: tuple, kwargs: dict, sizes: Any) -> Any:
    x, index = args
    if isinstance(index, OnePicture):
        if index.dtype != torch.bool:
            return x[index.every]
        return x.every if isinstance(x, OnePicture) else _of_pictures(x, index.pictures)
    items = _items(x, index)
    if _all_in_turn(x, items):
        return _reshaped(func, args, kwargs, sizes)
    first = items[0] if items else None
    if x.folded and x.sizes[0] == 1 and isinstance(first, int):
        return x.every[(slice(None), *items[1:])]
    if x.folded and isinstance(first, slice) and first.indices(x.sizes[0]) == (0, x.sizes[0], 1):
        return x.every[(slice(None), *items[1:])]
    return _parted(x)[(slice(None), *items)]


def _all_in_turn(x: OnePicture, items: tuple[Any, ...]) -> bool:
    """Whether the places are all that the first axes have, in their order."""
    if len(items) < 2 or any(type(item) is not torch.Tensor for item in items):
        return False
    with as_is():
        every = torch.cartesian_prod(*(torch.arange(size) for size in x.sizes[: len(items)]))
        return torch.equal(torch.stack(items, dim=-1), every)


def _items(x: OnePicture, index: Any) -> tuple[Any, ...]:
    """The indices without `...`."""
    items = [*index] if isinstance(index, tuple) else [index]
    items = [torch.tensor(item) if isinstance(item, list) else item for item in items]
    taken = sum(item is not None and item is not Ellipsis for item in items)
    if any(item is Ellipsis for item in items):
        place = next(i for i, item in enumerate(items) if item is Ellipsis)
        items[place : place + 1] = [slice(None)] * (len(x.sizes) - taken)
    arrays = [i for i, item in enumerate(items) if isinstance(item, torch.Tensor)]
    if arrays and (len(arrays) > 1 + arrays[-1] - arrays[0] or any(type(i) is int for i in items)):
        raise NotOnePicture("indices that are not side by side")
    if any(b - a > 1 for a, b in pairwise(arrays)):
        raise NotOnePicture("indices that are not side by side")
    return tuple(items)


def _assigned(func: Any, args: tuple, kwargs: dict, sizes: Any) -> None:
    x, index, value = args
    if not isinstance(x, OnePicture):
        raise NotOnePicture("a picture's numbers are written into an array that all pictures share")
    places = (slice(None), *_items(x, index))
    part = _parted(x)
    part[places] = (
        _widened(_parted(value), part[places].ndim) if isinstance(value, OnePicture) else value
    )


def _named(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **_named(
        _elementwise,
        "add sub mul div true_divide floor_divide remainder pow neg abs exp log sqrt rsqrt sin cos tanh sigmoid erf square "
        "__add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ __mul__ __rmul__ __imul__ __truediv__ __rtruediv__ __itruediv__ "
        "rsub __rdiv__ __div__ __idiv__ __floordiv__ __mod__ __pow__ __rpow__ __neg__ __abs__ __invert__ __and__ __or__ "
        "__xor__ relu relu6 gelu silu mish elu leaky_relu hardswish hardsigmoid hardtanh softplus clamp clamp_min "
        "clamp_max clip minimum maximum where masked_fill eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ "
        "logical_not logical_and logical_or to type float half bfloat16 int long bool double type_as contiguous clone "
        "detach dropout lerp round floor ceil zeros_like ones_like full_like empty_like isnan reciprocal addcmul cpu",
    ),
    **_named(_last_axes, "linear layer_norm rms_norm view_as_complex view_as_real"),
    **_named(
        _along(1),
        "softmax log_softmax mean sum amax amin max min argmax argmin var std cumsum prod all any select "
        "narrow logsumexp index_select gather",
    ),
    **_named(_along(1, default=0), "unbind"),
    **_named(_along(2, default=0), "split chunk split_with_sizes tensor_split"),
    **_named(_along(1, "dims"), "flip"),
    **_named(_along(2, "dims"), "roll"),
    **_named(_along(2), "repeat_interleave norm"),
    **_named(_along(2, default=1), "normalize"),
    **_named(_along(1, default=-1), "glu"),
    **_named(_reshaped, "view reshape flatten unflatten squeeze unsqueeze view_as reshape_as ravel"),
    **_named(_reordered, "permute transpose t T mT swapaxes swapdims movedim moveaxis adjoint"),
    **_named(_expanded, "expand expand_as broadcast_to"),
    **_named(_repeated, "repeat tile"),
    **_named(_joined, "cat concat concatenate stack"),
    **_named(
        _batched,
        "conv1d conv2d conv3d interpolate unfold pad max_pool2d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
        "adaptive_avg_pool2d adaptive_max_pool2d batch_norm group_norm pixel_shuffle pixel_unshuffle",
    ),
    **_named(_attention, "scaled_dot_product_attention"),
    **_named(_multihead, "multi_head_attention_forward"),
    **_named(_product, "matmul __matmul__ __rmatmul__ bmm"),
    **_named(_einsum, "einsum"),
    **_named(_looked_up, "embedding"),
    **_named(_item, "__getitem__"),
    **_named(_assigned, "__setitem__"),
}  # fmt: skip
