"""Reads byte ranges of a file, and turns every way in which that fails into an InputError."""

from __future__ import annotations

from io import BufferedReader
from pathlib import Path

import numpy as np

from porter.errors import InputError


class FileBytes:
    """A file of which ranges are read on demand; `size` is its length in bytes."""

    __slots__ = ("_file", "path", "size")

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BufferedReader = path.open("rb")
            self.size = self._file.seek(0, 2)
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}): check the path."
            ) from error

    def read(self, offset: int, count: int) -> np.ndarray:
        """`count` bytes from `offset` as uint8 [count]; InputError when the file does not hold them."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise damaged(self.path, f"it ends at byte {self.size}, before byte {offset + count}")
        raw = np.empty(count, np.uint8)
        try:
            self._file.seek(offset)
            got = self._file.readinto(raw.data) if count else 0
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} cannot be read ({error}): try again.") from error
        if got != count:
            raise damaged(self.path, "it became shorter while it was read")
        return raw

    def close(self) -> None:
        self._file.close()


def damaged(path: Path, reason: str) -> InputError:
    """The error for a file whose content is not what it should be."""
    return InputError(f"{path} is damaged or incomplete: {reason}; fetch or save it again.")


def check_key(path: Path, key: object) -> str:
    """`key` itself when it is a proper tensor name; InputError for one that no file can hold."""
    if not isinstance(key, str):
        raise damaged(path, f"it names a tensor {key!r}, which is not text")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise damaged(path, f"the tensor name {key!r} is not valid Unicode") from None
    return key
