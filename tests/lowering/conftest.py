"""Makes `lowering.check` and `lowering.evaluate` importable from the tables."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
