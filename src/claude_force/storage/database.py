"""Opening a SQLite database: private file, recognised owner, WAL, migrated schema."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from claude_force.storage.errors import ForeignFileError, StorageError
from claude_force.storage.private_files import make_private_file, make_private_folder

if TYPE_CHECKING:
    from pathlib import Path

Synchronous = Literal["NORMAL", "FULL"]

_MAGIC: Final = b"SQLite format 3\x00"
# https://www.sqlite.org/fileformat2.html#application_id: big-endian, at offset 68 of a header of 100 bytes.
_HEADER_BYTES: Final = 100
_APPLICATION_ID: Final = slice(68, 72)
# Only a fresh database can be contended at opening, and only for the length of one migration.
_RETRY_SECONDS: Final = 0.01

# What SQLite reports when the bytes of a file are not what it wrote: SQLITE_CORRUPT and SQLITE_NOTADB.
_DAMAGE_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# Files that this process has looked at and found to be ours, by device and inode. Closing a descriptor of a file drops
# every POSIX lock that the process holds on it, SQLite's too (https://www.sqlite.org/howtocorrupt.html, 2.2), so a
# file that may be open as a database is never opened and closed again to look at its header.
_RECOGNISED: Final[set[tuple[int, int]]] = set()
# One look at a time: a thread that finds the file recognised may open it while another still looks.
_RECOGNISING: Final = threading.Lock()
_BUSY_CODES: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# An extended result code carries its primary code in the low byte.
_PRIMARY_CODE: Final = 0xFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a kind of database is recognised by, and how it came to be what it is."""

    # Tells one kind of database from every other; never 0, never changed.
    application_id: int
    # Step i holds the statements that take version i to version i + 1. Only ever appended to.
    migrations: tuple[tuple[str, ...], ...]
    # Freed pages can be given back to the file system, at the price of one map page in about 800.
    shrinkable: bool = False

    @property
    def version(self) -> int:
        """The version that this code reads and writes."""
        return len(self.migrations)


def open_database(
    path: Path,
    schema: Schema,
    *,
    busy_timeout_seconds: float = 5.0,
    synchronous: Synchronous = "NORMAL",
) -> sqlite3.Connection:
    """Open the database at ``path``, making and migrating it where needed, in a time that does not grow with it.

    The connection commits by itself (``isolation_level=None``), so transactions are written out as ``BEGIN
    IMMEDIATE``. It may be handed between threads, but used by one at a time: the caller holds a lock. Several
    processes may open the same path at once, also when it does not exist yet.

    ``synchronous="NORMAL"`` survives the death of the process at any point; a power cut can lose the last
    commits but never damages the file. ``"FULL"`` also keeps the last commits, for one fsync each.

    Raises:
        ForeignFileError: the file is not a database of this kind; it is neither changed nor removed.
        StorageError: the file was written by a newer version of this package, or is locked for longer than
            ``busy_timeout_seconds``, or cannot be opened or made.
    """
    try:
        make_private_folder(path.parent)
        if not path.exists():
            _make(path, schema, busy_timeout_seconds)
        _recognise(path, schema)
    except OSError as error:
        message = f"cannot open {str(path)!r}: {error}; check the folder and its rights"
        raise StorageError(message) from error
    deadline = time.monotonic() + busy_timeout_seconds
    while True:
        try:
            return _connect(path, schema, busy_timeout_seconds, synchronous)
        except sqlite3.Error as error:
            if is_damage(error):
                message = f"{str(path)!r} is not a readable database ({error}); move it away to start anew"
                raise ForeignFileError(message) from error
            # The switch to WAL does not wait for other openers, whatever the busy timeout is.
            if not is_busy(error) or time.monotonic() >= deadline:
                # Readers write too: the log of a database is shared through a file beside it.
                next_step = (
                    "another process holds it, wait for that"
                    if is_busy(error)
                    else "check that the folder can be written and the disk is not full"
                )
                message = f"cannot open {str(path)!r}: {error}; {next_step}"
                raise StorageError(message) from error
        time.sleep(_RETRY_SECONDS)


def _make(path: Path, schema: Schema, busy_timeout_seconds: float) -> None:
    """Make the database whole under a name of its own, then link it into place: the first of several makers wins.

    Made in place, a second process could open it half laid out, which SQLite reports as a disk I/O error.
    """
    draft = path.with_name(f".{path.name}-{os.urandom(8).hex()}")
    try:
        # SQLite would make the file with the umask's mode; its -wal and -shm files take the mode of this one.
        make_private_file(draft)
        _connect(draft, schema, busy_timeout_seconds, "NORMAL").close()
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    except (OSError, sqlite3.Error):
        # No hard links here, or no room: what is wrong with the place shows when it is opened there.
        make_private_file(path)
    finally:
        draft.unlink(missing_ok=True)


def is_damage(error: sqlite3.Error) -> bool:
    """True when SQLite found bytes that it did not write."""
    return _primary_code(error) in _DAMAGE_CODES


def is_busy(error: sqlite3.Error) -> bool:
    """True when another connection holds the lock that was asked for."""
    return _primary_code(error) in _BUSY_CODES


def _primary_code(error: sqlite3.Error) -> int:
    # Errors that the Python binding raises by itself carry no code.
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE


def _recognise(path: Path, schema: Schema) -> None:
    """Refuse a file that is not ours, with one look at each file in the life of the process."""
    with _RECOGNISING:
        status = path.stat()
        identity = (status.st_dev, status.st_ino)
        if identity not in _RECOGNISED:
            _refuse_foreign_header(path, schema)
            _RECOGNISED.add(identity)


def _refuse_foreign_header(path: Path, schema: Schema) -> None:
    """Look before SQLite does: opening a database can already roll back its journal, and that is writing."""
    if not path.is_file():
        message = f"{str(path)!r} is not a file; name another folder or move it away"
        raise ForeignFileError(message)
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header:
        return
    owner = int.from_bytes(header[_APPLICATION_ID], "big")
    if not header.startswith(_MAGIC) or owner not in {0, schema.application_id}:
        message = (
            f"{str(path)!r} was not written by claude-force; move it away or name another folder"
        )
        raise ForeignFileError(message)


def _connect(
    path: Path, schema: Schema, busy_timeout_seconds: float, synchronous: Synchronous
) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=busy_timeout_seconds, isolation_level=None, check_same_thread=False
    )
    try:
        _refuse_foreign_schema(connection, path, schema)
        if _version(connection) == 0:
            _lay_out(connection, schema)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        # A schema edited by someone else must not call functions through its views and triggers.
        connection.execute("PRAGMA trusted_schema = OFF")
        _migrate(connection, path, schema)
    except BaseException:
        connection.close()
        raise
    return connection


def _lay_out(connection: sqlite3.Connection, schema: Schema) -> None:
    """Set what a database keeps for good. Both statements take the write lock, so only a new one is asked."""
    if schema.shrinkable:
        # Has an effect on an empty database only, so it comes before anything is written.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    # Readers go on beside one writer, and a killed process leaves a file that the next one reads.
    connection.execute("PRAGMA journal_mode = WAL")


def _refuse_foreign_schema(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    """Recognise a database whose header carries no owner: it is ours to take only while it is empty."""
    # Counted first: another process may lay out a fresh database between the two looks, and then the owner is there.
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    if owner == schema.application_id:
        return
    if owner != 0 or objects:
        message = (
            f"{str(path)!r} is a database of another program; move it away or name another folder"
        )
        raise ForeignFileError(message)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _migrate(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    if _version(connection) == schema.version:
        return
    # The write lock is taken before the version is read again: of several openers one migrates.
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _steps_from(_version(connection), path, schema):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id:d}")
        connection.execute(f"PRAGMA user_version = {schema.version:d}")
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has rolled the transaction back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _steps_from(version: int, path: Path, schema: Schema) -> tuple[str, ...]:
    if version > schema.version:
        message = (
            f"{str(path)!r} has schema {version}, this claude-force knows {schema.version}; "
            "update claude-force or name another folder"
        )
        raise StorageError(message)
    return tuple(statement for step in schema.migrations[version:] for statement in step)
