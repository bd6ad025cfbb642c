"""Locks by key between the processes of a machine, which a killed process gives up at once."""

from __future__ import annotations

import os
import struct
from threading import Lock
from typing import TYPE_CHECKING, Final

from claude_force.storage.private_files import FILE_MODE, make_private_folder

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.cache.fingerprint import CacheKey

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has none: flights are shared within a process only
    _SET_LOCK: int | None = None
else:
    _SET_LOCK = getattr(fcntl, "F_OFD_SETLK", None)

LOCK_FILE: Final = "flights.lock"

# struct flock of 64-bit Linux: type, whence, start, length, pid.
_FLOCK: Final = struct.Struct("hhqqi4x")
# Offsets are signed.
_OFFSET_BITS: Final = 63


class MachineLock:
    """Exclusive locks on single bytes of one file, the byte chosen by the key. Safe in any thread.

    The kernel holds them and lets go when the process ends, by ``kill -9`` too, so there is no lease to run out and
    no heartbeat to miss. They belong to the open file and not to the process (OFD locks), so two objects in one
    process exclude each other as well. The file stays empty however many keys there are. Nothing here blocks for
    longer than a system call on a local file.

    Where there are no such locks (not Linux), or the file cannot be opened, every lock is granted: equal requests
    of two processes may then both be sent, which costs money and nothing else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._useless = _SET_LOCK is None
        self._opening = Lock()

    @property
    def ready(self) -> bool:
        """True when ``acquire`` will not open a file."""
        return self._useless or self._descriptor is not None

    def prepare(self) -> None:
        """Open the file. Waits for the disk, so it does not belong on an event loop; ``acquire`` does it otherwise."""
        try:
            self._open()
        except OSError:
            self._useless = True

    def acquire(self, key: CacheKey) -> bool:
        """Take the lock of ``key``; False where another holds it."""
        return self._useless or self._set(key, exclusive=True)

    def release(self, key: CacheKey) -> None:
        """Give the lock of ``key`` back."""
        if self._descriptor is not None:
            self._set(key, exclusive=False)

    def close(self) -> None:
        """Give every lock back. Also what a forked child has to do: it shares its parent's locks."""
        with self._opening:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _set(self, key: CacheKey, *, exclusive: bool) -> bool:
        if _SET_LOCK is None:
            return True
        kind = fcntl.F_WRLCK if exclusive else fcntl.F_UNLCK
        offset = int(key, 16) >> (len(key) * 4 - _OFFSET_BITS)
        try:
            fcntl.fcntl(self._open(), _SET_LOCK, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))
        except (BlockingIOError, PermissionError):
            # EAGAIN or EACCES, as the system likes. A folder that may not be written ends here as well.
            if self._descriptor is not None:
                return False
            self._useless = True
        except OSError:
            self._useless = True
        return True

    def _open(self) -> int:
        with self._opening:
            if self._descriptor is None:
                make_private_folder(self._path.parent)
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._descriptor = os.open(self._path, flags, FILE_MODE)
            return self._descriptor
