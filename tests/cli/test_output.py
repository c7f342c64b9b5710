import json

import pytest

from porter.cli.output import plain, table, write_json
from porter.cli.progress import Progress


def test_what_json_lacks_is_spelled_out(tmp_path):
    write_json(
        str(tmp_path / "r.json"), {"a": float("nan"), "b": (1, float("-inf")), "c": tmp_path}
    )
    text = (tmp_path / "r.json").read_text()
    assert json.loads(text) == {"schema": 1, "a": "nan", "b": [1, "-inf"], "c": str(tmp_path)}


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "r.json"
    target.write_text("old")
    with pytest.raises(TypeError):
        write_json(str(target), {"a": object()})
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_plain_leaves_what_json_has():
    assert plain({1: [True, None, "x", 2.5]}) == {"1": [True, None, "x", 2.5]}


def test_table_aligns():
    assert (
        table(("name", "MB"), [("a", "1.0"), ("long", "10.0")], right=(1,))
        == "name    MB\na      1.0\nlong  10.0"
    )


def test_progress_without_a_terminal_is_a_line_a_stage(capsys):
    with Progress() as progress:
        progress("reference: loading")
        for step in range(100):
            progress("weights", step, 100)
            progress(f"weights {step}/100 layers.{step}")
        progress("proof")
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line.partition("] ")[2] for line in lines if "100" not in line] == [
        "reference: loading",
        "proof",
    ]
    assert 3 <= len(lines) <= 4
