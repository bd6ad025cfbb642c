"""Commands and code in the README and the docs are run; what they show is what happens.

A ``console`` block is a session: lines that begin with ``$ `` are run in one shell and folder, in order, lines with
``> `` right below continue them, and what follows is their output, stdout and stderr together. In expected output
``…`` stands for any text within a line, and a line that is only ``…`` for any number of lines. A ``python`` block is a
program of its own. Two at a time are run, each in a folder and a home of its own: nearly all of their time is waiting for
processes. A block that follows the comment ``<!-- not run: reason -->`` is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from claude_force.simulator import SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^```(?P<language>\w+)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SECONDS = 60
# Of a test without parameters.
NOTHING = SimpleNamespace(params={})


@dataclass(frozen=True, slots=True)
class Block:
    document: Path
    line: int
    language: str
    body: str


def blocks(document: Path, language: str) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(document, text[: match.start()].count("\n") + 1, language, match["body"])
        for match in FENCE.finditer(text)
        if match["language"] == language and match["reason"] is None
    ]


def identify(value: Path | Block) -> str:
    if isinstance(value, Block):
        return f"{value.document.relative_to(ROOT)}:{value.line}"
    return str(value.relative_to(ROOT))


SESSIONS = [document for document in DOCUMENTS if blocks(document, "console")]
PROGRAMS = [block for document in DOCUMENTS for block in blocks(document, "python")]


def make_room(folder: Path) -> Path:
    """A folder with a small program to review, and a home of its own."""
    (folder / "home").mkdir()
    project = folder / "project"
    (project / "src").mkdir(parents=True)
    (project / "src" / "app.py").write_text("def add(a, b):\n    return a - b\n", encoding="utf-8")
    (project / "src" / "store.py").write_text("KEY = 'secret'\n", encoding="utf-8")
    return project


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path | Block, Future[None]]]:
    """What becomes of each session and program whose test was asked for."""
    asked = [
        part
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == Path(__file__)
        for part in getattr(item, "callspec", NOTHING).params.values()
    ]
    with ThreadPoolExecutor(2) as pool:
        yield {
            part: pool.submit(
                play_program if isinstance(part, Block) else play_session,
                part,
                make_room(tmp_path_factory.mktemp("docs")),
            )
            for part in asked
        }
        pool.shutdown(cancel_futures=True)


def environment(room: Path, **extra: str) -> dict[str, str]:
    return {
        "HOME": str(room.parent / "home"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "COLUMNS": "100",
        **extra,
    }


def steps(session: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line[2:]}", [])
        elif found:
            found[-1][1].append(line)
    return found


def pattern(expected: list[str]) -> str:
    lines = [
        r"(?:.*\n)*?"
        if line.strip() == "…"
        else r"[^\n]*?".join(map(re.escape, line.rstrip().split("…"))) + r"[ ]*\n"
        for line in expected
        if line.strip()
    ]
    return "".join(lines)


def without_empty_lines(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines() if line.strip())


def play_session(document: Path, room: Path) -> None:
    for block in blocks(document, "console"):
        for command, expected in steps(block.body):
            if command.startswith(("make ", "git clone", "pip install")):
                continue  # what this suite itself runs in, and what the network is needed for
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=room,
                env=environment(room),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=SECONDS,
                check=False,
            )
            shown = without_empty_lines(done.stdout.decode())
            if any(line.strip() for line in expected):
                assert re.fullmatch(pattern(expected), shown), (
                    f"{identify(block)}: $ {command}\n-- expected --\n"
                    + "\n".join(expected)
                    + f"\n-- exit code {done.returncode}, shown --\n{shown}"
                )


def play_program(block: Block, room: Path) -> None:
    program = room / "program.py"
    program.write_text(block.body, encoding="utf-8")
    with SimulatorThread(scenario="instant") as simulator:
        keys = {"ANTHROPIC_API_KEY": "simulated", "ANTHROPIC_BASE_URL": simulator.base_url}
        init = subprocess.run(
            ["claude-force", "init"],
            cwd=room,
            env=environment(room),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        assert init.returncode == 0, init.stderr.decode()
        done = subprocess.run(
            [sys.executable, "-W", "error", str(program)],
            cwd=room,
            env=environment(room, **keys),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 0, f"{identify(block)}\n{done.stderr.decode()}"


@pytest.mark.skipif(
    shutil.which("bash") is None, reason="missing part: bash runs the sessions of the docs"
)
@pytest.mark.parametrize("document", SESSIONS, ids=identify)
def test_a_session_of_the_docs_shows_what_happens(
    document: Path, played: dict[Path | Block, Future[None]]
) -> None:
    played[document].result()


@pytest.mark.parametrize("block", PROGRAMS, ids=identify)
def test_a_program_of_the_docs_runs(block: Block, played: dict[Path | Block, Future[None]]) -> None:
    played[block].result()


def test_there_is_something_to_run() -> None:
    assert SESSIONS
    assert PROGRAMS
