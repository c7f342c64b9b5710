"""passed_checks: what an author asserts of his numbers holds in the port."""

import pytest
import torch

from porter.errors import UnsupportedError
from tests.frontends.checked import Branches, Checked
from tests.random_modules.parity import port_of


def test_checks_pass():
    ported = port_of(Checked, [torch.randn(2, 4)])
    assert any("takes it that they pass" in note for note in ported.port.notes)
    ported.check(torch.randn(3, 4))


def test_a_branch_is_no_check():
    with pytest.raises(UnsupportedError, match="data-dependent"):
        port_of(Branches, [torch.randn(2, 4)])
