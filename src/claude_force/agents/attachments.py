"""Text that goes into a prompt beside the task: files, folders, globs and standard input."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import AttachmentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# A million bytes of source are about 300,000 tokens: more than most models read well, less than the largest holds.
MAX_FILE_BYTES: Final = 1_000_000
MAX_TOTAL_BYTES: Final = 2_000_000

_GLOB_CHARACTERS: Final = frozenset("*?[")
_LARGEST_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Attachment:
    """A text with a name."""

    # The path relative to the root, with forward slashes, or `stdin`.
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that a folder or glob holds and that is not attached."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class CollectedFiles:
    """What was found, in the order of the patterns and, within one, of the paths."""

    files: tuple[Attachment, ...]
    # Binary, oversized and unreadable files, and links that lead outside.
    skipped: tuple[SkippedFile, ...] = ()
    # False where `cut` ended it: there is more.
    complete: bool = True


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: Path
    # Named by the user, not found in a folder: then a problem is an error.
    named: bool


class _UnfitFileError(Exception):
    """Why a file cannot be attached."""


def collect_files(
    patterns: Sequence[str | Path],
    *,
    root: Path,
    max_file_bytes: int = MAX_FILE_BYTES,
    max_total_bytes: int = MAX_TOTAL_BYTES,
    cut: bool = False,
) -> CollectedFiles:
    """The text files that ``patterns`` name, each once, with paths relative to ``root``.

    A pattern is a file, a folder (with everything below it that git does not ignore) or a glob with ``*``, ``?``,
    ``[…]`` and ``**``. A file that exists under the very name is taken as that file. A file that is named has to fit;
    of what a folder or glob finds, files that do not fit are skipped and reported. With ``cut`` it ends before the first
    file with which all together would be larger than ``max_total_bytes``, where it is an error otherwise.

    Raises:
        AttachmentError: nothing is there under that name; a named file is binary, too large or unreadable; a pattern
            finds no text; all together are too large.
    """
    root = root.absolute()
    skipped: dict[str, SkippedFile] = {}
    found: dict[str, Attachment] = {}
    sizes: dict[str, int] = {}
    left_bytes = max_total_bytes
    for pattern in patterns:
        fitting = 0
        for candidate in _candidates(pattern, root, skipped):
            name = _shown(candidate.path, root)
            identity = os.path.realpath(candidate.path)
            if identity not in found:
                try:
                    text, sizes[name] = _read(candidate.path, max_file_bytes)
                except _UnfitFileError as error:
                    if candidate.named:
                        raise AttachmentError(
                            f"The file {name!r} cannot be attached: {error}."
                        ) from None
                    skipped[name] = SkippedFile(name, str(error))
                    continue
                left_bytes -= sizes[name]
                if left_bytes < 0 and not (cut and found):
                    raise _too_large_together(sizes, max_total_bytes)
                if left_bytes < 0:
                    return _collected(found, skipped, complete=False)
                found[identity] = Attachment(name, text)
            fitting += 1
        if not fitting:
            raise AttachmentError(_nothing_found(pattern, skipped))
    return _collected(found, skipped)


def _collected(
    found: Mapping[str, Attachment], skipped: Mapping[str, SkippedFile], *, complete: bool = True
) -> CollectedFiles:
    return CollectedFiles(tuple(found.values()), tuple(skipped.values()), complete)


def stdin_attachment(data: bytes | str, *, max_file_bytes: int = MAX_FILE_BYTES) -> Attachment:
    """What came in by standard input.

    Raises:
        AttachmentError: it is binary or too large.
    """
    encoded = data.encode("utf-8", "replace") if isinstance(data, str) else data
    try:
        return Attachment("stdin", _text(encoded, max_file_bytes))
    except _UnfitFileError as error:
        raise AttachmentError(f"Standard input cannot be attached: {error}.") from None


def _candidates(
    pattern: str | Path, root: Path, skipped: dict[str, SkippedFile]
) -> Iterator[_Candidate]:
    text = os.fspath(pattern)
    if not text or "\0" in text:
        raise AttachmentError(f"{text!r} is no path. Name a file, a folder or a glob.")
    path = Path(os.path.normpath(root / text))
    if path.is_dir():
        return _found_below(path, (), root, skipped)
    if path.exists() or path.is_symlink():
        return iter([_Candidate(path, named=True)])
    if not _GLOB_CHARACTERS.isdisjoint(text):
        base, glob = _split_glob(path)
        return _found_below(base, glob, root, skipped)
    raise AttachmentError(f"There is no file {text!r} in {str(root)!r}.{_close_match(path, root)}")


def _split_glob(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder before the first part with a wildcard, and the parts from there on."""
    parts = path.parts
    first = next(at for at, part in enumerate(parts) if not _GLOB_CHARACTERS.isdisjoint(part))
    return Path(*parts[:first]), parts[first:]


def _found_below(
    base: Path, glob: tuple[str, ...], root: Path, skipped: dict[str, SkippedFile]
) -> Iterator[_Candidate]:
    from claude_force.agents.source_tree import (  # noqa: PLC0415  a plain file needs no walk
        SourceTree,
        matches_glob,
    )

    if not base.is_dir():
        return
    tree = SourceTree(base, root)
    for path in tree.files():
        if not glob or matches_glob(path.relative_to(base).parts, glob):
            yield _Candidate(path, named=False)
    for path, reason in tree.skipped:
        skipped[_shown(path, root)] = SkippedFile(_shown(path, root), reason)


def _read(path: Path, max_file_bytes: int) -> tuple[str, int]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _UnfitFileError("it is not a regular file")
        if status.st_size > max_file_bytes:
            raise _UnfitFileError(_too_large(status.st_size, max_file_bytes))
        with path.open("rb") as file:
            data = file.read(max_file_bytes + 1)
    except OSError as error:
        raise _UnfitFileError(f"it cannot be read: {error.strerror}") from error
    return _text(data, max_file_bytes), len(data)


def _text(data: bytes, max_file_bytes: int) -> str:
    if len(data) > max_file_bytes:
        raise _UnfitFileError(_too_large(len(data), max_file_bytes))
    if b"\0" in data:
        raise _UnfitFileError(f"it is binary (a zero byte at {data.index(0):,})")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _UnfitFileError(f"it is not UTF-8 text (byte {error.start:,})") from error


def _too_large(size_bytes: int, max_file_bytes: int) -> str:
    return f"it is too large: {size_bytes:,} bytes, at most {max_file_bytes:,}"


def _too_large_together(sizes: dict[str, int], max_total_bytes: int) -> AttachmentError:
    largest = sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0]))[:_LARGEST_SHOWN]
    listed = ", ".join(f"{name} ({size:,})" for name, size in largest)
    return AttachmentError(
        f"The files are too large together: more than {max_total_bytes:,} bytes after {len(sizes):,} files. "
        f"The largest so far: {listed}. Name fewer files, or ignore them in .gitignore."
    )


def _shown(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _nothing_found(pattern: str | Path, skipped: dict[str, SkippedFile]) -> str:
    reasons = "; ".join(
        f"{skip.name}: {skip.reason}" for skip in list(skipped.values())[:_LARGEST_SHOWN]
    )
    return f"{os.fspath(pattern)!r} finds no text file that is not ignored by git." + (
        f" Skipped: {reasons}." if reasons else ""
    )


def _close_match(path: Path, root: Path) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  only for this message

    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f" The folder {_shown(path.parent, root)!r} does not exist either."
    close = get_close_matches(path.name, names, n=1)
    return f" Did you mean {_shown(path.parent / close[0], root)!r}?" if close else ""
