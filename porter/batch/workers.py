"""How many jobs run at a time."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

CPUS_PER_JOB = 4  # a proof runs torch and MLX, and both use threads


def default_workers() -> int:
    """One job for every four CPUs that this process may use, and at least one."""
    return max(1, usable_cpus() // CPUS_PER_JOB)


def usable_cpus() -> int:
    """CPUs by affinity mask; with joblib (extra `batch`) by a container's quota too."""
    if importlib.util.find_spec("joblib") is not None:
        joblib: Any = importlib.import_module("joblib")
        return int(joblib.cpu_count())
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
