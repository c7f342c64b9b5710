"""The route to mlx-lm: a language model whose architecture mlx-lm ships is handed to that implementation, and proven."""

from porter.mlx_lm_route.plan import Choice, Handover, choose_route
from porter.mlx_lm_route.write import write_handover

__all__ = ["Choice", "Handover", "choose_route", "write_handover"]
