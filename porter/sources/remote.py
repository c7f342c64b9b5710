"""Sources elsewhere: `hf://ORG/REPO` from the Hugging Face hub, any other address through fsspec."""

from __future__ import annotations

import atexit
import contextlib
import re
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from porter.errors import InputError, MachineError, UsageError
from porter.sources.running import import_extra

_REPO = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
# Weights, configuration and tokenizer; other frameworks' weights stay where they are.
_ALLOWED = ("*.json", "*.safetensors", "*.bin", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py")


def fetch(address: str) -> Path:
    """A local copy of `address`: a folder or a file.

    Raises UsageError for an address that makes no sense, InputError when nothing is there, MachineError when it
    cannot be reached.
    """
    if address.startswith("hf://"):
        return _fetch_repository(address)
    return _fetch_address(address)


def _fetch_repository(address: str) -> Path:
    name, _, tag = address.removeprefix("hf://").strip("/").partition("@")
    revision = tag or None
    if not _REPO.fullmatch(name):
        raise UsageError(
            f"{address!r} is no Hugging Face repository; write hf://ORG/REPO, or hf://ORG/REPO@REVISION"
        )
    hub = import_extra("huggingface_hub", "transformers")
    errors = import_extra("huggingface_hub.errors", "transformers")
    try:
        has_safetensors = any(
            file.endswith(".safetensors") for file in hub.list_repo_files(name, revision=revision)
        )
        ignored = ["*.bin"] if has_safetensors else []
        return Path(
            hub.snapshot_download(
                name, revision=revision, allow_patterns=_ALLOWED, ignore_patterns=ignored
            )
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise InputError(
            f"{address} does not exist or needs a login; check the name, or run: hf auth login"
        ) from error
    except Exception as error:
        with contextlib.suppress(Exception):  # a copy from an earlier download will do
            return Path(hub.snapshot_download(name, revision=revision, local_files_only=True))
        raise MachineError(
            f"{address} cannot be fetched ({_first_line(error)}); check the network, or download it "
            f"elsewhere (hf download {name}) and name the folder"
        ) from error


def _fetch_address(address: str) -> Path:
    fsspec = import_extra("fsspec", "remote")
    scheme = address.partition("://")[0]
    try:
        files, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MachineError(
            f"{scheme}:// needs a package that is not installed ({_first_line(error)})"
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{address!r}: {_first_line(error)}; porter reads hf:// and fsspec's addresses"
        ) from error
    folder = Path(tempfile.mkdtemp(prefix="porter-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    name = PurePosixPath(path.rstrip("/")).name or "source"
    try:
        if not files.exists(path):
            raise InputError(f"{address} does not exist; check the address")
        target = folder / name
        files.get(path, str(target), recursive=bool(files.isdir(path)))
        return target
    except InputError:
        raise
    except Exception as error:
        raise MachineError(
            f"{address} cannot be fetched ({_first_line(error)}); check the network and your rights"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
