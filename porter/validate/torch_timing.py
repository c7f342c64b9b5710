"""Timing of the reference: eager on the CPU; eager, compiled and as a CUDA graph on CUDA."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from porter.validate.protocol import Message


class Timer:
    """Times one module on fixed inputs. On CUDA by events, each time after a synchronize."""

    def __init__(self, module: torch.nn.Module, args: Any, kwargs: Any, device: str) -> None:
        self._device = device
        self._cuda = device.startswith("cuda")
        move = lambda v: v.to(device) if isinstance(v, torch.Tensor) else v  # noqa: E731
        self._module = module.to(device) if self._cuda else module
        self._args, self._kwargs = pytree.tree_map(move, (args, kwargs))
        self._calls: dict[str, Callable[[], Any]] = {}

    def measure(self, mode: str, count: int) -> Message:
        """Seconds of `count` calls, or why the mode can't be had here."""
        try:
            call = self._call(mode)
            with torch.no_grad():
                return {"seconds": [self._once(call) for _ in range(count)]}
        except (RuntimeError, NotImplementedError) as reason:
            return {"unavailable": str(reason).splitlines()[0][:200]}

    def _call(self, mode: str) -> Callable[[], Any]:
        if mode not in self._calls:
            eager = lambda: self._module(*self._args, **self._kwargs)  # noqa: E731
            if mode == "eager":
                self._calls[mode] = eager
            elif mode == "compiled":
                compiled = torch.compile(self._module)
                self._calls[mode] = lambda: compiled(*self._args, **self._kwargs)
            elif mode == "cuda-graph" and self._cuda:
                self._calls[mode] = self._captured(eager)
            else:
                raise RuntimeError(f"{mode} is not to be had on {self._device}")
        return self._calls[mode]

    def _captured(self, call: Callable[[], Any]) -> Callable[[], Any]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(graph):
            call()
        return graph.replay

    def _once(self, call: Callable[[], Any]) -> float:
        if not self._cuda:
            start = time.perf_counter()
            call()
            return time.perf_counter() - start
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        first.record()
        call()
        last.record()
        torch.cuda.synchronize()
        return float(first.elapsed_time(last)) / 1e3
