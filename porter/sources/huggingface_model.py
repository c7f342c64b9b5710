"""Builds a transformers model without weights, and puts the weights in."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from porter.sources.constructors import ConstructorLog, record_constructors
from porter.sources.huggingface_shapes import nested
from porter.sources.loading import load_into
from porter.sources.meta_parameters import meta_parameters
from porter.sources.running import deterministic, foreign_code
from porter.weights.readers import Tensors

#: Experts as products with gathered weights: the one form whose graph does not depend on how tokens spread over experts.
EXPERTS = "batched_mm"


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What to build: `cls` is the transformers class, `config` its configuration object."""

    folder: Path
    cls: Any
    config: Any
    dtype: torch.dtype
    seed: int


def leave_caches_out(config: Any) -> None:
    """A forward returns no cache, however deep the decoder is within the model: the graph is of arrays alone."""
    for part in nested(config):
        if hasattr(part, "use_cache"):
            part.use_cache = False


def build_empty(plan: ModelPlan) -> tuple[torch.nn.Module, ConstructorLog]:
    """The model with parameters on meta and real buffers; sdpa attention where it has it, else eager."""
    from transformers.initialization import no_init_weights

    config = plan.config
    leave_caches_out(config)
    what = f"building {plan.cls.__name__} from {plan.folder}/config.json"
    with foreign_code(what, "check its fields"), _quiet():
        for attention in ("sdpa", "eager"):
            try:
                with (
                    deterministic(plan.seed),
                    record_constructors() as log,
                    meta_parameters(),
                    no_init_weights(),
                ):
                    module = plan.cls._from_config(
                        config,
                        dtype=plan.dtype,
                        attn_implementation=attention,
                        experts_implementation=EXPERTS,
                    )
                break
            except ValueError as error:
                if attention == "eager" or "attention" not in str(error):
                    raise
        _keep_float32(module, plan.dtype)
        module.tie_weights()
    return module.eval(), log


def _keep_float32(module: Any, dtype: torch.dtype) -> None:
    """Leaves in float32 the parameters that the class says must not be halved (T5's `wo` in float16)."""
    from transformers import core_model_loading

    if kept := module._get_dtype_plan(dtype):
        pattern = core_model_loading.build_glob_alternation(list(kept))[0]
        for name, parameter in list(module.named_parameters()):
            if pattern.search(name):
                owner, _, attribute = name.rpartition(".")
                full = torch.nn.Parameter(parameter.float(), parameter.requires_grad)
                setattr(module.get_submodule(owner), attribute, full)


def fill(module: torch.nn.Module, tensors: Tensors, keys: dict[str, str]) -> torch.nn.Module:
    """A copy of `module` with the weights read into it."""
    real = copy.deepcopy(module)
    load_into(real, tensors, keys)
    return real


def convert_in_memory(plan: ModelPlan) -> tuple[torch.nn.Module, tuple[str, ...], tuple[str, ...]]:
    """(module, missing names, unused keys) as transformers loads the folder.

    For checkpoints whose values it changes: experts stored one by one, projections stored fused.
    """
    what = f"loading {plan.folder} with transformers"
    with foreign_code(what, "check the checkpoint"), deterministic(plan.seed), _quiet():
        module, info = plan.cls.from_pretrained(
            plan.folder,
            config=plan.config,
            dtype=plan.dtype,
            attn_implementation=plan.config._attn_implementation,
            experts_implementation=EXPERTS,
            output_loading_info=True,
            local_files_only=True,
        )
    return (
        module.eval(),
        tuple(sorted(info["missing_keys"])),
        tuple(sorted(info["unexpected_keys"])),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back transformers' log and progress bars: porter has its own."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
