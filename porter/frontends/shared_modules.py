"""Modules that the source holds under several names (`cross` in each row of a list) have the first of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class SharedModules:
    """Paths of modules and parameters by the first name, in one module's lists, of the outermost shared module around them.

    Layers that are shared by themselves (an embedding, say) keep their names: `share_parameters` knows them.
    """

    def __init__(self, module: torch.nn.Module | None):
        self.first: dict[str, str] = {}
        self.calls: dict[tuple[str, str, int], int] = {}
        if module is None:
            return
        names: dict[tuple[int, str], str] = {}
        parts = dict(module.named_modules(remove_duplicate=False))
        for name, part in parts.items():
            first = names.setdefault((id(part), _owner(name, parts)), name)
            if first != name and any(True for _ in part.children()):
                self.first[name] = first

    def path(self, path: str) -> str:
        parts = path.split(".")
        for length in range(1, len(parts) + 1):
            prefix = ".".join(parts[:length])
            if prefix in self.first:
                return ".".join([self.first[prefix], *parts[length:]])
        return path

    def call(self, path: str, number: int) -> int:
        """Which call of the module it is, all its names together; `number` counts those by one name."""
        shared = self.path(path)
        if shared == path and shared not in self.first.values():
            inside = any(shared.startswith(f"{name}.") for name in self.first.values())
            if not inside:
                return number
        key = (shared, path, number)
        if key not in self.calls:
            self.calls[key] = sum(known == shared for known, _, _ in self.calls)
        return self.calls[key]


def _owner(name: str, parts: dict[str, torch.nn.Module]) -> str:
    """The module whose forward calls the one of that name: a list calls none."""
    above = name.rpartition(".")[0]
    while above and type(parts[above]).__name__ in ("ModuleList", "ModuleDict"):
        above = above.rpartition(".")[0]
    return above
