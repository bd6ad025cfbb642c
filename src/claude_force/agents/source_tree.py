"""Walks a folder the way git sees it: what ``.gitignore`` files name is left out."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pathspec import GitIgnoreSpec

_GITIGNORE = ".gitignore"
# What programs keep for themselves, whether or not somebody has told git so.
_NEVER_READ = frozenset((".git", "__pycache__", "node_modules"))


@dataclass(frozen=True, slots=True)
class _Rules:
    """One ``.gitignore`` and the folder whose paths it speaks of, in the form that git compares: ``a/b/``."""

    folder: str
    spec: GitIgnoreSpec


@dataclass(slots=True)
class SourceTree:
    """The files below ``base`` that are worth reading.

    ``.git``, ``__pycache__``, ``node_modules`` and virtual environments of Python are never entered. Hidden files are included unless they are ignored. Links are followed as long as they
    lead to a place inside ``base`` or ``root``; the others are told in ``skipped``.
    """

    base: Path
    root: Path
    # Links that lead outside, and folders that cannot be read: path and reason.
    skipped: list[tuple[Path, str]] = field(default_factory=list)

    def files(self) -> Iterator[Path]:
        """Every regular file in the order of the paths, folders among the files."""
        homes = (self.base.resolve(), self.root.resolve())
        yield from self._walk(self.base, _rules_above(self.base, self.root), homes, set())

    def _walk(
        self, folder: Path, rules: tuple[_Rules, ...], homes: tuple[Path, Path], seen: set[str]
    ) -> Iterator[Path]:
        real = os.path.realpath(folder)
        if real in seen:
            return
        seen.add(real)
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            self.skipped.append((folder, f"cannot be read: {error.strerror}"))
            return
        rules = _with_rules_of(folder, rules)
        for entry in entries:
            path = folder / entry.name
            if entry.is_symlink() and not self._leads_inside(path, homes):
                continue
            is_folder = entry.is_dir()
            if entry.name in _NEVER_READ or _ignored(path, rules, is_folder=is_folder):
                continue
            if is_folder:
                if not (path / "pyvenv.cfg").exists():
                    yield from self._walk(path, rules, homes, seen)
            elif entry.is_file():
                yield path

    def _leads_inside(self, link: Path, homes: tuple[Path, Path]) -> bool:
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError):  # to nothing, or in a circle
            self.skipped.append((link, "a link to nothing"))
            return False
        if any(
            target.is_relative_to(home) and ".git" not in target.relative_to(home).parts
            for home in homes
        ):
            return True
        self.skipped.append((link, "a link that leads outside"))
        return False


def matches_glob(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """True when the parts of a path fit the parts of a pattern; ``**`` stands for any number of folders."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        if len(pattern) == 1:
            return True
        return any(matches_glob(path[skip:], pattern[1:]) for skip in range(len(path)))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and matches_glob(path[1:], pattern[1:])


def _rules_above(base: Path, root: Path) -> tuple[_Rules, ...]:
    """The rules of the folders above ``base``: up to the repository's, or to ``root`` where there is none."""
    above: list[Path] = []
    if not (base / ".git").exists():
        for folder in base.parents:
            above.append(folder)
            if (folder / ".git").exists():
                break
        else:
            above = [folder for folder in above if folder.is_relative_to(root)]
    rules: tuple[_Rules, ...] = ()
    for folder in reversed(above):
        rules = _with_rules_of(folder, rules)
    return rules


def _with_rules_of(folder: Path, rules: tuple[_Rules, ...]) -> tuple[_Rules, ...]:
    file = folder / _GITIGNORE
    try:
        lines = file.read_text("utf-8", errors="replace").splitlines() if file.is_file() else []
    except OSError:
        return rules
    if not lines:
        return rules
    from pathspec import GitIgnoreSpec  # noqa: PLC0415  only where there is a .gitignore

    return (*rules, _Rules(folder.as_posix().rstrip("/") + "/", GitIgnoreSpec.from_lines(lines)))


def _ignored(path: Path, rules: tuple[_Rules, ...], *, is_folder: bool) -> bool:
    """What the deepest file that says anything about ``path`` says."""
    name = path.as_posix() + ("/" if is_folder else "")
    for rule in reversed(rules):
        verdict = rule.spec.check_file(name.removeprefix(rule.folder)).include
        if verdict is not None:
            return verdict
    return False
