import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from porter import doctor
from porter.cli import main
from porter.doctor import Finding


@pytest.fixture(scope="module")
def findings():
    return doctor.examine()


def test_says_what_there_is(findings):
    by_name = {finding.name: finding for finding in findings}
    assert {"python", "torch", "mlx", "compiler", "memory", "disk", "timm", "onnx"} <= set(by_name)
    assert by_name["torch"].state == "ok"
    assert by_name["mlx"].value.split(", ")[1].split(":")[0] in ("CPU", "Metal", "CUDA")


def test_every_finding_that_is_not_ok_says_what_to_do(findings):
    assert all(finding.advice for finding in findings if finding.state != "ok")


def test_the_reference_blas_is_reported(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(doctor, "loaded_libraries", lambda: ["/x/mlx_cpu.libs/libblas-0.so.3"])
    monkeypatch.setattr(doctor, "openblas_library", lambda: None)
    (finding,) = doctor.check_blas()
    assert finding.state == "advice"
    assert "apt-get install libopenblas0-pthread" in finding.advice
    monkeypatch.setattr(doctor, "openblas_library", lambda: Path("/usr/lib/x/libopenblas.so.0"))
    assert "LD_PRELOAD=/usr/lib/x/libopenblas.so.0" in doctor.check_blas()[0].advice


def test_a_preloaded_openblas_is_recognised_and_numpy_s_own_is_not(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    numpy_own = "/x/numpy.libs/libopenblas64_-1.so"
    monkeypatch.setattr(
        doctor, "loaded_libraries", lambda: ["/usr/lib/libopenblas.so.0", "/x/libblas-0.so.3"]
    )
    assert doctor.check_blas()[0].state == "ok"
    monkeypatch.setattr(doctor, "loaded_libraries", lambda: [numpy_own, "/x/libblas-0.so.3"])
    assert doctor.check_blas()[0].state == "advice"


def test_a_check_that_fails_is_a_finding(monkeypatch):
    def broken():
        raise RuntimeError("driver too old")

    monkeypatch.setattr(doctor, "check_torch", broken)
    finding = next(finding for finding in doctor.examine() if finding.name == "torch")
    assert finding.state == "missing"
    assert "driver too old" in finding.value


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("advice", 0), ("missing", 5)])
def test_exit_code(monkeypatch, state, code):
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("mlx", state, "0.32", "do this")])
    result = CliRunner().invoke(main, ["doctor", "--json", "-"])
    assert result.exit_code == code
    assert json.loads(result.stdout) == {
        "schema": 1,
        "findings": [{"name": "mlx", "state": state, "value": "0.32", "advice": "do this"}],
    }


def test_text(monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("mlx", "advice", "0.32", "do this")])
    assert (
        CliRunner().invoke(main, ["doctor"]).stdout
        == "advice   mlx  0.32\n              -> do this\n"
    )
