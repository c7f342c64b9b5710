"""The package's facts stand in several files; they agree."""

import re
import tomllib
from pathlib import Path

import pytest

from porter.cli import COMMANDS
from porter.doctor import BASE, EXTRAS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return found.group().lower()


def test_doctor_knows_the_extras(project):
    extras = {
        extra: tuple(map(name, rows)) for extra, rows in project["optional-dependencies"].items()
    }
    assert set(extras) == {"cpu", "timm", "onnx", "report", "batch", "dev"}
    assert {extra: extras[extra] for extra in EXTRAS} == EXTRAS
    assert set(BASE) <= set(map(name, project["dependencies"]))


def test_constraints_pin_what_is_installed_and_name_no_address(project):
    text = (ROOT / "constraints.txt").read_text()
    pinned = {name(line) for line in text.splitlines() if "==" in line}
    wanted = set(map(name, project["dependencies"]))
    for extra, rows in project["optional-dependencies"].items():
        if extra != "onnx":
            wanted |= set(map(name, rows))
    assert wanted <= pinned
    assert "://" not in text
    assert "\n-" not in text


def test_the_readme_names_every_command():
    text = (ROOT / "README.md").read_text()
    assert [command for command in COMMANDS if f"`porter {command}" not in text] == []
