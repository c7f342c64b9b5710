"""What this machine has, and what to do about what it lacks."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

# What each extra of pyproject.toml brings, by distribution name.
EXTRAS = {
    "timm": ("timm", "torchvision"),
    "onnx": ("onnx",),
    "report": ("jinja2",),
    "batch": ("joblib",),
}
BASE = ("mlx-lm", "transformers", "safetensors", "numpy", "fsspec")

OPENBLAS = "openblas-pthread/libblas.so.3"
SCARCE_MEMORY = 4e9  # bytes: below this a ResNet converts, a language model hardly
SCARCE_DISK = 10e9


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the machine; "advice" is what works and could be better, "missing" what porter needs."""

    name: str
    state: Literal["ok", "advice", "missing"]
    value: str
    advice: str = ""


def examine() -> list[Finding]:
    """Every finding, in the order in which they are printed. A check that itself fails is a finding, not an error."""
    checks: tuple[tuple[str, Callable[[], list[Finding]]], ...] = (
        ("python", check_python),
        ("torch", check_torch),
        ("mlx", check_mlx),
        ("blas", check_blas),
        ("compiler", check_compiler),
        ("memory", check_memory),
        ("disk", check_disk),
        ("packages", check_packages),
    )
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings += check()
        except Exception as error:  # noqa: BLE001 - an import of torch or mlx may raise anything; the finding says it
            findings.append(
                Finding(
                    name, "missing", f"{type(error).__name__}: {error}", f"Install {name} again."
                )
            )
    return findings


def check_python() -> list[Finding]:
    where = f"{platform.system()} {platform.release()}, {platform.machine()}"
    return [Finding("python", "ok", f"{platform.python_version()} on {where}")]


def check_torch() -> list[Finding]:
    """Version, and the device that a reference would run on."""
    if importlib.util.find_spec("torch") is None:
        return [Finding("torch", "missing", "not installed", "pip install torch")]
    torch: Any = importlib.import_module("torch")
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
        device = f"CUDA {torch.version.cuda}: {', '.join(sorted(names))}"
    elif torch.backends.mps.is_available():
        device = "MPS"
    else:
        device = f"CPU, {torch.get_num_threads()} threads"
    return [Finding("torch", "ok", f"{torch.__version__}, {device}")]


def check_mlx() -> list[Finding]:
    """Version and backend."""
    if importlib.util.find_spec("mlx") is None:
        return [
            Finding(
                "mlx",
                "missing",
                "not installed",
                "pip install 'porter[cpu]' on Linux, mlx on a Mac",
            )
        ]
    try:
        mx: Any = importlib.import_module("mlx.core")
    except ImportError as error:
        return [
            Finding(
                "mlx",
                "missing",
                f"installed without a backend ({error})",
                "pip install 'mlx[cpu]', or 'mlx[cuda13]' on a machine with an NVIDIA card",
            )
        ]
    return [Finding("mlx", "ok", f"{version('mlx')}, {mlx_backend(mx)}")]


def mlx_backend(mx: Any) -> str:
    """ "Metal", "CUDA" or "CPU", with the device's name where MLX gives one."""
    if mx.metal.is_available():
        name = "Metal"
    elif getattr(mx, "cuda", None) is not None and mx.cuda.is_available():
        name = "CUDA"
    else:
        return "CPU"
    device = mx.device_info().get("device_name", "")
    return f"{name}: {device}" if device else name


def check_blas() -> list[Finding]:
    """Which BLAS MLX multiplies matrices with on Linux; its CPU wheel brings the reference one, which is slow."""
    if sys.platform == "darwin":
        return [Finding("blas", "ok", "Accelerate")]
    if importlib.util.find_spec("mlx") is None:
        return []
    importlib.import_module("mlx.core")
    mapped = loaded_libraries()
    if preloaded := [path for path in mapped if "openblas" in path and ".libs/" not in path]:
        return [Finding("blas", "ok", f"OpenBLAS ({preloaded[0]})")]
    reference = [path for path in mapped if Path(path).name.startswith("libblas")]
    if not reference:
        return [Finding("blas", "ok", "not the reference BLAS")]
    installed = openblas_library()
    advice = (
        f"LD_PRELOAD={installed} makes matmul 5 to 8 times faster"
        if installed
        else "apt-get install libopenblas0-pthread, then run with "
        f"LD_PRELOAD=$(ls /usr/lib/*/{OPENBLAS}): matmul becomes 5 to 8 times faster"
    )
    return [
        Finding(
            "blas", "advice", f"reference BLAS of MLX's wheel ({Path(reference[0]).name})", advice
        )
    ]


def loaded_libraries() -> list[str]:
    """Shared libraries mapped into this process; empty where /proc is not."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return []
    lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    return sorted({line.split(maxsplit=5)[5] for line in lines if ".so" in line})


def openblas_library() -> Path | None:
    """The OpenBLAS that a validation preloads, where one is installed."""
    from porter.validate.environment import openblas

    return openblas()


def check_compiler() -> list[Finding]:
    """mx.compile on the CPU backend writes C++ and compiles it when the function is first called."""
    found = shutil.which("g++") or shutil.which("clang++")
    if found:
        return [Finding("compiler", "ok", found)]
    return [
        Finding(
            "compiler",
            "advice",
            "no C++ compiler",
            "mx.compile on MLX's CPU backend needs one: apt-get install g++",
        )
    ]


def check_memory() -> list[Finding]:
    """Total memory, and what is free where the system says so."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = available_memory()
    value = f"{total / 1e9:.1f} GB" + ("" if free is None else f", {free / 1e9:.1f} GB free")
    scarce = (total if free is None else free) < SCARCE_MEMORY
    advice = "Proving a large model needs the source's weights in memory; --no-proof does not."
    return [Finding("memory", "advice" if scarce else "ok", value, advice if scarce else "")]


def available_memory() -> int | None:
    """Bytes that a new process may take, from /proc/meminfo; None where there is none."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def check_disk() -> list[Finding]:
    """Free space where the command was started: that is where `-o DIR` mostly goes."""
    free = shutil.disk_usage(Path.cwd()).free
    scarce = free < SCARCE_DISK
    advice = "A port takes as much as its checkpoint, twice for a moment with --overwrite."
    return [
        Finding(
            "disk",
            "advice" if scarce else "ok",
            f"{free / 1e9:.1f} GB free here",
            advice if scarce else "",
        )
    ]


def check_packages() -> list[Finding]:
    """The base packages, then those of each extra."""
    findings = []
    for name in BASE:
        found = distribution_version(name)
        advice = "" if found else f"pip install {name}"
        findings.append(
            Finding(name, "ok" if found else "missing", found or "not installed", advice)
        )
    for extra, names in EXTRAS.items():
        for name in names:
            found = distribution_version(name)
            advice = "" if found else f"pip install 'porter[{extra}]'"
            findings.append(
                Finding(name, "ok" if found else "advice", found or "not installed", advice)
            )
    return findings


def distribution_version(name: str) -> str | None:
    """The installed version, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def to_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """The --json object, without its "schema"."""
    return {"findings": [asdict(finding) for finding in findings]}


def format_findings(findings: Sequence[Finding]) -> str:
    """One line a finding, and below it what to do."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<7}  {finding.name:<{width}}  {finding.value}")
        if finding.advice:
            lines.append(f"{'':<7}  {'':<{width}}  -> {finding.advice}")
    return "\n".join(lines)
