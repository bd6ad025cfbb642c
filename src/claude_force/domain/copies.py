"""Copies of frozen values, for the few places that make one at every call."""

from __future__ import annotations

from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    # Writes one field, frozen or not.
    Put = Callable[[object, object], None]

T = TypeVar("T")


def copied(value: T, **changes: Any) -> T:  # noqa: ANN401 - fields of any type
    """``value``, a slotted dataclass with two fields or more, with some of them changed.

    What `dataclasses.replace` does in half the time: nothing is checked, and no ``__post_init__`` runs.
    """
    kind: Any = type(value)
    make, read, write, by_name = _shape(kind)
    copy: T = make(kind)
    for put, found in zip(write, read(value), strict=True):
        put(copy, found)
    for name, changed in changes.items():
        by_name[name](copy, changed)
    return copy


@cache
def _shape(
    kind: Any,  # noqa: ANN401 - a class, by which the cache can be asked
) -> tuple[Callable[[Any], Any], attrgetter[Any], tuple[Put, ...], dict[str, Put]]:
    """How to make one, read all fields of one, and write each."""
    write: dict[str, Put] = {
        name: getattr(kind, name).__set__ for name in kind.__dataclass_fields__
    }
    return object.__new__, attrgetter(*write), tuple(write.values()), write
