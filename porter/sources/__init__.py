"""Resolves SOURCE: where the module, the graph, the config and the tensors come from."""

from porter.sources.built import from_module
from porter.sources.resolve import resolve
from porter.sources.source import Source, SourceOptions

__all__ = ["Source", "SourceOptions", "from_module", "resolve"]
