"""What a SOURCE resolves to: the module, its example inputs, its weights, and where they came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from porter.errors import UsageError

if TYPE_CHECKING:
    from porter.weights.readers import Tensors


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The command line's options that bear on how a source is built."""

    inputs: tuple[str, ...] = ()
    checkpoint: str | None = None
    mapping: str | None = None
    trust_pickle: bool = False
    trust_remote_code: bool = False
    dtype: str | None = None
    seed: int = 0
    plugins: tuple[str, ...] = ()


@dataclass(slots=True)
class Source:
    """A resolved SOURCE; see docs/ARCHITECTURE.md for what each field promises.

    `fingerprint` gives the weights' hash and runs at most once: hashing a large checkpoint takes
    minutes, and `porter inspect` does not need it.  `build` gives the module with real weights,
    in eval mode.
    `called_with` are the arguments, as they were given, of the module's own constructor.
    `stored` are the checkpoint's own tensors, and `parts` the keys among them that a name of the module is made of, where
    transformers converts them; `tensors` are then the converted ones.
    `unused` are checkpoint keys that the module has no place for; `notes` is what the user should hear.
    """

    spec: str
    options: SourceOptions
    kind: str
    name: str
    module: torch.nn.Module | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dynamic: dict[str, dict[int, str]]
    tensors: Tensors
    fingerprint: Callable[[], str]
    build: Callable[[], torch.nn.Module] | None = None
    program: torch.export.ExportedProgram | None = None
    config: dict[str, Any] | None = None
    keys: dict[str, str] = field(default_factory=dict)
    constructors: dict[str, dict[str, Any]] = field(default_factory=dict)
    called_with: dict[str, Any] = field(default_factory=dict)
    passthrough: tuple[Path, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    stored: Tensors | None = None
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _sha256: str | None = None

    @property
    def sha256(self) -> str:
        """The fingerprint of the weights: 64 hexadecimal digits, the same in every process."""
        if self._sha256 is None:
            self._sha256 = self.fingerprint()
        return self._sha256

    def materialize(self) -> torch.nn.Module:
        """The module with its real weights on the CPU, in eval mode and `options.dtype`.

        It may be `module` itself.  Raises UsageError for a source that has no module.
        """
        if self.build is None:
            raise UsageError(
                f"{self.spec} holds tensors and no model, so there is nothing to run; "
                "name a factory and give this file as --checkpoint"
            )
        return self.build()
