"""The passes in their order, each with its reason."""

from __future__ import annotations

from collections.abc import Callable

from porter.errors import PorterError
from porter.ir import Program, verify
from porter.passes.bound_length import bound_length
from porter.passes.cache.lift_cache import lift_cache
from porter.passes.cleanup import drop_empty, remove_dead, share_equal
from porter.passes.compose_views import compose_views
from porter.passes.constants import simplify_constants
from porter.passes.drop_index_casts import drop_index_casts
from porter.passes.drop_leading_ones import drop_leading_ones
from porter.passes.fold_conditions import fold_conditions
from porter.passes.fold_weights import fold_weights
from porter.passes.fuse.fold_batchnorm import fold_batchnorm
from porter.passes.fuse.fold_scale import fold_scale
from porter.passes.fuse.fuse_activations import fuse_activations
from porter.passes.fuse.fuse_attention import fuse_attention
from porter.passes.fuse.fuse_causal import fuse_causal
from porter.passes.fuse.fuse_causal_conv import fuse_causal_conv, pad_uncached
from porter.passes.fuse.fuse_experts import fuse_experts
from porter.passes.fuse.fuse_linear import fuse_linear
from porter.passes.fuse.fuse_norms import fuse_norms
from porter.passes.fuse.fuse_prelu import fuse_prelu
from porter.passes.fuse.fuse_rope import fuse_rope
from porter.passes.fuse.fuse_rotations import fuse_rotations
from porter.passes.fuse.fuse_scaled_directions import fuse_scaled_directions
from porter.passes.fuse.fuse_scans import fuse_scans
from porter.passes.fuse.fuse_sinks import fuse_sinks
from porter.passes.fuse.fuse_swiglu import fuse_swiglu
from porter.passes.fuse.fuse_switch_glu import fuse_switch_glu
from porter.passes.fuse.misses import sentences
from porter.passes.fuse.plain_softmax import plain_softmax
from porter.passes.fuse.share_heads import share_heads
from porter.passes.fuse.turn_scores import turn_scores
from porter.passes.group_rows import group_rows
from porter.passes.hoist_concatenate import hoist_concatenate
from porter.passes.hoist_embeddings import hoist_embeddings
from porter.passes.inline_scalars import inline_scalars
from porter.passes.join_slices import join_slices
from porter.passes.keep_all_rows import keep_all_rows
from porter.passes.keep_heads import keep_heads
from porter.passes.keep_integers import keep_integers
from porter.passes.keep_lookups import keep_lookups
from porter.passes.keep_stops import keep_stops
from porter.passes.layout.fold_parameters import fold_parameters
from porter.passes.layout.propagate_layout import propagate_layout
from porter.passes.linearize_convolutions import linearize_patches, linearize_points
from porter.passes.name_constants import name_constants
from porter.passes.name_length import free_length, name_length
from porter.passes.name_roles import name_roles
from porter.passes.plain_positions import plain_positions
from porter.passes.read_parts import read_parts
from porter.passes.reshapes import (
    drop_broadcasts,
    drop_kept_dims,
    drop_undone,
    keep_rows,
    merge_reshapes,
)
from porter.passes.row_guards import drop_row_guards
from porter.passes.shard.plan_shards import plan_shards
from porter.passes.share_parameters import share_parameters
from porter.passes.simplify_arithmetic import simplify_arithmetic
from porter.passes.split_complex import split_complex
from porter.passes.stop_gradients import stop_gradients
from porter.passes.tie_heads import tie_heads
from porter.passes.tiles import broadcast_tiles

Pass = Callable[[Program], int]

PIPELINE: tuple[tuple[Pass, str], ...] = (
    (remove_dead, "asserts, unused outputs and size computations leave nothing behind"),
    (keep_stops, "a gradient stops where the author stops it"),
    (name_constants, "tensors that the author wrote into a forward have his names"),
    (drop_empty, "a rotation of every feature leaves no features beside it"),
    (
        simplify_constants,
        "masks of ones, gathers by arange and fills of one number become what they are",
    ),
    (join_slices, "what an author writes in place is read before, and not written where it was"),
    (
        read_parts,
        "what an author writes piece by piece is joined once, and what is put beside others read where it is",
    ),
    (keep_lookups, "rows are looked up by indices of any number of axes"),
    (inline_scalars, "a tensor of one number is a number in MLX"),
    (keep_integers, "distances between positions are whole numbers all the way to their table"),
    (fold_weights, "weight norm and its like are computed once, by the recipe"),
    (linearize_patches, "patches that come as rows are multiplied, not convolved"),
    (fold_conditions, "masks that are made numbers and asked again stay masks"),
    (name_length, "the number of tokens that unrolled loops fixed has a name"),
    (fuse_norms, "RMS and layer norms spelled out become nn.RMSNorm and nn.LayerNorm"),
    (fuse_scaled_directions, "F.normalize times the root of the width is nn.RMSNorm"),
    (fuse_activations, "silu, quick gelu and the tanh gelu have names"),
    (
        keep_all_rows,
        "what is worked out for chosen tokens and put in their places is worked out for all",
    ),
    (split_complex, "products of complex numbers are sums of products of their parts"),
    (fuse_rope, "rotations by cosines and sines of positions become nn.RoPE"),
    (fuse_sinks, "a weight nothing gets that is worked out after the softmax is worked out in it"),
    (plain_softmax, "softmax takes off the largest score itself, and masks are masks"),
    (keep_heads, "samples and heads stay two axes"),
    (turn_scores, "scores are masked in the order in which the product gives them"),
    (fuse_attention, "softmax attention becomes mx.fast.scaled_dot_product_attention"),
    (fold_scale, "attention has a scale of its own"),
    (share_heads, "grouped queries need no repeated keys and values"),
    (broadcast_tiles, "rows that every expert gets are not copied"),
    (keep_rows, "products take (batch, length, width) as it is"),
    (
        fuse_causal_conv,
        "a convolution that looks back alone takes its tokens behind those before them",
    ),
    (fuse_linear, "a stored weight times turned tokens is a Linear"),
    (fuse_scans, "a recurrence over tokens, however it is unrolled, is one call"),
    (free_length, "without loops over tokens there may be any number of them"),
    (bound_length, "a graph that short texts alone have is said to be one"),
    (fuse_experts, "experts stay stacked, and each token takes its own from the stack"),
    (keep_rows, "what the experts' result is added to"),
    (lift_cache, "a decoder's keys and values go through a cache"),
    (pad_uncached, "where there is none, a causal convolution is padded at the left"),
    (fuse_swiglu, "a decoder's gate is mlx-lm's compiled function"),
    (fuse_switch_glu, "gated experts are one layer of mlx-lm's"),
    (fuse_causal, "a causal mask built from positions is MLX's own"),
    (compose_views, "nn.MultiheadAttention's views come down to one reshape and one transpose"),
    (fold_parameters, "a parameter that is reshaped or permuted first is stored that way"),
    (drop_row_guards, "under a padding mask no row is masked whole"),
    (drop_broadcasts, "MLX broadcasts by itself where torch's author expands"),
    (drop_undone, "an axis of size 1 that goes and comes back was there all the time"),
    (propagate_layout, "channels-last from end to end, so that no transpose stands beside a conv"),
    (fold_parameters, "what the layout moved onto parameters"),
    (linearize_points, "a 1x1 convolution of turned tokens is nn.Linear"),
    (fold_batchnorm, "only where asked for: BatchNorm becomes part of the convolution before it"),
    (merge_reshapes, "a reshape of a reshape is one"),
    (join_slices, "a slice of a slice is one"),
    (drop_kept_dims, "a spatial mean is x.mean(axis=(1, 2))"),
    (drop_leading_ones, "axes that broadcasting puts in front by itself"),
    (hoist_concatenate, "a layer of a dense block takes one array, not a growing list"),
    (share_equal, "equal computations in one module are done once"),
    (tie_heads, "a head on the embedding's weight is embed_tokens.as_linear"),
    (hoist_embeddings, "a table that encoder and decoder look up is kept once"),
    (plain_positions, "positions that embeddings alone read need no dtype"),
    (remove_dead, "a parameter's reader that nothing reads would be one more"),
    (share_parameters, "a parameter with several readers is kept once"),
    (fold_parameters, "the weight of a product that is no layer is stored as it is multiplied"),
    (drop_index_casts, "an index is of any whole type"),
    (remove_dead, "what the passes left unused"),
    (fuse_prelu, "slopes that the checkpoint holds belong to nn.PReLU"),
    (plan_shards, "processes can share a decoder's layers where parts are computed by themselves"),
    (fuse_rotations, "rotations by other tables are one function too"),
    (simplify_arithmetic, "norms and quotients are written as such"),
    (stop_gradients, "whole numbers have no gradient"),
    (group_rows, "a list of lists becomes a list of layers, so that its loop stays one"),
    (name_roles, "q, k and v where the author's names are out of reach"),
)


def run_pipeline(
    program: Program,
    input_layout: str = "nhwc",
    dump: Callable[[str, Program], None] | None = None,
    fold_norms: bool = False,
) -> Program:
    """Runs every pass, verifying after each; fusions that nearly applied are noted in the end.

    Raises PorterError that names the pass that failed and those before it.
    """
    verify(program)
    done: list[str] = []
    for transform, _ in PIPELINE:
        name = transform.__name__
        if transform is fold_batchnorm and not fold_norms:
            continue
        try:
            if transform is propagate_layout:
                propagate_layout(program, input_layout)
            else:
                transform(program)
            verify(program)
        except PorterError as error:
            raise type(error)(
                f"Pass {name} (after {', '.join(done) or 'none'}) failed: {error}"
            ) from error
        done.append(name)
        if dump is not None:
            dump(name, program)
    program.notes += sentences(program)
    return program
