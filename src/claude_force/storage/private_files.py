"""Files that only their owner can read: 0600 in 0700 folders."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700


def make_private_folder(folder: Path) -> None:
    """Make ``folder`` and its missing parents, readable by the owner only.

    A folder that exists keeps its mode: it may be the user's own. Safe when several processes do it at once.

    Raises:
        OSError: it cannot be made, or a file is in its place.
    """
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        make_private_folder(folder.parent)
    # The mode of mkdir is filtered by the umask, which can only take rights away from 0700.
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)


def make_private_file(path: Path) -> bool:
    """Make an empty file at ``path`` that only the owner can read; False if something is there already.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except FileExistsError:
        return False
    os.close(descriptor)
    return True


def replace_private_file(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, whole or not at all; only the owner can read it.

    Raises:
        OSError: it cannot be written; what was there is as before.
    """
    with replacing_private_file(path) as file:
        file.write(content)


@contextmanager
def replacing_private_file(path: Path) -> Iterator[BinaryIO]:
    """What is written in the block stands at ``path`` when it ends, and not at all when it fails; only the owner can read it.

    Raises:
        OSError: it cannot be written; what was there is as before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE
        )
    except OSError as error:
        # What is told is the file that was asked for.
        error.filename = str(path)
        raise
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a path cannot open a descriptor
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def private_output(path: Path) -> Iterator[BinaryIO]:
    """A file that a user names for output: as `replacing_private_file`, but a device, a pipe or a link stays what it is.

    Raises:
        OSError: it cannot be written, or is a folder.
    """
    # Asked before links are resolved: a pipe behind /dev/stdout has no name of its own.
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    with replacing_private_file(path.resolve()) as file:
        yield file
