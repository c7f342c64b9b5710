"""What stands in a forward: no size that nothing reads."""

from __future__ import annotations

from porter.emit.body import read_sizes


def test_a_size_that_no_line_reads_goes():
    lines = ["N = latent.shape[1]", "L = x.shape[1]", "H = int(L**0.5)", "return x.reshape(H, H)"]
    assert read_sizes(lines) == lines[1:]


def test_a_size_that_only_a_loop_reads_stays():
    lines = ["L = x.shape[1]", "for i in range(L):", "    x = x + i", "return x"]
    assert read_sizes(lines) == lines


def test_a_root_that_no_line_reads_goes_with_its_size():
    lines = ["N = y.shape[1]", "H = int(N**0.5)", "return y.flatten()"]
    assert read_sizes(lines) == lines[2:]
