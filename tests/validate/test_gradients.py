"""The port's gradients against torch's, by the source's own parameters."""

from porter.validate import validate


def test_correct_port(port):
    found = validate(port, speed=False).gradients
    assert found["passed"]
    assert found["compared"] > 5
    assert found["rms_rel"] < 1e-4


def test_a_gradient_that_stops_is_named(port, plant):
    plant.code("self.head(mx.mean(x, axis=1))", "self.head(mx.stop_gradient(mx.mean(x, axis=1)))")
    report = validate(port, speed=False)
    assert report.verdict == "pass"  # the forward is right
    assert not report.gradients["passed"]
    assert report.gradients["rms_rel"] > 0.9
    assert not report.gradients["worst"].startswith("head")


def test_without_probes_there_are_none(port):
    assert validate(port, speed=False, probes=False).gradients is None
