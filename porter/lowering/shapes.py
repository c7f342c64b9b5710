"""Views: other shapes, orders of axes, parts and joins of arrays. None of them computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy

from porter.ir import Size, Value
from porter.ir.builder import simplify
from porter.lowering.axes import axis_of
from porter.lowering.promotion import natural_dtype, promoted
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering

_END = 2**63 - 1


@lowering(
    "aten.contiguous.default", "aten.clone.default", "aten.detach_.default",
    "aten.alias.default", "aten.lift_fresh.default", "aten.lift_fresh_copy.default", "aten.requires_grad_.default",
)  # fmt: skip
def identity(call: Call, x: Value, *_: Any, **__: Any) -> Value:
    return x


@lowering("aten.detach.default")
def detach(call: Call, x: Value) -> Value:
    """`keep_stops` says where a fine-tune needs it."""
    if x.node is None or not x.dtype.startswith(("float", "bfloat")):
        return x
    return call.build.op("mx.stop_gradient", x, shape=x.shape, dtype=x.dtype)


@lowering(
    "aten.view.default", "aten.reshape.default", "aten.flatten.using_ints", "aten.unflatten.int",
    "aten._unsafe_view.default", "aten.view_as.default", "aten.reshape_as.default", "aten.ravel.default",
    "aten.view_copy.default", "aten._reshape_alias.default", "aten._reshape_copy.default",
)  # fmt: skip
def reshape(call: Call, x: Value, *given: Any, **__: Any) -> Value:
    """To the traced shape; where torch derived a size from others, the number that the author gave."""
    wrote = given[0] if given and isinstance(given[0], (list, tuple)) else ()
    shape = list(call.shape)
    if len(wrote) == len(shape):
        fixed = [isinstance(size, int) and size >= 0 for size in wrote]
        shape = [w if is_fixed else s for w, s, is_fixed in zip(wrote, shape, fixed, strict=True)]
    return call.build.reshape(x, shape)


@lowering("aten.permute.default", "aten.permute_copy.default")
def permute(call: Call, x: Value, dims: Sequence[int]) -> Value:
    return call.build.transpose(x, dims)


@lowering(
    "aten.transpose.int",
    "aten.swapaxes.default",
    "aten.swapdims.default",
    "aten.transpose_.default",
)
def transpose(call: Call, x: Value, first: int, second: int) -> Value:
    axes = list(range(x.rank))
    if x.rank:
        first, second = axis_of(first, x.rank), axis_of(second, x.rank)
        axes[first], axes[second] = axes[second], axes[first]
    return call.build.transpose(x, axes)


@lowering("aten.t.default", "aten.numpy_T.default", "aten.t_.default")
def reverse_axes(call: Call, x: Value) -> Value:
    return call.build.transpose(x, tuple(range(x.rank))[::-1])


@lowering("aten.mT.default", "aten.adjoint.default", "aten.mH.default", "aten.matrix_H.default")
def matrix_transpose(call: Call, x: Value) -> Value:
    return transpose(call, x, -1, -2)


@lowering("aten.movedim.int", "aten.movedim.intlist", "aten.moveaxis.int", "aten.moveaxis.intlist")
def movedim(call: Call, x: Value, source: int | list[int], destination: int | list[int]) -> Value:
    sources = [axis_of(d, x.rank) for d in ([source] if isinstance(source, int) else source)]
    targets = [
        axis_of(d, x.rank) for d in ([destination] if isinstance(destination, int) else destination)
    ]
    axes = [axis for axis in range(x.rank) if axis not in sources]
    for target, axis in sorted(zip(targets, sources, strict=True)):
        axes.insert(target, axis)
    return call.build.transpose(x, axes)


@lowering("aten.unsqueeze.default", "aten.unsqueeze_.default")
def unsqueeze(call: Call, x: Value, dim: int) -> Value:
    return call.build.op("mx.expand_dims", x, dim % (x.rank + 1), shape=call.shape, dtype=x.dtype)


@lowering("aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default", "aten.squeeze_.dim")
def squeeze(call: Call, x: Value, dims: int | list[int] | None = None) -> Value:
    """Axes that are not of size 1 stay, as in torch."""
    wanted = range(x.rank) if dims is None else [dims] if isinstance(dims, int) else dims
    axes = sorted(
        axis_of(dim, x.rank) for dim in wanted if x.rank and x.shape[axis_of(dim, x.rank)] == 1
    )
    if not axes:
        return x
    return call.build.op(
        ".squeeze", x, axes[0] if len(axes) == 1 else tuple(axes), shape=call.shape, dtype=x.dtype
    )


@lowering(
    "aten.expand.default",
    "aten.expand_as.default",
    "aten.broadcast_to.default",
    "aten.expand_copy.default",
)
def expand(call: Call, x: Value, *_: Any, **__: Any) -> Value:
    if call.shape == x.shape:
        return x
    return call.build.op("mx.broadcast_to", x, tuple(call.shape), shape=call.shape, dtype=x.dtype)


@lowering("aten.broadcast_tensors.default")
def broadcast_tensors(call: Call, tensors: Sequence[Value]) -> list[Value]:
    shape = call.shape
    return [
        x
        if x.shape == shape
        else call.build.op("mx.broadcast_to", x, tuple(shape), shape=shape, dtype=x.dtype)
        for x in tensors
    ]


@lowering("aten.cat.default", "aten.concat.default", "aten.concatenate.default")
def cat(call: Call, tensors: Sequence[Value], dim: int = 0) -> Value:
    """An empty 1-d tensor among them is skipped, as in torch."""
    parts = [x for x in tensors if x.shape != (0,)] or list(tensors[:1])
    parts = promoted(call, *parts)
    if len(parts) == 1:
        return parts[0]
    axis = axis_of(dim, parts[0].rank)
    return call.build.op("mx.concatenate", parts, shape=call.shape, dtype=call.dtype, axis=axis)


@lowering("aten.stack.default")
def stack(call: Call, tensors: Sequence[Value], dim: int = 0) -> Value:
    axis = dim % (tensors[0].rank + 1)
    numbers = [x.node.args[0] for x in tensors if x.node is not None and x.node.op == "mx.array"]
    if len(numbers) == len(tensors) and all((x.rank, x.dtype) == (0, call.dtype) for x in tensors):
        return call.build.op("mx.array", numbers, shape=call.shape, dtype=call.dtype)
    return call.build.op(
        "mx.stack", promoted(call, *tensors), shape=call.shape, dtype=call.dtype, axis=axis
    )


@lowering(
    "aten.split.Tensor", "aten.split.sizes", "aten.split_with_sizes.default", "aten.chunk.default",
    "aten.unsafe_chunk.default", "aten.unsafe_split.Tensor", "aten.unsafe_split_with_sizes.default",
    "aten.tensor_split.sections", "aten.tensor_split.indices",
)  # fmt: skip
def split(call: Call, x: Value, _: Any, dim: int = 0) -> list[Value]:
    """Equal parts by their number, others by where they begin."""
    axis = axis_of(dim, x.rank)
    sizes = [shape[axis] for shape, _ in call.outputs]
    if len(sizes) == 1:
        return [x]
    sections: Any = len(sizes)
    if any(size != sizes[0] for size in sizes):
        sections = [simplify(sum(sizes[:count])) for count in range(1, len(sizes))]
    shapes = [shape for shape, _ in call.outputs]
    return call.build.node(
        "mx.split", x, sections, shapes=shapes, dtypes=[x.dtype] * len(sizes), axis=axis
    ).outputs


@lowering("aten.unbind.int", "aten.unbind.Dimname")
def unbind(call: Call, x: Value, dim: int = 0) -> list[Value]:
    axis = axis_of(dim, x.rank)
    shapes = [shape for shape, _ in call.outputs]
    if axis == 0 and len(shapes) > 1:
        return call.build.node("unpack", x, shapes=shapes, dtypes=[x.dtype] * len(shapes)).outputs
    whole = (slice(None),) * axis
    return [call.build.index(x, (*whole, position), shape) for position, shape in enumerate(shapes)]


@lowering("aten.select.int", "aten.select_copy.int")
def select(call: Call, x: Value, dim: int, index: Size) -> Value:
    axis = axis_of(dim, x.rank)
    return call.build.index(x, (*[slice(None)] * axis, index), call.shape)


@lowering("aten.slice.Tensor", "aten.slice_copy.Tensor")
def slice_(
    call: Call, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    axis = axis_of(dim, x.rank)
    size = x.shape[axis]
    start = None if start is None or start == 0 else from_end(start, size)
    end = None if end is None or end in (_END, size) or _reaches(end, size) else from_end(end, size)
    if step == 1 and ((start is None and end is None) or call.shape == x.shape):
        return x
    return call.build.index(
        x, (*[slice(None)] * axis, slice(start, end, None if step == 1 else step)), call.shape
    )


def from_end(bound: Any, size: Size) -> Any:
    """`-4` for a bound that is four short of a size that may change."""
    if isinstance(bound, int) or isinstance(size, int):
        return bound
    short = simplify(bound - size)
    return short if isinstance(short, int) and short < 0 else bound


def _reaches(end: Any, size: Size) -> bool:
    return isinstance(end, int) and isinstance(size, int) and end >= size


@lowering("aten.narrow.default")
def narrow(call: Call, x: Value, dim: int, start: Any, length: Any) -> Value:
    size = x.shape[axis_of(dim, x.rank)]
    start = start + size if isinstance(start, int) and start < 0 else start
    return slice_(call, x, dim, start, simplify(start + length))


@lowering("aten.repeat.default")
def repeat(call: Call, x: Value, repeats: Sequence[Any]) -> Value:
    """torch's repeat is NumPy's tile."""
    if all(count == 1 for count in repeats):
        return call.build.reshape(x, call.shape)
    return call.build.op("mx.tile", x, tuple(repeats), shape=call.shape, dtype=x.dtype)


@lowering("aten.tile.default")
def tile(call: Call, x: Value, repeats: Sequence[Any]) -> Value:
    return repeat(call, x, [1] * (x.rank - len(repeats)) + list(repeats))


@lowering("aten.repeat_interleave.self_int")
def repeat_interleave(
    call: Call, x: Value, repeats: Any, dim: int | None = None, output_size: Any = None
) -> Value:
    if repeats == 1:
        return call.build.reshape(x, call.shape)
    axes = {} if dim is None else {"axis": axis_of(dim, x.rank)}
    return call.build.op("mx.repeat", x, repeats, shape=call.shape, dtype=x.dtype, **axes)


@lowering("aten.roll.default")
def roll(
    call: Call, x: Value, shifts: int | list[int], dims: int | list[int] | None = None
) -> Value:
    shifts = [shifts] if isinstance(shifts, (int, sympy.Expr)) else list(shifts)
    dims = [dims] if isinstance(dims, int) else list(dims or [])
    if not dims:
        return call.build.op("mx.roll", x, shifts[0], shape=x.shape, dtype=x.dtype)
    axes = tuple(axis_of(dim, x.rank) for dim in dims)
    shift: Any = shifts[0] if len(shifts) == 1 else tuple(shifts)
    return call.build.op(
        "mx.roll", x, shift, shape=x.shape, dtype=x.dtype, axis=axes[0] if len(axes) == 1 else axes
    )


@lowering("aten.flip.default", "aten.fliplr.default", "aten.flipud.default")
def flip(call: Call, x: Value, dims: Sequence[int] | None = None) -> Value:
    if dims is None:
        dims = [1] if "fliplr" in call.name else [0]
    axes = {axis_of(dim, x.rank) for dim in dims}
    if not axes or not x.rank:
        return x
    key = [slice(None, None, -1) if axis in axes else slice(None) for axis in range(max(axes) + 1)]
    return call.build.index(x, key, x.shape)


@lowering("aten.pixel_shuffle.default")
def pixel_shuffle(call: Call, x: Value, factor: int) -> Value:
    """(..., C r^2, H, W) to (..., C, H r, W r)."""
    *batch, channels, height, width = x.shape
    count = len(batch)
    parts = call.build.reshape(
        x, (*batch, simplify(channels) // factor**2, factor, factor, height, width)
    )
    order = (*range(count + 1), count + 3, count + 1, count + 4, count + 2)
    return call.build.reshape(call.build.transpose(parts, order), call.shape)


@lowering("aten.pixel_unshuffle.default")
def pixel_unshuffle(call: Call, x: Value, factor: int) -> Value:
    """(..., C, H r, W r) to (..., C r^2, H, W)."""
    *batch, channels, _, _ = x.shape
    height, width = call.shape[-2:]
    count = len(batch)
    parts = call.build.reshape(x, (*batch, channels, height, factor, width, factor))
    order = (*range(count + 1), count + 2, count + 4, count + 1, count + 3)
    return call.build.reshape(call.build.transpose(parts, order), call.shape)


@lowering("aten.channel_shuffle.default", "aten.native_channel_shuffle.default")
def channel_shuffle(call: Call, x: Value, groups: int) -> Value:
    batch, channels, *space = x.shape
    parts = call.build.reshape(x, (batch, groups, simplify(channels) // groups, *space))
    return call.build.reshape(
        call.build.transpose(parts, (0, 2, 1, *range(3, parts.rank))), x.shape
    )


@lowering("aten.meshgrid.indexing", "aten.meshgrid.default")
def meshgrid(call: Call, tensors: Sequence[Value], indexing: str = "ij") -> list[Value]:
    if len({natural_dtype(x) for x in tensors}) > 1:
        raise refuse(call, "the tensors have different types")
    shapes = [shape for shape, _ in call.outputs]
    dtypes = [dtype for _, dtype in call.outputs]
    if len(tensors) == 1:
        return [call.build.reshape(tensors[0], shapes[0])]
    return call.build.node(
        "mx.meshgrid", *tensors, shapes=shapes, dtypes=dtypes, indexing=indexing
    ).outputs


@lowering("aten.as_strided.default", "aten.as_strided_copy.default")
def as_strided(
    call: Call, x: Value, size: Sequence[Any], stride: Sequence[Any], offset: Any = None
) -> Value:
    if not call.is_plain:
        raise refuse(call, "a view of another tensor's memory")
    return strided(call, x, size, stride, offset)


def strided(call: Call, x: Value, size: Sequence[Any], stride: Sequence[Any], offset: Any) -> Value:
    """A view by strides in the row-major order of x."""
    rest = () if offset in (None, 0) else (offset,)
    shape = tuple(size)
    return call.build.op(
        "mx.as_strided", x, shape, tuple(stride), *rest, shape=shape, dtype=x.dtype
    )
