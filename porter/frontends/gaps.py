"""The ops of a graph that porter has no lowering for, and what would help."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from porter.errors import Gap, UnsupportedError

if TYPE_CHECKING:
    from porter.frontends.import_graph import GraphReader


def raise_gaps(
    reader: GraphReader,
    missing: dict[str, list[torch.fx.Node]],
    lacking: Callable[[torch.fx.Node], set[str]],
) -> None:
    """Raises UnsupportedError for ops without a lowering; `lacking` says what an op's decomposition needs."""
    from porter.lowering.control_flow import reason_against

    gaps = tuple(
        Gap(
            name,
            len(nodes),
            str(
                reader.location(nodes[0])
                or "/".join(f.path for f in reader.frames(nodes[0]))
                or "the root"
            ),
            reason_against(name) or _noise(nodes[0]) or _needs(sorted(lacking(nodes[0]))),
        )
        for name, nodes in sorted(missing.items(), key=lambda item: (-len(item[1]), item[0]))
    )
    raise UnsupportedError(
        f"{reader.source.spec} needs {len(gaps)} op(s) that porter has no lowering for; add one with @porter.lowering, "
        "or run `porter ops` to see what there is:",
        gaps,
    )


def _noise(node: torch.fx.Node) -> str:
    """Why an op that draws random numbers has no lowering."""
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return ""
    return (
        "it draws random numbers, and no seed gives MLX the ones that torch draws: take the noise as an argument of "
        "forward, or draw it once, after torch.manual_seed(0), into a buffer"
    )


def _needs(names: list[str]) -> str:
    return f"torch's decomposition of it needs {', '.join(names)}" if names else ""
