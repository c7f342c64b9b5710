"""Rotary position embeddings spelled out with cosines and sines (Su et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from porter.ir import Node, Program, Size, Value, values_in
from porter.ir.builder import Builder
from porter.ir.evaluate import Unknown
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import producer, replace_node
from porter.passes.positions import as_array, at_length, long_enough, position_values

#: Ops that move features about; with sums and products by a table they make up a rotation.
MOVES = {
    "[]", "neg", "mx.concatenate", "mx.stack", ".reshape", ".transpose", "mx.expand_dims", ".squeeze", ".astype",
    "mx.split", "unpack", "mx.broadcast_to",
}  # fmt: skip
_LENGTH = 7  # positions that a candidate is run on
_CLOSE = 2e-5
_FLOATS = ("float", "bfloat")


@dataclass(frozen=True, slots=True)
class Rotation:
    """What nn.RoPE is constructed with; `scaling` is the source's own description of stretched frequencies."""

    dims: int
    traditional: bool
    base: float
    scale: float = 1.0
    scaling: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """`last` is `root` rotated; positions run along `axis`."""

    root: Value
    last: Value
    nodes: set[Node]
    axis: int
    rotation: Rotation


def fuse_rope(program: Program) -> int:
    """A rotation of the last axis by angles that grow evenly with the position becomes nn.RoPE. Returns how many.

    A candidate is a part of the graph between one array x and one of x's shape, made of moved features times tables of
    positions. It is run on random features and compared with nn.RoPE, so that any way to write a rotation is found: in
    halves, interleaved, over a part of the features, scaled. Rotations by other angles (of image rows, of learned
    frequencies) stay spelled out.
    """
    positions = position_values(program)
    done: set[Node] = set()
    count = 0
    for node in list(program.nodes):
        if node in done or node.op != "*":
            continue
        for features, table in (node.args, node.args[::-1]):
            if not _is_table(table, features, positions):
                continue
            found = _rotation(program, features, positions)
            if found is not None:
                _rewrite(program, found)
                done |= found.nodes
                count += 1
                break
    if count:
        remove_dead(program)
    return count


def _is_table(table: Any, features: Any, positions: set[Value]) -> bool:
    return (
        isinstance(table, Value)
        and isinstance(features, Value)
        and table in positions
        and features not in positions
        and table.rank >= 2
        and table.dtype.startswith(_FLOATS)
        and table.node is not None
    )


def _rotation(program: Program, features: Value, positions: set[Value]) -> _Found | None:
    """The rotation around a product of features and a table; of the whole where it rotates a part."""
    users = program.users()
    outputs = set(program.output_values())
    place = {node: i for i, node in enumerate(program.nodes)}
    best = None
    for root in _roots(features, place):
        for last, nodes in _spans(root, positions, users, outputs, place):
            found = _recognized(program, root, last, nodes, positions)
            if found is not None:
                best = found
                break
        if best is not None and not _is_part(root):
            break
    return best


def _is_part(value: Value) -> bool:
    """Whether it is a slice of the features, which the rotation may take as a whole."""
    return producer(value, "[]", "mx.split") is not None


def _roots(features: Value, place: dict[Node, int]) -> Iterator[Value]:
    """The array and, one after the other, what it was moved from."""
    frontier = {features}
    for _ in range(16):
        if not frontier:  # parameters alone
            return
        if len(frontier) == 1:
            yield next(iter(frontier))
        latest = max(frontier, key=lambda v: -1 if v.node is None else place[v.node])
        if latest.node is None or latest.node.op not in MOVES:
            return
        frontier.remove(latest)
        frontier |= {v for v in latest.node.inputs() if not v.is_parameter}


def _spans(
    root: Value,
    positions: set[Value],
    users: dict[Value, list[Node]],
    outputs: set[Value],
    place: dict[Node, int],
) -> Iterator[tuple[Value, set[Node]]]:
    """Arrays of the root's shape that are computed from it and tables alone, with the nodes that compute them."""
    inside: dict[Value, set[Node]] = {root: set()}
    queue = list(users.get(root, []))
    seen: set[Node] = set()
    ordered: list[Node] = []
    while queue:
        node = queue.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op in MOVES or node.op in ("*", "+", "-"):
            ordered.append(node)
            if len(ordered) > 40:
                return
            for value in node.outputs:
                queue += users.get(value, [])
    for node in sorted(ordered, key=place.__getitem__):
        arrays = list(values_in([node.args, node.kwargs]))
        mine = [v for v in arrays if v in inside]
        rest = [v for v in arrays if v not in inside]
        if any(v not in positions for v in rest) or not mine:
            continue
        if node.op == "*" and len(mine) != 1:
            continue
        before: set[Node] = {node}.union(*(inside[v] for v in mine))
        for value in node.outputs:
            inside[value] = before
        last = node.outputs[0]
        if len(node.outputs) != 1 or last.shape != root.shape or last.rank < 3:
            continue
        if not any(n.op == "*" for n in before):
            continue
        written = {value for n in before for value in n.outputs} - {last}
        if all(set(users.get(v, [])) <= before and v not in outputs for v in written):
            yield last, before


def _recognized(
    program: Program, root: Value, last: Value, nodes: set[Node], positions: set[Value]
) -> _Found | None:
    """The rotation that the nodes compute, judged by running them; None where they compute another thing."""
    axis = _length_axis(root, nodes, positions)
    floats = root.dtype.startswith(_FLOATS) and isinstance(root.shape[-1], int)
    if axis is None or not floats:
        return None
    try:
        rotation = _judge(program, root, last, nodes, positions, axis)
    except (Unknown, ValueError, RuntimeError):  # the parts don't run at another length
        return None
    return None if rotation is None else _Found(root, last, nodes, axis, rotation)


def _length_axis(root: Value, nodes: set[Node], positions: set[Value]) -> int | None:
    """The axis of the features that positions run along: the one that the tables have too."""
    sizes: list[Size] = []
    for node in nodes:
        for value in values_in(node.args):
            if value in positions and value.rank >= 2:
                sizes += [size for size in value.shape[:-1] if size != 1]
    symbolic = [size for size in sizes if not isinstance(size, int)]
    wanted = symbolic or sizes
    axes = [a for a in range(1, root.rank - 1) if root.shape[a] in wanted]
    if len(axes) > 1 and root.rank - 2 in axes:
        return root.rank - 2
    return axes[0] if len(axes) == 1 else None


def _judge(
    program: Program, root: Value, last: Value, nodes: set[Node], positions: set[Value], axis: int
) -> Rotation | None:
    length = long_enough(program, root.shape[axis], _LENGTH)
    probe = at_length(program, length)
    shape = tuple(probe.size(size) for size in root.shape)
    x = mx.random.normal(shape, key=mx.random.key(0))
    run = at_length(program, length, {root: x.astype(getattr(mx, root.dtype))})
    expected = np.moveaxis(as_array(run(last)), axis, -2)
    x = mx.moveaxis(x, axis, -2)
    for angles in _frequencies(program, nodes, positions, length):
        for rotation in _candidates(program, angles, shape[-1]):
            got = as_array(layer_of(rotation)(x))
            if np.abs(got - expected).max() < _CLOSE * max(1.0, float(np.abs(expected).max())):
                return rotation
    return None


def layer_of(rotation: Rotation) -> nn.Module:
    """The MLX layer that the rotation stands for."""
    if rotation.scaling:
        from mlx_lm.models.rope_utils import initialize_rope

        scaling = dict(rotation.scaling)
        return initialize_rope(
            rotation.dims,
            rotation.base,
            rotation.traditional,
            scaling,
            scaling["max_position_embeddings"],
        )
    return nn.RoPE(rotation.dims, rotation.traditional, rotation.base, rotation.scale)


def _frequencies(
    program: Program, nodes: set[Node], positions: set[Value], length: int
) -> Iterator[np.ndarray]:
    """The angle of one step, feature by feature, as each table has it at a length of the input."""
    tables = {v for n in nodes for v in values_in(n.args) if v in positions and v.node is not None}
    turned = {}
    stack = list(tables)
    while stack:
        value = stack.pop()
        node = value.node
        if node is None or value in turned:
            continue
        turned[value] = node
        stack += [v for v in node.inputs() if v.node is not None]
    angles = dict.fromkeys(n.args[0] for n in turned.values() if n.op in ("mx.cos", "mx.sin"))
    for angle in angles:
        rows = _rows(as_array(at_length(program, length)(angle)), length)
        more = _rows(as_array(at_length(program, 9 * length)(angle)), 9 * length)
        if rows is None or more is None or len(rows) < 2:
            continue
        even = np.allclose(rows, np.arange(len(rows))[:, None] * rows[1], 1e-5)
        if even and np.array_equal(rows, more[: len(rows)]):  # the same in a longer text
            yield rows[1].astype(np.float64)
    if not angles:
        yield from _stored_frequencies(program, tables, length)


def _stored_frequencies(program: Program, tables: set[Value], length: int) -> Iterator[np.ndarray]:
    """Of stored cosines and sines, the angles of the first step."""
    rows = [_rows(as_array(at_length(program, length)(table)), length) for table in tables]
    sines = [r for r in rows if r is not None and not r[0].any()]
    cosines = [r for r in rows if r is not None and np.allclose(r[0], 1.0)]
    for sine in sines:
        for cosine in cosines:
            if sine.shape == cosine.shape:
                yield np.arctan2(sine[1].astype(np.float64), cosine[1].astype(np.float64))


def _rows(array: np.ndarray, length: int) -> np.ndarray | None:
    """(positions, features) of an array that has the same along its other axes; None for one that has not."""
    if array.ndim < 2:
        return None
    sizes = [size for size in array.shape[:-1] if size != 1]
    if not sizes or sizes[-1] > length:
        return None
    rows = array.reshape(-1, sizes[-1], array.shape[-1])
    return rows[0] if (rows == rows[0]).all() else None


def _candidates(program: Program, angles: np.ndarray, width: int) -> Iterator[Rotation]:
    """Rotations whose frequencies fit: each angle stands once, or twice in halves or side by side."""
    count = len(angles)
    forms = [angles]
    if count % 2 == 0 and count > 1:
        forms = [angles[: count // 2], angles[::2], angles]
    for theta in forms:
        dims = 2 * len(theta)
        if dims > width or theta[0] <= 0:
            continue
        geometric = _geometric(theta, dims)
        for traditional in (False, True):
            if geometric is not None and geometric[1] != 1.0:
                yield from _linear(program, dims, traditional, *geometric)
            if geometric is not None:
                yield Rotation(dims, traditional, *geometric)
            yield from _scaled(program, theta, dims, traditional)


def _geometric(theta: np.ndarray, dims: int) -> tuple[float, float] | None:
    """(base, scale) with theta = scale * base ** (-2 i / dims), to float32's accuracy."""
    scale = float(f"{theta[0]:.7g}")
    if len(theta) == 1:
        return 10000.0, scale
    if theta[1] <= 0:
        return None
    base = float((theta[0] / theta[1]) ** (dims / 2))
    for digits in (3, 4, 5, 6, 7):
        rounded = float(f"{base:.{digits}g}")
        expected = theta[0] * rounded ** (-2 * np.arange(len(theta)) / dims)
        if np.allclose(theta, expected, rtol=3e-6, atol=1e-7):
            return rounded, scale
    return None


def _linear(
    program: Program, dims: int, traditional: bool, base: float, scale: float
) -> Iterator[Rotation]:
    """The source's description of positions that are divided by a number."""
    for scaling in _descriptions(program.config):
        if scaling["rope_type"] == "linear" and abs(scaling["factor"] * scale - 1) < 1e-6:
            yield Rotation(dims, traditional, base, scaling=tuple(sorted(scaling.items())))


def _scaled(
    program: Program, theta: np.ndarray, dims: int, traditional: bool
) -> Iterator[Rotation]:
    """Rotations that mlx-lm builds from the source's own description and that have these frequencies."""
    for scaling in _descriptions(program.config):
        rotation = Rotation(
            dims,
            traditional,
            scaling["rope_theta"],
            scaling=tuple(sorted(scaling.items(), key=str)),
        )
        try:
            freqs = getattr(layer_of(rotation), "_freqs", None)
        except (KeyError, ValueError, TypeError, ImportError):
            continue
        if freqs is not None and np.allclose(1 / as_array(freqs), theta, rtol=3e-6, atol=0):
            yield rotation


def _descriptions(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """`rope_parameters` of the config, one for each kind of layer where it has several."""
    for table in (config.get("rope_parameters"), config.get("rope_scaling")):
        if not isinstance(table, dict):
            continue
        for entry in [table, *(v for v in table.values() if isinstance(v, dict))]:
            kind = entry.get("rope_type", entry.get("type", "default"))
            theta = entry.get("rope_theta", config.get("rope_theta"))
            longest = config.get("max_position_embeddings")
            if kind != "default" and theta is not None:
                yield {
                    **{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()},
                    "rope_type": kind,
                    "rope_theta": theta,
                    "max_position_embeddings": longest,
                }


def _rewrite(program: Program, found: _Found) -> None:
    """MLX's rotation takes (..., length, features)."""
    node, rank, rotation = found.last.node, found.root.rank, found.rotation
    assert node is not None
    builder = Builder(node.scope, node.location)
    order = list(range(rank))
    order.insert(rank - 2, order.pop(found.axis))
    x = builder.transpose(found.root, order)
    attrs: dict[str, Any] = {
        "dims": rotation.dims,
        "traditional": rotation.traditional,
        "base": rotation.base,
        "scale": rotation.scale,
    }
    if rotation.scaling:
        attrs["scaling"] = rotation.scaling
    x = builder.layer("nn.RoPE", x, {}, x.shape, **attrs)
    x = builder.transpose(x, [order.index(axis) for axis in range(rank)])
    replace_node(program, node, builder.nodes, x)
