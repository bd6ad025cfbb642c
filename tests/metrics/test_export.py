"""Calls as files for other programs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.metrics.conftest import NOW

from claude_force import open_metrics
from claude_force.metrics import parquet as writing
from claude_force.metrics.rows import CallRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.conftest import Cli
    from tests.metrics.conftest import MakeLoad, MakeRow, OpenReader

    Fill = Callable[[Iterable[CallRow]], None]


def test_parquet_read_back_is_every_call_to_the_last_digit(
    store_path: Path, fill: Fill, make_load: MakeLoad, open_reader: OpenReader, tmp_path: Path
) -> None:
    fill(make_load(2_500, days=3))
    reader, file = open_reader(), tmp_path / "calls.parquet"
    assert reader.export(file) == 2_500
    read = [
        CallRow(**{**row, "ended_at": row["ended_at"].timestamp()})
        for row in parquet.read_table(file).to_pylist()
    ]
    assert read == list(reader.rows())


def test_columns_of_parquet_have_the_types_of_what_they_hold(
    store_path: Path, fill: Fill, make_row: MakeRow, open_reader: OpenReader, tmp_path: Path
) -> None:
    fill([make_row(NOW + 0.123, cost_usd=Decimal("0.000000000001")), make_row(cost_usd=None)])
    file = tmp_path / "calls.parquet"
    open_reader().export(file)
    table = parquet.read_table(file)
    assert table.column_names == list(CallRow._fields)
    assert {str(field.type) for field in table.schema if field.name.endswith("_usd")} == {
        "decimal128(24, 12)"
    }
    assert table.schema.field("ended_at").type == pa.timestamp("ms", tz="UTC")
    # The oldest first.
    assert table["ended_at"].to_pylist()[1] == datetime.fromtimestamp(NOW + 0.123, UTC)
    assert table["cost_usd"].to_pylist() == [None, Decimal("0.000000000001")]


def test_an_empty_store_gives_a_parquet_file_with_columns_and_no_row(
    open_reader: OpenReader, tmp_path: Path
) -> None:
    file = tmp_path / "calls.parquet"
    assert open_reader().export(file) == 0
    table = parquet.read_table(file)
    assert (table.num_rows, table.column_names) == (0, list(CallRow._fields))


def test_rows_are_written_in_groups_while_they_are_read(
    make_row: MakeRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_ROWS_IN_A_BATCH", 10)
    monkeypatch.setattr(writing, "_BATCHES_IN_A_GROUP", 4)
    file = tmp_path / "calls.parquet"
    sizes_seen: list[int] = []

    def rows() -> Iterable[CallRow]:
        for number in range(100):
            sizes_seen.append(file.stat().st_size)
            yield make_row(NOW + number)

    with file.open("wb", buffering=0) as sink:
        assert writing.write_parquet(rows(), sink) == 100
    groups = parquet.ParquetFile(file)
    assert [
        groups.metadata.row_group(number).num_rows for number in range(groups.num_row_groups)
    ] == [40, 40, 20]
    # When the last row is asked for, two groups are on disk already.
    assert len(set(sizes_seen)) >= 3


@pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
def test_a_file_is_there_whole_or_as_it_was(
    file_format: str, store_path: Path, fill: Fill, make_load: MakeLoad, tmp_path: Path
) -> None:
    fill(make_load(1_500, days=3))
    file = tmp_path / "calls"
    file.write_text("earlier")
    metrics = open_metrics(store_path.parent)
    rows = metrics.rows

    def broken(since_seconds: float | None = None) -> Iterable[CallRow]:
        yield from (row for row, _ in zip(rows(since_seconds), range(1_200), strict=False))
        raise OSError("the disk is gone")

    metrics.rows = broken  # type: ignore[assignment, method-assign]
    with pytest.raises(OSError, match="the disk is gone"):
        metrics.export(file, file_format=file_format)  # type: ignore[arg-type]
    assert file.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["calls"]
    metrics.rows = rows  # type: ignore[method-assign]
    assert metrics.export(file, file_format=file_format) == 1_500  # type: ignore[arg-type]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    metrics.close()


def test_command_writes_parquet_to_a_file_or_a_pipe(
    cli: Cli, store_path: Path, fill: Fill, make_row: MakeRow, tmp_path: Path
) -> None:
    import time

    fill([make_row(time.time())])
    place = ("--dir", str(store_path.parent), "--format", "parquet")
    done = cli("metrics", "export", *place, "--output", "calls.parquet")
    assert (done.code, done.err) == (0, "calls.parquet: 1 call.\n")
    program = str(os.path.join(os.path.dirname(sys.executable), "claude-force"))  # noqa: PTH118, PTH120
    piped = subprocess.run(
        [program, "metrics", "export", *place], capture_output=True, timeout=60, check=True
    )
    assert parquet.read_table(pa.BufferReader(piped.stdout)) == parquet.read_table("calls.parquet")
    both = cli("metrics", "export", *place, "--json")
    assert both.code == 2
    assert "two formats" in both.err


def test_a_file_that_cannot_be_written_is_named(cli: Cli) -> None:
    done = cli("metrics", "export", "--output", "nowhere/calls.csv")
    assert done.code == 1
    assert "nowhere/calls.csv: No such file or directory" in done.err


def test_without_the_library_the_extra_is_named_and_no_file_is_made(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from claude_force.cli.main import run\n"
        f"sys.exit(run(['metrics', 'export', '--format', 'parquet', '--dir', {str(tmp_path)!r}, "
        f"'--output', {str(tmp_path / 'calls.parquet')!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert "pip install 'claude-force[parquet]'" in done.stderr
    assert done.returncode == 3
    assert list(tmp_path.iterdir()) == []
