"""Source ops to MLX calls, in families by file. Each family has a TABLE of one-line ops and functions for the rest."""

from porter.lowering.graph import lower_graph
from porter.lowering.registry import Call, lowering, registry

__all__ = ["Call", "lower_graph", "lowering", "registry"]
