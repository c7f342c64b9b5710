"""torch.export: from a module to an exported program, with the dims that may change."""

from __future__ import annotations

import inspect
import logging
import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.backends.opt_einsum
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from porter.errors import InputError, UnsupportedError
from porter.frontends.bounded_sizes import bounded_dims, branching_dims, shared_names
from porter.frontends.causal_hints import given_hints
from porter.frontends.counted_sizes import CountedSizes
from porter.frontends.fakes import fake_parameters, runs
from porter.frontends.idle_moves import idle_moves
from porter.frontends.input_dims import (
    argument_names,
    example_inputs,
    named_dims,
    part_name,
)
from porter.frontends.known_buffers import known_buffers
from porter.frontends.known_constants import known_constants
from porter.frontends.known_dataclasses import in_torchs_form, known_dataclasses
from porter.frontends.longest_fills import longest_fills
from porter.frontends.missing_fakes import register_missing_fakes
from porter.frontends.named_arguments import named_arguments
from porter.frontends.own_gradients import own_gradients
from porter.frontends.packed_sequences import packed_sequences
from porter.frontends.padded_tokens import padded_tokens
from porter.frontends.passed_checks import passed_checks
from porter.frontends.quick_fakes import quick_fakes
from porter.frontends.quick_sizes import quick_sizes
from porter.frontends.read_sizes import reads_sizes
from porter.frontends.spelled_attention import spelled_attention
from porter.frontends.symbolic_checks import symbolic_checks
from porter.frontends.traced_data import TracedData
from porter.frontends.whole_functions import (
    NotJoined,
    joined_rows,
    none_is_empty,
    symbolic_lengths,
    whole_functions,
)
from porter.frontends.whole_recurrences import whole_recurrences
from porter.time_limit import TimeLimitExceeded, time_limit

if TYPE_CHECKING:
    from porter.sources import Source

#: How a note on sizes begins at which alone the graph holds.
HOLDS = "the port holds where"
#: CPU seconds that an export with dynamic dims may take before fixed ones are tried (symbolic image sizes can cost minutes).
EXPORT_SECONDS = 30


def export_program(
    source: Source, fixed: frozenset[str] = frozenset(), dynamic_dims: frozenset[str] | None = None
) -> tuple[ExportedProgram, list[str]]:
    """Exports the source's module, with dynamic dims where the model allows them; those named `fixed` are not.

    With `dynamic_dims` just these are dynamic, and nothing else is tried.
    Returns the program and what the user should hear (dims that stayed fixed and why). Raises UnsupportedError with
    torch's reason where the module can't be exported.
    """
    if source.program is not None:
        return source.program, []
    module = source.module
    if module is None:
        raise InputError(
            f"{source.spec} holds weights only; name a factory and --checkpoint, or --mapping."
        )
    names = argument_names(module, source.args, source.kwargs)
    attempts: list[tuple[str, set[str]]] = []
    named = named_dims(source)
    wanted = {dim for axes in named.values() for dim in axes.values()} - fixed
    own = {dim for dim in wanted if "_" in dim and not source.dynamic}
    attempts.append(("", wanted))
    if own:
        attempts.append((f"{', '.join(sorted(own))} stayed fixed", wanted := wanted - own))
    spatial = {dim for dim in wanted if not dim.endswith(("batch", "length"))}
    if spatial and wanted - spatial:
        attempts.append((f"{', '.join(sorted(spatial))} stayed fixed", wanted - spatial))
    other = wanted - {"batch", "length"}  # those of an encoder's or a decoder's own, too
    if other - spatial and wanted - other:
        attempts.append((f"{', '.join(sorted(other))} stayed fixed", wanted - other))
    if len(wanted - other) > 1:
        attempts += [
            (f"only {dim} is dynamic", {dim}) for dim in ("batch", "length") if dim in wanted
        ]
    if wanted:
        attempts.append(("every dim stayed fixed", set()))
    if dynamic_dims is not None:
        attempts = [("", {*dynamic_dims})]
    notes: list[str] = []
    reason: Exception | None = None
    module.eval()
    for note, dims in attempts:
        dynamic = _dynamic_shapes(names, source, named, dims)
        try:
            with (
                _quiet(),
                idle_moves(),
                time_limit(EXPORT_SECONDS) if dims else nullcontext(),
                fake_parameters(module) as mode,
                torch.no_grad(),
            ):
                args, kwargs = _fakified(mode, source.args, source.kwargs)
                program, granted = _exported(source, args, kwargs, dynamic)
            if dims and dynamic_dims is None and reads_sizes(program):
                raise ValueError("a size is read off an array")  # maybe a number at one size
        except TimeLimitExceeded:
            reason = TimeoutError(f"symbolic sizes took over {EXPORT_SECONDS} s")
            continue
        except Exception as error:  # noqa: BLE001 -- torch raises anything, the author's own exceptions included
            reason = error
            continue
        notes += granted
        if note:
            notes.append(f"{note}: {_first_line(reason)}")
        if one_sided := _one_sided(program, named, dims):
            program, more = export_program(source, fixed | {*one_sided})
            for dim, name in one_sided.items():
                notes.append(f"{dim} stayed fixed: the model takes one size of it in {name}")
            return program, notes + more
        if bounded := bounded_dims(program, named, dims):
            program, more = export_program(source, fixed | {*bounded})
            for dim, guard in bounded.items():
                notes.append(
                    f"{dim} stayed fixed: the graph holds for sizes near the traced one only ({guard})"
                )
            return program, notes + more
        notes += [
            f"{dim} stayed fixed: the source works with their number"
            for dim in sorted({"pictures", "sounds"} & dims - _free_dims(program, named))
        ]
        if dynamic_dims is None:
            accepts = partial(_accepts, source, shared_names(program, named))
            notes += [
                f"{HOLDS} {guard}: at another {dim} the source does something else"
                for dim, guard in branching_dims(program, named, dims, accepts).items()
            ]
        return program, notes
    raise UnsupportedError(
        f"torch.export refuses {source.spec}: {_first_line(reason)} (at {_author_line(reason)}). Data-dependent control flow, "
        "Python side effects and wrong example shapes are the usual causes; run the module on the example inputs first, "
        "then rewrite that line with torch.where or torch.cond."
    ) from reason


def _accepts(source: Source, named: dict[str, dict[int, str]], sizes: dict[str, int]) -> bool:
    """Whether the source's forward runs with these sizes of dims; fake tensors that it refuses at any size tell nothing."""

    def runs_at(sizes: dict[str, int]) -> bool:
        assert source.module is not None

        def resized(name: str, path: tuple[Any, ...], part: Any) -> Any:
            if not isinstance(part, torch.Tensor):
                return part
            axes = named.get(part_name(name, path), {})
            shape = [sizes.get(axes.get(axis, ""), n) for axis, n in enumerate(part.shape)]
            return torch.empty(shape, dtype=part.dtype, device="meta")

        inputs = {
            name: torch.utils._pytree.tree_map_with_path(partial(resized, name), value)
            for name, value in example_inputs(source).items()
        }
        args = list(inputs.values())[: len(source.args)]
        with _quiet():
            return runs(source.module, args, {name: inputs[name] for name in source.kwargs})

    return runs_at(sizes) or not runs_at({})


def _concessions(source: Source) -> tuple[tuple[Any, str], ...]:
    """What an export may take for granted where a number comes from data, the least first, and what the user should hear."""
    buffers = known_buffers(source.module, source.tensors, source.keys)  # type: ignore[arg-type]
    return (
        (nullcontext(), ""),
        (known_constants(), ""),
        (
            buffers,
            "where the source branches on a flag or a number among its buffers, the port takes the value that it has now",
        ),
        (
            passed_checks(),
            "where the source checks its numbers and raises, the port takes it that they pass",
        ),
        (
            none_is_empty(),
            "where the source asks whether a condition leaves any elements, the port takes it that two or more are left",
        ),
    )


def _exported(
    source: Source, args: tuple, kwargs: dict, dynamic: Any
) -> tuple[ExportedProgram, list[str]]:
    """One export, and what was taken for granted in it."""
    try:
        with joined_rows():
            return _granted(source, args, kwargs, dynamic)
    except NotJoined:
        return _granted(source, args, kwargs, dynamic)


def _granted(
    source: Source, args: tuple, kwargs: dict, dynamic: Any
) -> tuple[ExportedProgram, list[str]]:
    """The export with lengths as symbols, or as numbers where the author's code wants these."""
    with symbolic_lengths() as given:
        try:
            return _conceded(source, args, kwargs, dynamic)
        except (GuardOnDataDependentSymNode, NotJoined, TimeLimitExceeded):
            raise
        except Exception:
            if not given:
                raise
    return _conceded(source, args, kwargs, dynamic)


def _conceded(
    source: Source, args: tuple, kwargs: dict, dynamic: Any
) -> tuple[ExportedProgram, list[str]]:
    module = source.module
    assert module is not None
    register_missing_fakes()
    with (
        torch.backends.opt_einsum.flags(enabled=False),  # its search makes numbers of sizes
        whole_functions(),
        whole_recurrences(),
        given_hints(),
        packed_sequences() as taken,
        padded_tokens(),
        longest_fills(source) as filled,
        own_gradients() as own,
        spelled_attention(),
        TracedData(),
        CountedSizes(),
        quick_fakes(),
        symbolic_checks(),
        known_dataclasses(module),
        named_arguments(module, args, kwargs),
        quick_sizes(),
        ExitStack() as granted,
    ):
        first: tuple[ExportedProgram, list[str]] | None = None
        for context, note in _concessions(source):
            granted.enter_context(context)
            try:
                program = torch.export.export(
                    module, args, kwargs, dynamic_shapes=dynamic, strict=False
                )
            except GuardOnDataDependentSymNode as error:
                reason = error
                continue
            found = program, [*dict.fromkeys(taken + filled + own), *([note] if note else [])]
            # a size that is read off a buffer is a number where buffers are known
            if note or not reads_sizes(program):
                return found
            first = first or found
    if first is not None:
        return first
    raise reason


def _one_sided(
    program: ExportedProgram, named: dict[str, dict[int, str]], dims: set[str]
) -> dict[str, str]:
    """Dims that one input may change while another, named here, may not."""
    free: set[str] = set()
    fixed: dict[str, str] = {}
    named = {name.lower(): axes for name, axes in named.items()}  # as torch writes its placeholders
    for node in program.graph.nodes:
        if node.op != "placeholder":
            continue
        for axis, dim in named.get(node.name, {}).items():
            size = node.meta["val"].shape[axis]
            if isinstance(size, torch.SymInt) and not size.node.expr.is_number:
                free.add(dim)
            elif dim in dims and size > 1:
                fixed[dim] = node.name
    return {dim: name for dim, name in fixed.items() if dim in free}


def _free_dims(program: ExportedProgram, named: dict[str, dict[int, str]]) -> set[str]:
    """The dims that some input may change."""
    given = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return {
        dim
        for name, axes in named.items()
        for axis, dim in axes.items()
        if (node := given.get(name.lower())) is not None
        and isinstance(size := node.meta["val"].shape[axis], torch.SymInt)
        and not size.node.expr.is_number
    }


def _fakified(mode: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    if (
        mode is None
    ):  # the tensors by other objects: torch marks them, and an attempt that fails leaves the marks
        fresh: dict[int, torch.Tensor] = {}
        return torch.utils._pytree.tree_map_only(
            torch.Tensor, lambda t: fresh.setdefault(id(t), t.detach()), (args, kwargs)
        )
    return torch.utils._pytree.tree_map_only(
        torch.Tensor, lambda t: mode.from_tensor(t, static_shapes=True), (args, kwargs)
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch.export's log (each refused dim, at length) and its warnings (of its own copies) off the user's screen."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


def _first_line(error: Exception | None) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def _author_line(error: Exception | None) -> str:
    """The innermost source line outside torch."""
    if error is None:
        return "an unknown line"
    frames = traceback.extract_tb(error.__traceback__)
    outside = [
        f
        for f in frames
        if f"{os.sep}torch{os.sep}" not in f.filename
        and f"{os.sep}porter{os.sep}" not in f.filename
    ]
    if not frames:
        return "an unknown line"  # porter's own time limit
    frame = (outside or frames)[-1]
    return f"{frame.filename}:{frame.lineno}: {frame.line}"


def _dynamic_shapes(
    names: list[str], source: Source, named: dict[str, dict[int, str]], dims: set[str]
) -> Any:
    def shape(name: str, value: Any) -> Any:
        def of_part(path: tuple[Any, ...], part: Any) -> Any:
            if not isinstance(part, torch.Tensor):
                return None
            axes = named.get(part_name(name, path), {})
            return {
                axis: Dim.AUTO for axis, dim in axes.items() if dim in dims and part.shape[axis] > 1
            }

        parts = torch.utils._pytree.tree_leaves_with_path(value)
        return in_torchs_form(value, (of_part(path, part) for path, part in parts))

    if not dims:
        return None
    positional = tuple(shape(name, value) for name, value in zip(names, source.args, strict=False))
    keyword = {name: shape(name, value) for name, value in source.kwargs.items()}
    parameters = inspect.signature(source.module.forward).parameters  # type: ignore[union-attr]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()) and not keyword:
        fixed = [
            n
            for n, p in parameters.items()
            if p.kind is not p.VAR_POSITIONAL and p.kind is not p.VAR_KEYWORD
        ]
        count = min(len(fixed), len(positional))
        rest = positional[count:]
        return (*positional[:count], rest) if rest else positional
    if len(names) < len(source.args) or (positional and keyword):
        return {**dict(zip(names, positional, strict=False)), **keyword}
    return keyword if keyword else positional
