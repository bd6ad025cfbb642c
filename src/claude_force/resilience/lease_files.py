"""Tells which processes are alive: each holds a lock on a file of its own, which the kernel drops when it dies.

A lock is let go the moment a process ends, also by ``kill -9``, so nobody waits for a heartbeat to run out; and it
cannot be mistaken for another process that was given the same number. Where the platform has no such lock
(``fcntl`` is missing) only the age of the last visit counts.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from claude_force.storage.private_files import make_private_file, make_private_folder

try:
    import fcntl
except ImportError:  # pragma: no cover - only on Windows
    fcntl = None  # type: ignore[assignment] # the fallback is the absence of the module
_HAS_LOCKS: Final = fcntl is not None

if TYPE_CHECKING:
    from pathlib import Path


class LeaseFile:
    """The lock of one lease, held until `release` or the death of the process.

    Raises:
        OSError: the file cannot be made or locked.
    """

    def __init__(self, folder: Path, lease_id: str) -> None:
        make_private_folder(folder)
        self._path = folder / lease_id
        make_private_file(self._path)
        # A child that is started by exec does not inherit it: it would keep the lock after our death.
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        if _HAS_LOCKS:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Let the lock go and remove the file."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def is_abandoned(folder: Path, lease_id: str) -> bool:
    """True when the owner of the lease is dead for certain."""
    if not _HAS_LOCKS:  # pragma: no cover - only on Windows
        return False
    try:
        descriptor = os.open(folder / lease_id, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        # Closing lets the lock go again.
        os.close(descriptor)


def remove_abandoned(folder: Path, lease_id: str) -> None:
    """Remove the file of a dead process."""
    with contextlib.suppress(OSError):
        (folder / lease_id).unlink(missing_ok=True)
