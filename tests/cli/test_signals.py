"""A signal ends a command in order: files half-written go, and the exit code is the shell's."""

import os
import signal
import subprocess
import sys
import time

import pytest

# A convert that writes into a folder beside, as porter.artifact.stage does, and never ends.
SCRIPT = """
import signal, sys, time, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from porter.cli import main
from porter.artifact import stage

def convert(source, out, **options):
    with stage(out) as folder:
        (folder / "model.py").write_text("half")
        print("writing", file=sys.stderr, flush=True)
        time.sleep(60)

module = types.ModuleType("porter.convert")
module.convert = convert
sys.modules["porter.convert"] = module
main(["convert", "x", "-o", sys.argv[1]])
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_nothing_half_written_stays(tmp_path, number, code):
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "out")]
    root = os.path.dirname(os.path.dirname(sys.modules["porter"].__file__))  # noqa: PTH120
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "writing" in line:
            break
    time.sleep(0.1)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == code
    assert "nothing half-written" in stderr
    assert "Traceback" not in stderr
    assert stdout == ""
    assert list(tmp_path.iterdir()) == []
