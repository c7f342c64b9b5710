"""Norms spelled out: root-mean-square norms (Zhang and Sennrich 2019), and those by mean and variance."""

from __future__ import annotations

from dataclasses import dataclass, replace

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.lowering.axes import channels_first, channels_last
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.fuse_layer_norms import fuse_layer_norms
from porter.passes.fuse.match import commuted, is_number, producer, replace_node, through_casts
from porter.passes.fuse.misses import Missed, note_miss
from porter.passes.fuse.norm_parts import channel_parameter, is_square, quotients, reduced_axis


def fuse_norms(program: Program) -> int:
    """weight * x / sqrt(mean(x^2) + eps) becomes nn.RMSNorm, weight * (x - mean) / sqrt(var + eps) + bias nn.LayerNorm.

    A weight that is no parameter of the norm (1 + weight), or none, takes mx.fast. Returns how many were found.
    """
    count = fuse_layer_norms(program)  # first: a centered array's RMS norm is a layer norm
    remove_dead(program)
    count += _fuse_rms(program)
    remove_dead(program)
    return count


def _fuse_rms(program: Program) -> int:
    count = 0
    for node in list(program.nodes):
        if node.op != "*" or len(node.args) != 2:
            continue
        for factor, normed in commuted(node):
            norm = _rms_normed(through_casts(normed))
            weight = _weight(factor, norm) if norm is not None else None
            if norm is None or weight is None:
                continue
            if through_casts(norm.x).dtype != node.output.dtype:
                reason = f"it takes {through_casts(norm.x).dtype} to {node.output.dtype}"
                note_miss(program, "an RMS norm", node, Missed(reason))
            else:
                _put_layer(program, node, replace(norm, x=through_casts(norm.x)), weight)
                count += 1
            break
    if count:
        remove_dead(program)
    for node in list(program.nodes):
        norm = _rms_normed(node.output) if node.op in ("*", "/") else None
        if norm is None or norm.x.dtype != node.output.dtype:
            continue
        if norm.is_last or norm.x.rank > 3:  # of (B, N, C), axis 1 are rather the tokens
            _put_layer(program, node, norm, None)
            count += 1
    return count


@dataclass(frozen=True, slots=True)
class _Norm:
    """x / sqrt(mean(x^2) + eps) over one axis, the last one or the channels that torch puts first."""

    x: Value
    eps: float
    axis: int

    @property
    def is_last(self) -> bool:
        return self.axis == self.x.rank - 1


def _rms_normed(value: Value) -> _Norm | None:
    for x, total in quotients(value):
        for mean, eps in commuted(total):
            average = producer(mean, "mx.mean")
            if average is None or not is_number(eps) or not isinstance(x, Value):
                continue
            base, axis = through_casts(x), reduced_axis(average)
            if axis is not None and axis in (1, base.rank - 1) and is_square(average.args[0], base):
                return _Norm(x, float(eps), axis)
    return None


def _weight(factor: object, norm: _Norm) -> Value | None:
    if isinstance(factor, Value) and norm.is_last and factor.shape == norm.x.shape[-1:]:
        return factor
    return channel_parameter(factor, norm.x, norm.axis)


def _put_layer(program: Program, node: Node, norm: _Norm, weight: Value | None) -> None:
    builder, rank = Builder(node.scope, node.location), norm.x.rank
    x = norm.x if norm.is_last else builder.transpose(norm.x, channels_last(rank))
    if weight is not None and weight.is_parameter:
        attrs = {"dims": weight.shape[0], "eps": norm.eps}
        result = builder.layer("nn.RMSNorm", x, {"weight": weight}, x.shape, **attrs)
    else:
        args = (x, weight, norm.eps)
        result = builder.op("mx.fast.rms_norm", *args, shape=x.shape, dtype=x.dtype)
    if not norm.is_last:
        result = builder.transpose(result, channels_first(rank))
    for new in builder.nodes:
        new.layout = new.op == ".transpose"
    replace_node(program, node, builder.nodes, result)
