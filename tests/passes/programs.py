"""Programs of small modules: lower, run passes, run the result in MLX, and count what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch

from porter.frontends.export import export_program
from porter.frontends.import_graph import import_program
from porter.ir import Node, Program, Value, verify
from porter.passes.pipeline import PIPELINE, run_pipeline
from porter.sources import SourceOptions
from porter.sources.built import built_source
from tests.lowering.evaluate import Lowered, StateTensors, run, to_numpy
from tests.random_modules.parity import close, flat, randomized

Pass = Callable[[Program], int]
SDPA = "mx.fast.scaled_dot_product_attention"


class Fn(torch.nn.Module):
    """A function as a module; `tensors` become its parameters (as `p`)."""

    def __init__(self, function: Callable[..., Any], *tensors: torch.Tensor):
        super().__init__()
        self.function = function
        self.p = torch.nn.ParameterList(tensors)

    def forward(self, *args: torch.Tensor) -> Any:
        return self.function(*args, *self.p)


def program_of(module: Any, *args: torch.Tensor, dynamic: Any = None) -> Lowered:
    """Lowers through a Source as the pipeline has it; `dynamic` names the symbolic axes of each input, None fixes all sizes."""
    torch.manual_seed(0)
    if not isinstance(module, torch.nn.Module):
        module = Fn(module)
    source = built_source("test", SourceOptions(), "module", "Test", randomized(module), args, {})
    source.dynamic = dynamic or {"": {}}  # {} would let the frontend guess
    exported, notes = export_program(source)
    assert not notes, notes
    program = import_program(exported, source)
    verify(program)
    stored = [*module.named_parameters(), *module.named_buffers(), *exported.constants.items()]
    state = {key: tensor.detach() for key, tensor in stored if isinstance(tensor, torch.Tensor)}
    return Lowered(program, StateTensors(state))


def rewritten(
    module: Any, args: Sequence[torch.Tensor], *passes: Pass, dynamic: Any = None
) -> tuple[Program, list[int]]:
    """The program after `passes`, and what each returned. Each pass leaves a program that verify() takes, and the last
    one computes what torch does."""
    if not isinstance(module, torch.nn.Module):
        module = Fn(module)
    lowered = program_of(module, *args, dynamic=dynamic)
    counts = []
    for transform in passes:
        counts.append(transform(lowered.program))
        verify(lowered.program)
    equal_to_torch(lowered, module, args)
    return lowered.program, counts


def piped(
    module: Any, args: Sequence[torch.Tensor], input_layout: str = "nhwc", dynamic: Any = None
) -> Program:
    """The program after the whole pipeline, computing what torch does."""
    if not isinstance(module, torch.nn.Module):
        module = Fn(module)
    lowered = program_of(module, *args, dynamic=dynamic)
    run_pipeline(lowered.program, input_layout)
    equal_to_torch(lowered, module, args)
    return lowered.program


def before(name: str) -> tuple[Pass, ...]:
    """The pipeline's passes up to the first one of that name."""
    names = [transform.__name__ for transform, _ in PIPELINE]
    return tuple(transform for transform, _ in PIPELINE[: names.index(name)])


def equal_to_torch(lowered: Lowered, module: torch.nn.Module, args: Sequence[torch.Tensor]) -> None:
    """Runs the nodes as they stand; inputs and outputs are permuted as the program says."""
    program = lowered.program
    with torch.no_grad():
        truth = flat(
            deepcopy(module).double()(*(x.double() if x.is_floating_point() else x for x in args))
        )
    inputs = [
        x.permute(v.permute) if v.permute else x for v, x in zip(program.inputs, args, strict=True)
    ]
    found = run(lowered, inputs)
    assert len(found) == len(truth)
    for value, array, expected in zip(program.output_values(), found, truth, strict=True):
        result = to_numpy(array)
        close(
            result.transpose(np.argsort(value.permute)) if value.permute else result,
            expected.numpy(),
        )


def ops(program: Program) -> Counter[str]:
    return Counter(node.op for node in program.nodes)


def x(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


__all__ = ["SDPA", "Fn", "before", "ops", "piped", "program_of", "rewritten", "x"]


def reshape(source: tuple, target: tuple) -> Node:
    """A reshape between two shapes, of an array that nothing makes."""
    node = Node(".reshape", [Value(source, "float32"), *target])
    node.outputs = [Value(target, "float32", node)]
    return node
