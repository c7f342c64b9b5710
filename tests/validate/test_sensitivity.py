"""Every planted bug is caught and located, and the port stays as it was."""

from __future__ import annotations

from porter.validate import prove_sensitivity, validate


def test_planted_bugs_are_caught_and_located(port, recording):
    before = {f.name: f.read_bytes() for f in port.iterdir()}
    found = prove_sensitivity(port, reference=recording)
    kinds = {b.kind for b in found.bugs}
    assert kinds >= {
        "eps ten times as large", "the other GELU", "bias lost", "weight transposed",
        "1 added to the weight",
    }  # fmt: skip
    assert found.caught == 1, found.to_dict()
    assert found.located == 1, found.to_dict()
    assert {f.name: f.read_bytes() for f in port.iterdir()} == before
    assert validate(port, reference=recording, speed=False, write=False).verdict == "pass"
