"""Norms spelled out: root-mean-square norms (Zhang and Sennrich 2019), and those by mean and variance."""

from __future__ import annotations

from porter.ir import Program, Value
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.fuse_layer_norms import fuse_layer_norms
from porter.passes.fuse.match import commuted, is_number, producer, through_casts
from porter.passes.fuse.misses import Missed, note_miss
from porter.passes.fuse.norm_parts import is_square, quotients, reduced_axis


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
    for node in program.nodes:
        if node.op != "*" or len(node.args) != 2:
            continue
        for weight, normed in commuted(node):
            if not (isinstance(weight, Value) and weight.rank == 1):
                continue
            found = _rms_normed(through_casts(normed))
            if found is None or found[0].shape[-1] != weight.shape[0]:
                continue
            x, eps = through_casts(found[0]), found[1]
            if x.dtype != node.output.dtype:
                note_miss(
                    program,
                    "an RMS norm",
                    node,
                    Missed(f"it takes {x.dtype} to {node.output.dtype}"),
                )
            elif weight.is_parameter:
                node.op, node.args = "nn.RMSNorm", [x]
                node.attrs, node.params = {"dims": weight.shape[0], "eps": eps}, {"weight": weight}
                count += 1
            else:
                node.op, node.args = "mx.fast.rms_norm", [x, weight, eps]
                count += 1
            break
    if count:
        remove_dead(program)
    for node in program.nodes:
        found = _rms_normed(node.output) if node.op in ("*", "/") else None
        if found is not None and found[0].dtype == node.output.dtype:
            node.op, node.args = "mx.fast.rms_norm", [found[0], None, found[1]]
            count += 1
    return count


def _rms_normed(value: Value) -> tuple[Value, float] | None:
    """(x, eps) where the value is x / sqrt(mean(x^2, last axis) + eps)."""
    for x, total in quotients(value):
        for mean, eps in commuted(total):
            average = producer(mean, "mx.mean")
            if average is None or not is_number(eps) or not isinstance(x, Value):
                continue
            base = through_casts(x)
            if reduced_axis(average) == base.rank - 1 and is_square(average.args[0], base):
                return x, float(eps)
    return None
