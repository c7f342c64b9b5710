"""Reading what the candidate wrote; apart from it, since the parent does not import MLX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = "results.json"
#: Both sides' gradients, in the order of the manifest's "gradients".
GRADIENTS = "gradients.npz"


def read_results(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / RESULTS).read_text(encoding="utf-8")))
