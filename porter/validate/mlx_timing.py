"""Timing of the port: eager and compiled, each call evaluated and synchronized."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from porter.validate.protocol import Message


class Timer:
    """Times one model on fixed inputs."""

    def __init__(self, model: nn.Module, inputs: list[mx.array]) -> None:
        from porter.validate.candidate import leaves

        self._inputs = inputs
        eager = lambda *args: list(leaves(model(*args)))  # noqa: E731
        self._calls: dict[str, Callable[..., Any]] = {
            "eager": eager,
            "compiled": mx.compile(eager),
        }

    def measure(self, mode: str, count: int) -> Message:
        """Seconds of `count` calls, or why there are none."""
        if mode not in self._calls:
            return {"unavailable": f"MLX has no mode {mode}"}
        try:
            return {"seconds": [self._once(self._calls[mode]) for _ in range(count)]}
        except Exception as reason:  # noqa: BLE001 -- the port's code may raise anything
            return {"unavailable": f"{type(reason).__name__}: {reason}"[:200]}

    def _once(self, call: Callable[..., Any]) -> float:
        mx.synchronize()
        start = time.perf_counter()
        mx.eval(call(*self._inputs))
        mx.synchronize()
        return time.perf_counter() - start
