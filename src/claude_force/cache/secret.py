"""The secret that entries are signed with: given, or a random one that is made once."""

from __future__ import annotations

import logging
import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import ConfigError
from claude_force.storage.private_files import FILE_MODE, make_private_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LOG = logging.getLogger(__name__)

SECRET_FILE: Final = "secret"  # noqa: S105 - a file name
_SECRET_BYTES: Final = 32
# The file holds hexadecimal text, so that it can be copied to another machine by hand.
_TEXT_BYTES: Final = _SECRET_BYTES * 2
# Only on file systems without hard links can a reader meet a file that is being written.
_HALF_WRITTEN_SECONDS: Final = 0.2


def given_secret(secret: str | bytes) -> bytes:
    """The bytes of a secret that the user chose.

    Raises:
        ConfigError: it is empty.
    """
    if not secret:
        message = "the cache secret is empty; leave it out to have one made"
        raise ConfigError(message)
    return secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else bytes(secret)


def kept_secret(folder: Path, *, random_bytes: Callable[[int], bytes] = os.urandom) -> bytes:
    """The secret in ``folder``, made there if none is: of any number of processes at once, all get the same.

    Where the file cannot be read or made, or holds something else, the secret is a random one of this process
    alone: its entries are misses to others, and nothing is overwritten. That is logged as a warning.
    """
    path = folder / SECRET_FILE
    try:
        secret = _read(path)
        if secret is None:
            make_private_folder(folder)
            _make(path, random_bytes)
            secret = _read(path)
    except (OSError, ValueError) as error:
        _LOG.warning(
            "cache secret %s cannot be used (%s); entries of this process are for itself only",
            path,
            error,
        )
        secret = None
    return secret if secret is not None else random_bytes(_SECRET_BYTES)


def _read(path: Path) -> bytes | None:
    deadline = time.monotonic() + _HALF_WRITTEN_SECONDS
    while True:
        try:
            # A link could lead to a file that someone else knows.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_TEXT_BYTES + 1)
        if len(text) >= _TEXT_BYTES or time.monotonic() >= deadline:
            break
        time.sleep(0.01)
    if mode & ~FILE_MODE:
        _LOG.warning("cache secret %s can be read by others; make it 0600", path)
    if len(text) != _TEXT_BYTES:
        message = f"it holds {len(text)} bytes, not {_TEXT_BYTES}"
        raise ValueError(message)
    return bytes.fromhex(text.decode("ascii"))


def _make(path: Path, random_bytes: Callable[[int], bytes]) -> None:
    """Write the file whole under a name of its own, then link it into place: the first one wins."""
    text = random_bytes(_SECRET_BYTES).hex().encode("ascii")
    draft = path.with_name(f".{path.name}-{random_bytes(8).hex()}")
    try:
        _write_new(draft, text)
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    except OSError:
        # No hard links here: exclusive creation still lets exactly one win, and readers wait for the whole text.
        with suppress(FileExistsError):
            _write_new(path, text)
    finally:
        draft.unlink(missing_ok=True)


def _write_new(path: Path, text: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, FILE_MODE), "wb") as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            # A full disk. Half a secret would be there for good, and nobody could use the cache again.
            path.unlink(missing_ok=True)
            raise
