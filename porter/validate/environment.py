"""What the two processes' environments are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import porter

#: Where Debian, Fedora, Arch and Homebrew on Linux keep an OpenBLAS that serves as libblas.so.3.
BLAS_PATTERNS = (
    ("/usr/lib", "*/openblas-pthread/libblas.so.3"),
    ("/usr/lib", "*/openblas-openmp/libblas.so.3"),
    ("/usr/lib", "*/openblas*/libblas.so.3"),
    ("/usr/lib64", "libopenblasp.so.0"),
    ("/usr/lib", "libopenblas.so.0"),
    ("/usr/lib64", "libopenblas.so.0"),
)


def openblas() -> Path | None:
    """OpenBLAS to preload: MLX's Linux CPU wheel carries the reference BLAS, 5 to 17 times slower."""
    if not sys.platform.startswith("linux"):
        return None
    for root, pattern in BLAS_PATTERNS:
        for found in sorted(Path(root).glob(pattern)):
            return found
    return None


def reference() -> dict[str, str]:
    return {**os.environ, "NVIDIA_TF32_OVERRIDE": "0", **_path()}


def candidate() -> dict[str, str]:
    """TF32 off, and OpenBLAS preloaded where it is installed."""
    environment = {**os.environ, "MLX_ENABLE_TF32": "0", **_path()}
    blas = openblas()
    if blas is not None:
        earlier = os.environ.get("LD_PRELOAD")
        environment["LD_PRELOAD"] = f"{blas}:{earlier}" if earlier else str(blas)
    return environment


def _path() -> dict[str, str]:
    """The children find this porter, whatever the working directory."""
    package = porter.__file__
    assert package is not None
    root = str(Path(package).resolve().parent.parent)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
