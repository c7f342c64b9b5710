import os
import subprocess
import sys

import pytest

from porter import __version__
from porter.cli import COMMANDS


def porter(*words, **environment):
    command = [sys.executable, "-m", "porter", *words]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_help_imports_neither_torch_nor_mlx():
    code = "import sys, porter.cli; porter.cli.main(['--help'], standalone_mode=False); "
    code += "print(sorted({'torch', 'mlx', 'rich', 'numpy', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stderr.strip() == "[]"
    for name in COMMANDS:
        assert name in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(run, name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout
    assert "--debug" in result.stdout


def test_version(run):
    assert run("--version").stdout == f"porter, version {__version__}\n"


def test_python_m_porter_is_the_same_command():
    result = porter("--help")
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: porter ")


def test_an_unknown_command_is_wrong_usage():
    result = porter("frobnicate")
    assert result.returncode == 2
    assert "frobnicate" in result.stderr
    assert result.stdout == ""


def test_no_command_prints_the_help(run):
    assert run().exit_code == 2


def test_modules_of_the_api_are_callable(stub):
    import porter as package

    assert package.inspect.__name__ == "porter.inspect"
    assert callable(package.inspect)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        package.frobnicate  # noqa: B018
