"""read_parts: arrays that are written piece by piece are joined once, and read where their parts are."""

import random

import pytest
import torch
from torch import nn

from porter.passes.read_parts import read_parts
from tests.passes.programs import Fn, rewritten, x
from tests.random_modules.parity import check_source, port_of


class Decoder(nn.Module):
    """Steps are written into an array of zeros."""

    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.GRUCell(4, 6), nn.Linear(6, 4)

    def forward(self, a):
        hidden, token = a.new_zeros(a.shape[0], 6), a[:, 0]
        written = a.new_zeros(a.shape[0], 5, 4)
        for t in range(5):
            hidden = self.cell(token, hidden)
            token = self.out(hidden)
            written[:, t] = token
        return written


def test_steps_that_are_written_into_zeros_are_stacked():
    ported = port_of(Decoder, [x(2, 3, 4)])
    ported.check(x(3, 3, 4))
    check_source(ported.port.model_py)
    assert "tokens.append(" in ported.port.model_py
    assert "concatenate" not in ported.port.model_py


def farthest(points):
    """Farthest point sampling: distances are kept where a point is nearer, places are written one by one."""
    batch, count, _ = points.shape
    rows = torch.arange(batch)
    places = torch.zeros(batch, 6, dtype=torch.long)
    distance, last = (
        torch.ones(batch, count).to(points) * 1e10,
        torch.zeros(batch, dtype=torch.long),
    )
    for i in range(6):
        places[:, i] = last
        found = ((points - points[rows, last].view(batch, 1, 3)) ** 2).sum(-1)
        nearer = found < distance
        distance[nearer] = found[nearer]
        last = distance.max(-1)[1]
    return places


def test_farthest_points_wait_for_no_count():
    ported = port_of(lambda: Fn(farthest), [x(2, 12, 3)])
    ported.check(x(3, 12, 3))
    source = ported.port.model_py
    assert "item()" not in source
    assert "concatenate" not in source
    assert "for _ in range(" in source


def hashed(cells):
    result = torch.zeros_like(cells)[..., 0]
    for i, prime in enumerate((1, 7919, 104729)):
        result ^= cells[..., i] * prime
    return result


def written_beyond(a):
    b = a.clone()
    b[:, 1:3] = a[:, :2] * 2
    return b[:, 2:5], b[:, :1], b[:, -1]


def written_twice(a):
    b = torch.zeros_like(a)
    b[:, :2] = a[:, 2:4]
    b[:, 2:] = b[:, :2].repeat(1, 2, 1)[:, :3]
    return b


READS = {
    "a view that is written through": (hashed, torch.arange(15).reshape(5, 3), {}),
    "across parts": (written_beyond, x(2, 5, 3), {"mx.concatenate": 1}),
    "halves": (written_twice, x(2, 5, 3), None),
}


@pytest.mark.parametrize(("forward", "given", "left"), READS.values(), ids=READS)
def test_reads_of_what_was_written(forward, given, left):
    ported = port_of(lambda: Fn(forward), [given])
    ported.check(given)
    if left is not None:
        assert ported.port.model_py.count("mx.concatenate(") == sum(left.values())


def test_an_axis_that_is_taken_away_again_is_not_made():
    def forward(a, b):
        wide = a[..., None]
        return wide[:, :, 0].tanh() + wide[0, :, 0] + b[:, None][:, 0, 1:].tanh()

    ported = port_of(lambda: Fn(forward), [x(2, 3), x(2, 4)])
    ported.check(x(2, 3), x(2, 4))
    assert "None" not in ported.port.model_py


A, B = x(2, 4), x(3, 2, 4)


def test_an_array_with_a_new_axis():
    program, counts = rewritten(lambda a, b: torch.cat([a[None], b])[0] + 1, [A, B], read_parts)
    assert counts == [1]
    assert [node.op for node in program.nodes if node.op == "mx.concatenate"] == []


def test_a_place_in_a_later_part_and_before_its_cut():
    program, counts = rewritten(lambda a, b: torch.cat([a[None], b[1:]])[2] * 2, [A, B], read_parts)
    assert counts == [1]
    (picked,) = [node for node in program.nodes if node.op == "[]"]
    assert picked.args[0] is program.inputs[1]
    assert picked.attrs["key"] == (2,)


@pytest.mark.parametrize("place", range(5))
def test_any_place_is_read_where_it_is(place):
    def forward(a, b):
        return torch.cat([a.sin(), b.cos()], 1)[:, place, :2] * 2

    _, counts = rewritten(forward, [x(3, 2, 4), x(3, 3, 4)], read_parts)
    assert counts == [1]


def test_another_axis_stays():
    _, counts = rewritten(
        lambda a, b: torch.cat([a[None], b], dim=1)[0] * 2, [x(3, 4), x(1, 2, 4)], read_parts
    )
    assert counts == [0]


@pytest.mark.parametrize("seed", range(40))
def test_random_reads_and_writes(seed):
    """Parts put side by side, cut, written into and read anew, by places from the front and from the end."""
    draw = random.Random(seed)

    def cut(length):
        start = draw.randrange(length)
        stop = draw.randrange(start + 1, length + 1)
        start, stop = (end - length if draw.random() < 0.3 else end for end in (start, stop))
        if draw.random() < 0.3:
            return start
        return slice(start, stop or None)

    plans = [(draw.choice(("join", "write", "read")), cut(6), draw.random()) for _ in range(5)]

    def forward(a, b):
        y, found = torch.cat([a[:, :2].sin(), b.new_zeros(2, 1, 3), b[:, None, 0], b[:, :2]], 1), []
        for what, key, chance in plans:
            if what == "write":
                y = y.clone()
                part = y[:, key]
                y[:, key] = part.cos() if chance < 0.5 else a[:, :1].expand(2, 6, 3)[:, key]
            elif what == "join":
                y = torch.cat([y[:, 1:], a[:, -1:]], 1)
            else:
                found.append(y[:, key, :2] if chance < 0.5 else y[:, key])
        return (*found, y)

    rewritten(forward, [x(2, 4, 3), x(2, 3, 3, seed=1)], read_parts)
