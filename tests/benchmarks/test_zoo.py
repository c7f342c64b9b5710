"""The zoo measures what it says: agreement, wrong results, limits, and a table of both."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.zoo import results
from benchmarks.zoo.case import Built, Case
from benchmarks.zoo.measure import compare, measure, reason_of
from benchmarks.zoo.processes import run_all
from benchmarks.zoo.table import render
from benchmarks.zoo.weights import randomize
from porter.loading import instantiate


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.scale = nn.Parameter(torch.full((8,), 1e-5))
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(image)).mean((2, 3))
        return self.head(x + self.scale * x)


def test_a_module_that_ports_is_right_in_every_column() -> None:
    record: dict[str, Any] = {}
    measure(Case("net", lambda: Built(Net(), (torch.randn(2, 3, 10, 12),))), record.update)
    columns = ("exported", "converted", "correct", "other_sizes", "compiled", "gradients")
    assert [record[name] for name in columns] == [True] * len(columns)
    assert record["tried"] == ["batch", "height", "width"]
    assert record["transposes"] == 0


def test_no_weight_stays_zero_or_one() -> None:
    net = Net()
    randomize(net)
    for name, value in [*net.named_parameters(), *net.named_buffers()]:
        if value.ndim:
            assert ((value != 0) & (value != 1)).all(), name


@pytest.mark.parametrize(
    ("found", "wrong"),
    [([[1.0], [2.0]], False), ([[1.0], [2.001]], True), ([[1.0], [float("nan")]], True)],
)
def test_compare(found: list[list[float]], wrong: bool) -> None:
    truth = [np.array([[1.0], [2.0]], dtype=np.float32)]
    assert bool(compare([np.array(found, dtype=np.float32)], truth, lambda: truth)) is wrong


def test_half_types_are_judged_by_their_rounding() -> None:
    truth = [np.array([[1.0], [2.0]], dtype=np.float32)]
    found = [np.array([[1.0], [2.004]], dtype=np.float32)]
    assert compare(found, truth, lambda: truth, [2 * 2.0**-8]) == ""
    assert compare(found, truth, lambda: truth, [0.0])


def test_a_bfloat16_module_is_measured() -> None:
    record: dict[str, Any] = {}
    args = (torch.randn(3, 4).bfloat16(), torch.tensor(2.0).bfloat16())
    measure(Case("half", lambda: Built(Scaled(), args)), record.update, gradients=False)
    assert record["correct"], record
    assert record["compiled"], record


class Scaled(nn.Module):
    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return x * scale


def test_a_large_bias_does_not_hide_a_wrong_trunk() -> None:
    truth = [np.array([[100.0], [100.001]], dtype=np.float32)]
    constant = [np.full((2, 1), 100.0, dtype=np.float32)]
    assert compare(constant, truth, lambda: truth)


def test_a_wrong_port_names_the_module_that_differs_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model_py: str, config: dict[str, Any], weights: dict[str, Any]) -> Any:
        weights["norm.running_mean"] = weights["norm.running_mean"] + 0.1
        return instantiate(model_py, config, weights)

    monkeypatch.setattr("benchmarks.zoo.measure.instantiate", wrong)
    case = Case("net", lambda: Built(Net(), (torch.randn(2, 3, 10, 12),)))
    with pytest.raises(
        AssertionError, match=r"; norm \(nn.BatchNorm\) is the first to differ, by "
    ):
        measure(case, lambda _: None)


def test_processes_are_limited_and_what_they_sent_is_kept(tmp_path) -> None:
    def work(case: Case, send: Any) -> None:
        send({"stage": "run"})
        if case.name == "endless":
            while True:
                pass
        if case.name == "killed":
            os.kill(os.getpid(), signal.SIGTERM)
        if case.name == "raises":
            raise ValueError("no such axis")
        send({"stage": "done"})

    cases = [Case(name, lambda: Built(Net())) for name in ("endless", "killed", "raises", "good")]
    records = {r["case"]: r for r in run_all(cases, work, 4, 1, 8.0, tmp_path)}
    assert records["endless"]["reason"] == "took over 1 s of CPU time in: run"
    assert records["killed"]["reason"] == "ended by SIGTERM in: run"
    assert records["raises"]["reason"] == "ValueError: no such axis"
    assert records["good"]["stage"] == "done"
    assert "reason" not in records["good"]


def test_the_table_counts_and_names_each_failure(tmp_path) -> None:
    right = {"exported": True, "converted": True, "correct": True, "stage": "done", "seconds": 2.0}
    wrong = {"exported": True, "converted": True, "correct": False, "stage": "run"}
    for record in (
        right | {"case": "a", "commit": "1234abc", "when": "2026-01-02T03:04:05"},
        wrong
        | {
            "case": "b",
            "reason": "output 0: off",
            "commit": "1234abc",
            "when": "2026-01-01T03:04:05",
        },
        {"case": "c", "stage": "reference", "reason": "torch says no"},
    ):
        results.append(tmp_path, "some", dict(record))
    text = render({"some": results.read(tmp_path, "some")}, "2026-01-01", {"some": 4})
    assert "| some | 2, 4 | 2 / 2 | 2 / 2 | 1 / 2 |" in text
    assert "| 1234abc, 2026-01-02 |" in text
    assert "- `b`: output 0: off (in: run)" in text
    assert "### Not run by torch itself here (1)" in text


def test_a_shrunk_width_has_whole_heads() -> None:
    """Qwen3-VL's tower has a width of 1152 in 16 heads: a sixteenth of it has none of 4.5."""
    from transformers import Qwen3VLConfig

    from benchmarks.zoo.small_configs import SCALES, scaled

    tower = scaled(Qwen3VLConfig, SCALES[0], {}).vision_config
    assert tower.hidden_size % tower.num_heads == 0


def test_a_configuration_whose_heads_differ_by_layer_is_shrunk() -> None:
    from transformers import Gemma4TextConfig

    from benchmarks.zoo.small_configs import candidates

    _, config = next(candidates(Gemma4TextConfig, {}))
    assert config.num_hidden_layers == 2


def test_rotations_by_axes_cover_a_head() -> None:
    """Pairs of features by time, height and width are all that a shrunk head rotates."""
    from transformers import Glm4vMoeTextConfig

    from benchmarks.zoo.small_configs import SCALES, scaled

    config = scaled(Glm4vMoeTextConfig, SCALES[0], {})
    of_head = config.hidden_size // config.num_attention_heads
    assert sum(config.rope_parameters["mrope_section"]) == of_head // 4  # half of it is rotated


def test_a_field_under_another_name_is_shrunk() -> None:
    """The configuration keeps `num_attention_heads` as `n_head`."""
    from transformers import PreTrainedConfig

    from benchmarks.zoo.small_configs import SCALES, scaled

    class Renamed(PreTrainedConfig):
        attribute_map = {"num_hidden_layers": "n_layers"}  # noqa: RUF012
        num_hidden_layers: int = 24

    assert scaled(Renamed, SCALES[0], {}).num_hidden_layers == 2


def test_frozen_parameters_have_no_gradient_to_compare() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(6, 5), requires_grad=False)
            self.proj = nn.Linear(5, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.proj(x + self.table)

    found: dict[str, Any] = {}
    measure(Case("frozen", lambda: Built(Frozen(), (torch.randn(2, 6, 5),))), found.update)
    assert found["stage"] == "done"
    assert found["gradients"]


def test_a_reason_is_one_line() -> None:
    assert reason_of(KeyError("a\nb")) == "KeyError: 'a\\nb'"


class Stream(nn.Module):
    """Goes on where the call before it ended, and holds a gain that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4), requires_grad=False)
        self.proj = nn.Linear(4, 4)
        self.register_buffer("last", torch.zeros(1, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.proj(x) * self.gain + self.last
        self.last = y[:1].detach()
        return y


def test_a_module_that_keeps_state_and_a_frozen_weight_is_measured() -> None:
    record: dict[str, Any] = {}
    measure(Case("stream", lambda: Built(Stream(), (torch.randn(3, 4),))), record.update)
    assert record["correct"], record
    assert record["gradients"], record
