"""What every test needs: the torchvision harness, here and in subprocesses, and one thread each.

The checkout is on sys.path, so that tests import what they share as `tests.sources.tiny_models`.
"""

import importlib.util
import os
import sys
from pathlib import Path

from hypothesis import settings

settings.register_profile("porter", deadline=None)  # machines differ, and tests run beside others
settings.load_profile("porter")

HARNESS = Path(__file__).parent / "harness"

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HARNESS), *filter(None, [os.environ.get("PYTHONPATH")])]
)

for folder in (str(HARNESS), str(HARNESS.parents[1])):
    if folder not in sys.path:
        sys.path.insert(0, folder)

_spec = importlib.util.spec_from_file_location("porter_test_harness", HARNESS / "sitecustomize.py")
assert _spec is not None
assert _spec.loader is not None
_harness = importlib.util.module_from_spec(_spec)
sys.modules["porter_test_harness"] = _harness  # kept: the operators live as long as it does
_spec.loader.exec_module(_harness)
