from pathlib import Path

import pytest

from porter.batch import read_manifest
from porter.errors import InputError

GOOD = """
[defaults]
dtype = "float16"
timeout = 60

[[job]]
source = "timm:resnet18"
out = "ports/resnet18"
quantize = true
q-bits = 8
input = ["x=float32[1,3,64,64]"]
overwrite = false

[[job]]
name = "again"
validate = "ports/resnet18"
reference = "recording.zip"
timeout = 5
"""


def read(tmp_path: Path, text: str):
    path = tmp_path / "jobs.toml"
    path.write_text(text)
    return read_manifest(path)


def test_jobs_and_defaults(tmp_path):
    first, second = read(tmp_path, GOOD).jobs
    out = tmp_path / "ports/resnet18"
    assert first.name == "ports/resnet18"
    assert first.timeout == 60
    words = f"convert timm:resnet18 -o {out} --dtype float16 --quantize --q-bits 8"
    assert first.arguments() == [*words.split(), "--input", "x=float32[1,3,64,64]"]
    assert second.name == "again"
    assert second.timeout == 5
    assert second.arguments() == [
        "validate",
        str(out),
        "--reference",
        str(tmp_path / "recording.zip"),
    ]


def test_sources_beside_the_manifest_are_found_there(tmp_path):
    (tmp_path / "net.py").touch()
    (tmp_path / "weights").mkdir()
    text = '[[job]]\nsource = "net.py:make"\nout = "a"\n[[job]]\nsource = "weights"\nout = "b"\n'
    first, second = read(tmp_path, text).jobs
    assert first.source == f"{tmp_path / 'net.py'}:make"
    assert second.source == str(tmp_path / "weights")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[[job]]\nsource = "a"\nout = "b"\ncolour = 1\n', 4, "unknown key 'colour'"),
        (
            '[[job]]\nsource = "a"\nout = "b"\n\n[[job]]\nsource = 3\nout = "c"\n',
            6,
            "'source' must be a string",
        ),
        ('[[job]]\nsource = "a"\nout = "b"\nquantize = "yes"\n', 4, "true or false"),
        ('[[job]]\nsource = "a"\nout = "b"\nq-bits = true\n', 4, "a whole number"),
        ('[[job]]\nsource = "a"\nout = "b"\ninput = "x=y.npy"\n', 4, "a list of strings"),
        ('[[job]]\nsource = "a"\nout = "b"\ntimeout = -1\n', 4, "seconds"),
        ('[[job]]\nsource = "a"\nout = "b"\n[[job]]\nsource = "a"\n', 4, "lacks 'out'"),
        ('[[job]]\nvalidate = "a"\nout = "b"\n', 3, "either validate, or source and out"),
        ('[[job]]\nvalidate = "a"\ndtype = "float16"\n', 3, "unknown key 'dtype'"),
        ('[defaults]\nq_bots = 4\n[[job]]\nsource = "a"\nout = "b"\n', 2, "unknown key 'q_bots'"),
        (
            '[[job]]\nsource = "a"\nout = "b"\n[[job]]\nsource = "a"\nout = "b"\n',
            4,
            "two jobs are named 'b'",
        ),
        (
            '[[job]]\nsource = "a"\nout = "b"\n[[job]]\nname = "n"\nsource = "a"\nout = "b"\n',
            7,
            "two jobs write",
        ),
        ('[jobs]\nsource = "a"\n', 1, "unknown key 'jobs'"),
        ('[job]\nsource = "a"\n', 1, "must be tables"),
        ("job = 3\n", 1, "must be tables"),
        ('defaults = 3\n[[job]]\nsource = "a"\nout = "b"\n', 1, "must be a table"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, text, line, words):
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert f"jobs.toml, line {line}: " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "[defaults]\n", "job = []\n"])
def test_no_job_at_all(tmp_path, text):
    with pytest.raises(InputError, match=r"no \[\[job\]\]"):
        read(tmp_path, text)


def test_not_toml(tmp_path):
    with pytest.raises(InputError, match=r"not TOML.*line 1"):
        read(tmp_path, "[[job\n")


def test_not_text(tmp_path):
    path = tmp_path / "jobs.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_manifest(path)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_no_file(tmp_path, name):
    with pytest.raises(InputError, match="is not a file"):
        read_manifest(tmp_path / name)
