"""Logging for the command line: off unless asked for, as text or as one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Final

from claude_force.cli.stderr import tell

# What every record carries; anything else was given as a field.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

# The loggers of the parts that keep or share something. Losing that costs no answer, so no error tells of it.
_PARTS: Final = ("cache", "storage", "resilience", "metrics", "memory", "assembly.remembering")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the fields of the record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        entry |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time, level, event, and the fields as ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        fields = " ".join(
            f"{key}={value}" for key, value in vars(record).items() if key not in _STANDARD
        )
        head = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():7} {record.name}: {record.getMessage()}"
        return f"{head} {fields}".rstrip()


class WarningFormatter(logging.Formatter):
    """A plain warning, with the reason where the record has one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        reason = getattr(record, "error", None)
        because = f" ({reason})" if reason else ""
        return f"Warning: {record.getMessage()}{because}"


class StderrHandler(logging.Handler):
    """Prints a record on whatever stderr is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        tell(self.format(record))


def start_logging(level: str, log_format: str) -> None:
    """Send the package's log to stderr."""
    handler = StderrHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logger = logging.getLogger("claude_force")
    logger.addHandler(handler)
    logger.setLevel(level.upper())


def show_warnings() -> None:
    """Print what stores and limits warn about, where no log was asked for: a user has to know without it."""
    logger = logging.getLogger("claude_force")
    if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        return
    for part in _PARTS:
        told = logging.getLogger(f"claude_force.{part}")
        if not told.handlers:
            handler = StderrHandler()
            handler.setFormatter(WarningFormatter())
            told.addHandler(handler)
            told.setLevel(logging.WARNING)
