"""What the README's figures come from: converts a list of models and prints one table of parity and speed.

python benchmarks/bench.py                        the default list
python benchmarks/bench.py timm:vit_tiny_patch16_224 FOLDER
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

SOURCES = (
    "timm:resnet18",
    "timm:resnet50",
    "timm:convnext_tiny",
    "timm:efficientnet_b0",
    "timm:vit_tiny_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
)
RUNS = (("reference", "eager"), ("candidate", "eager"), ("candidate", "compiled"))


def main() -> None:
    sources = sys.argv[1:] or SOURCES
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "mlx", "timm"))
    print(f"{platform.platform()}, {platform.processor() or platform.machine()}; {packages}\n")
    print(
        "| model | verdict | worst margin | modules | model.py, lines | torch ms | MLX ms | compiled ms | port s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for source in sources:
        print(f"| {' | '.join(row(source))} |", flush=True)


def row(source: str) -> list[str]:
    """Converts one source with proof, and reads the figures from its report."""
    with tempfile.TemporaryDirectory(prefix="porter-bench-") as folder:
        out = Path(folder) / "port"
        started = time.perf_counter()
        words = [
            sys.executable,
            "-m",
            "porter",
            "convert",
            source,
            "-o",
            str(out),
            "--route",
            "graph",
        ]
        done = subprocess.run(
            words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        seconds = time.perf_counter() - started
        if not (out / "report.json").exists():
            return [source, f"exit {done.returncode}", *["-"] * 6, f"{seconds:.1f}"]
        report = json.loads((out / "report.json").read_text())
        lines = len((out / "model.py").read_text().splitlines())
    compared = [*report["outputs"], *report["modules"]]
    margins = [item["margin"] for item in compared if item["margin"] is not None]
    return [
        source,
        report["verdict"],
        f"{max(margins):.2f}" if margins else "-",
        str(len(report["modules"])),
        str(lines),
        *(median(report, side, compiled) for side, compiled in RUNS),
        f"{seconds:.1f}",
    ]


def median(report: dict[str, Any], side: str, mode: str) -> str:
    """The median of one side's runs in milliseconds."""
    for run in (report["speed"] or {}).get("runs", []):
        if (run["side"], run["mode"]) == (side, mode):
            return f"{run['median_ms']:.2f}"
    return "-"


if __name__ == "__main__":
    main()
