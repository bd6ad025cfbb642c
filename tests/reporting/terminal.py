"""Runs a program on a pseudo-terminal, and reads from its output what a person would see."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from dataclasses import dataclass

_TOKEN = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+|\x1b.?")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a program wrote to its terminal."""

    raw: str
    code: int
    # How many reads there were to read, and when the first and the last came.
    frames: int
    seconds: float

    def screen(self, *, columns: int) -> list[str]:
        return screen(self.raw, columns=columns)


def on_terminal(
    arguments: list[str],
    *,
    columns: int = 100,
    rows: int = 24,
    env: dict[str, str] | None = None,
    interrupt_at: str | None = None,
) -> Shown:
    """Run a program with stdout and stderr on a terminal of that size, for 60 seconds at most.

    It is interrupted, as by Ctrl-C, once it has written ``interrupt_at``.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", **(env or {})}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    process = subprocess.Popen(
        arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    )
    os.close(theirs)
    began, chunks = time.monotonic(), []
    try:
        while time.monotonic() - began < 60:
            if not select.select([ours], [], [], 0.5)[0]:
                if process.poll() is not None:
                    break
                continue
            try:
                chunk = os.read(ours, 65_536)
            except OSError:  # Linux says so when the other side is closed
                break
            if not chunk:
                break
            chunks.append(chunk)
            if interrupt_at is not None and interrupt_at in b"".join(chunks).decode(
                errors="replace"
            ):
                interrupt_at = None
                process.send_signal(signal.SIGINT)
        code = process.wait(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)
    raw = b"".join(chunks).decode()
    return Shown(raw, code, raw.count("\x1b[2K\x1b[1A"), time.monotonic() - began)


def screen(raw: str, *, columns: int) -> list[str]:
    """The lines of a terminal after ``raw``, scrolled ones too: cursor up, erasing and line ends are obeyed."""
    lines: list[list[str]] = [[]]
    row = column = 0
    for match in _TOKEN.finditer(raw):
        text = match[0]
        if text == "\r":
            column = 0
        elif text == "\n":
            row += 1
            column = 0
        elif match[2] == "A":
            row = max(0, row - int(match[1] or 1))
        elif match[2] == "K":
            lines[row] = []
        elif text.startswith("\x1b"):
            continue
        else:
            for character in text:
                if column >= columns:
                    row, column = row + 1, 0
                while len(lines) <= row:
                    lines.append([])
                line = lines[row]
                line.extend(" " * (column + 1 - len(line)))
                line[column] = character
                column += 1
        while len(lines) <= row:
            lines.append([])
    return ["".join(line).rstrip() for line in lines]
