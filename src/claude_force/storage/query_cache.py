"""Results of queries, kept for as long as nobody has written to the database."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Hashable

T = TypeVar("T")

_CAPACITY: Final = 128


class QueryCache(Generic[T]):
    """The results of the queries used last, each valid for one version of the database.

    A version is anything that changes whenever somebody writes, such as `data_version`; a result of another version
    is never found. Any thread may use it.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        # Guards the order of use.
        self._lock = Lock()
        self._version: Hashable = None
        self._results: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, query: Hashable, version: Hashable) -> T | None:
        """The result of this query for this version of the database, or None."""
        with self._lock:
            if version != self._version or query not in self._results:
                return None
            self._results.move_to_end(query)
            return self._results[query]

    def put(self, query: Hashable, version: Hashable, result: T) -> None:
        """Keep a result that was read from this version; the one used least recently makes room."""
        with self._lock:
            if version != self._version:
                self._results.clear()
                self._version = version
            self._results[query] = result
            self._results.move_to_end(query)
            while len(self._results) > self._capacity:
                self._results.popitem(last=False)

    def __len__(self) -> int:
        return len(self._results)


def data_version(connection: sqlite3.Connection) -> int:
    """A number that changes when any other connection, of this process or another, has written to the database.

    What this connection writes itself does not change it, so the one that asks should only read. It takes microseconds:
    https://www.sqlite.org/pragma.html#pragma_data_version.
    """
    return int(connection.execute("PRAGMA data_version").fetchone()[0])
