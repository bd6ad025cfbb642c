from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from claude_force.agents.attachments import Attachment, collect_files, stdin_attachment
from claude_force.domain.errors import AttachmentError

if TYPE_CHECKING:
    from pathlib import Path


def put(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def names(root: Path, *patterns: str | Path) -> list[str]:
    return [file.name for file in collect_files(patterns, root=root).files]


def test_named_file_is_attached_under_its_path_from_the_root(tmp_path: Path) -> None:
    put(tmp_path, {"src/a.py": "\ufeffprint('é')"})
    expected = (Attachment("src/a.py", "print('é')"),)
    assert collect_files(["src/a.py"], root=tmp_path).files == expected
    assert collect_files([tmp_path / "src" / "a.py"], root=tmp_path).files == expected
    assert collect_files(["./src/../src/a.py"], root=tmp_path).files == expected


def test_file_outside_of_the_root_is_attached_when_named(tmp_path: Path) -> None:
    outside = put(tmp_path, {"notes.txt": "x"}) / "notes.txt"
    (tmp_path / "root").mkdir()
    assert names(tmp_path / "root", "../notes.txt") == [outside.as_posix()]


def test_folder_is_read_in_order_with_hidden_files_and_without_git(tmp_path: Path) -> None:
    put(
        tmp_path,
        {"b/z.py": "", "b/a.py": "", "a.txt": "", ".hidden": "", ".git/config": "", "b/.git/x": ""},
    )
    assert names(tmp_path, ".") == [".hidden", "a.txt", "b/a.py", "b/z.py"]


def test_what_programs_keep_for_themselves_is_left_out_without_a_gitignore(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "app.py": "", "__pycache__/app.pyc": b"\0", "web/node_modules/left/pad.js": "", "web/page.js": "",
            ".venv/pyvenv.cfg": "", ".venv/lib/x.py": "",
        },
    )  # fmt: skip
    assert names(tmp_path, ".") == ["app.py", "web/page.js"]
    assert collect_files(["."], root=tmp_path).skipped == ()
    assert names(tmp_path, ".venv/lib") == [".venv/lib/x.py"]


def test_gitignore_is_respected_at_every_level(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            ".gitignore": "*.log\n/build/\n__pycache__/\n",
            "sub/.gitignore": "!keep.log\nsecret*\n",
            "a.log": "", "a.py": "", "build/x.py": "", "sub/build/x.py": "", "sub/keep.log": "", "sub/other.log": "",
            "sub/secret.txt": "", "sub/deep/secrets/x": "", "secret.txt": "", "sub/__pycache__/x.py": "",
        },
    )  # fmt: skip
    expected = [
        ".gitignore",
        "a.py",
        "secret.txt",
        "sub/.gitignore",
        "sub/build/x.py",
        "sub/keep.log",
    ]
    assert names(tmp_path, ".") == expected
    assert names(tmp_path, "sub") == expected[3:]


def test_gitignore_above_the_root_counts_up_to_the_repository(tmp_path: Path) -> None:
    put(tmp_path, {".gitignore": "*.log\n", "repo/.gitignore": "*.tmp\n", "repo/.git/HEAD": "",
                   "repo/src/a.log": "", "repo/src/a.tmp": "", "repo/src/a.py": ""})  # fmt: skip
    assert names(tmp_path / "repo" / "src", ".") == ["a.log", "a.py"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.py", ["a.py"]),
        ("**/*.py", ["a.py", "src/b.py", "src/deep/c.py"]),
        ("src/*", ["src/b.py", "src/b.txt"]),
        ("src/**", ["src/b.py", "src/b.txt", "src/deep/c.py"]),
        ("src/**/c.py", ["src/deep/c.py"]),
        ("src/[a-b].t?t", ["src/b.txt"]),
        ("*/*/c.*", ["src/deep/c.py"]),
    ],
)
def test_glob_finds_files(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    put(
        tmp_path,
        {
            "a.py": "",
            "src/b.py": "",
            "src/b.txt": "",
            "src/deep/c.py": "",
            "src/x.pyc": "",
            ".gitignore": "*.pyc",
        },
    )
    assert names(tmp_path, pattern) == expected


def test_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    put(tmp_path, {"[a].txt": "", "a.txt": ""})
    assert names(tmp_path, "[a].txt") == ["[a].txt"]


def test_each_file_is_attached_once_in_the_order_of_the_patterns(tmp_path: Path) -> None:
    put(tmp_path, {"a.py": "", "b.py": ""})
    (tmp_path / "link.py").symlink_to("a.py")
    assert names(tmp_path, "b.py", ".", "*.py", "link.py") == ["b.py", "a.py"]


@pytest.mark.parametrize("content", [b"a\0b", b"\xff\xfe", b"x" * 101])
def test_unfit_file_is_refused_when_named_and_skipped_when_found(
    tmp_path: Path, content: bytes
) -> None:
    put(tmp_path, {"good.txt": "x", "bad.bin": content})
    with pytest.raises(AttachmentError, match=r"'bad\.bin' cannot be attached: it is"):
        collect_files(["bad.bin"], root=tmp_path, max_file_bytes=100)
    found = collect_files(["."], root=tmp_path, max_file_bytes=100)
    assert [file.name for file in found.files] == ["good.txt"]
    assert [skip.name for skip in found.skipped] == ["bad.bin"]


def test_cut_ends_before_the_file_that_does_not_fit_any_more(tmp_path: Path) -> None:
    put(tmp_path, {"a": "x" * 60, "b": "x" * 40, "c": "x", "d": "x"})
    found = collect_files(["."], root=tmp_path, max_total_bytes=100, cut=True)
    assert [file.name for file in found.files] == ["a", "b"]
    assert not found.complete
    assert collect_files(["."], root=tmp_path, max_total_bytes=102, cut=True).complete
    with pytest.raises(AttachmentError, match="too large together"):
        collect_files(["a"], root=tmp_path, max_total_bytes=50, cut=True)


def test_files_too_large_together_name_the_largest(tmp_path: Path) -> None:
    put(tmp_path, {"a": "x" * 10, "b": "x" * 90, "c": "x"})
    assert collect_files(["."], root=tmp_path, max_total_bytes=101).files[2].name == "c"
    with pytest.raises(
        AttachmentError, match=r"more than 100 bytes after 3 files.*b \(90\), a \(10\), c \(1\)"
    ):
        collect_files(["."], root=tmp_path, max_total_bytes=100)


def test_missing_file_is_told_with_a_close_match(tmp_path: Path) -> None:
    put(tmp_path, {"src/main.py": ""})
    with pytest.raises(
        AttachmentError, match=r"There is no file 'src/mian\.py'.*Did you mean 'src/main\.py'\?"
    ):
        collect_files(["src/mian.py"], root=tmp_path)
    with pytest.raises(AttachmentError, match=r"The folder 'scr' does not exist either"):
        collect_files(["scr/main.py"], root=tmp_path)


@pytest.mark.parametrize("pattern", ["*.rs", "nowhere/**", "empty", "ignored"])
def test_pattern_that_finds_nothing_is_an_error(tmp_path: Path, pattern: str) -> None:
    put(tmp_path, {"ignored/a.txt": "", ".gitignore": "ignored/"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(AttachmentError, match="finds no text file"):
        collect_files([pattern], root=tmp_path)


@pytest.mark.parametrize("pattern", ["", "a\0b"])
def test_pattern_that_is_no_path_is_an_error(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(AttachmentError, match="is no path"):
        collect_files([pattern], root=tmp_path)


def test_links_leading_outside_are_skipped_and_reported(tmp_path: Path) -> None:
    put(tmp_path, {"secret.txt": "s", "folder/x": "x", "root/a.txt": "a", "root/.git/config": "c"})
    root = tmp_path / "root"
    (root / "leak.txt").symlink_to(tmp_path / "secret.txt")
    (root / "leaks").symlink_to(tmp_path / "folder")
    (root / "loop").symlink_to(root)
    (root / "nothing").symlink_to("nowhere")
    (root / "own").symlink_to(".git/config")
    found = collect_files(["."], root=root)
    assert [file.name for file in found.files] == ["a.txt"]
    assert [(skip.name, skip.reason) for skip in found.skipped] == [
        ("leak.txt", "a link that leads outside"),
        ("leaks", "a link that leads outside"),
        ("nothing", "a link to nothing"),
        ("own", "a link that leads outside"),
    ]


def test_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AttachmentError, match="not a regular file"):
        collect_files(["pipe"], root=tmp_path)


def test_standard_input_is_an_attachment() -> None:
    assert stdin_attachment("é".encode()) == stdin_attachment("é") == Attachment("stdin", "é")
    with pytest.raises(AttachmentError, match="Standard input cannot be attached: it is binary"):
        stdin_attachment(b"a\0")
    with pytest.raises(AttachmentError, match="3 bytes, at most 2"):
        stdin_attachment("abc", max_file_bytes=2)
