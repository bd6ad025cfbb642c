"""Calls as a Parquet file: typed columns that DuckDB, pandas, Polars and Spark read as they are."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from claude_force.domain.errors import OptionalDependencyError
from claude_force.metrics.rows import CallRow

try:
    import pyarrow as pa
    from pyarrow import parquet
except ImportError as error:
    raise OptionalDependencyError(
        "Parquet is asked for, but its package is not installed. "
        "Install it with: pip install 'claude-force[parquet]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Rows are Python values for one batch and columns for one group, which takes some ten megabytes.
_ROWS_IN_A_BATCH: Final = 1_000
_BATCHES_IN_A_GROUP: Final = 64

_TEXT: Final = pa.string()
_COUNT: Final = pa.int64()
_SECONDS: Final = pa.float64()
# Whole picodollars, as the store keeps them.
_DOLLARS: Final = pa.decimal128(24, 12)
_TYPE_BY_FIELD: Final = {
    "ended_at": pa.timestamp("ms", tz="UTC"),
    "call_id": _TEXT,
    "agent_name": _TEXT,
    "model": _TEXT,
    "requested_model": _TEXT,
    "seconds": _SECONDS,
    "attempts": _COUNT,
    "workflow_name": _TEXT,
    "run_id": _TEXT,
    "step_id": _TEXT,
    "error_kind": _TEXT,
    "first_text_seconds": _SECONDS,
    "input_tokens": _COUNT,
    "output_tokens": _COUNT,
    "cache_read_tokens": _COUNT,
    "cache_write_tokens": _COUNT,
    "cost_usd": _DOLLARS,
    "cached_tier": _TEXT,
    "saved_usd": _DOLLARS,
    "plain_usd": _DOLLARS,
    "prompt_cache_saved_usd": _DOLLARS,
    "batch_saved_usd": _DOLLARS,
    "fallback_saved_usd": _DOLLARS,
}
_SCHEMA: Final = pa.schema([(name, _TYPE_BY_FIELD[name]) for name in CallRow._fields])
# A column that is repetitive enough gets a dictionary by itself; each has statistics by group.
_COMPRESSION: Final = "zstd"


def write_parquet(rows: Iterable[CallRow], file: BinaryIO) -> int:
    """Write calls in groups of 64,000 while they are read; how many. The file is left open, and need not be seekable."""
    count = 0
    batches = _batches(iter(rows))
    with parquet.ParquetWriter(file, _SCHEMA, compression=_COMPRESSION) as writer:
        while group := list(islice(batches, _BATCHES_IN_A_GROUP)):
            table = pa.Table.from_batches(group)
            writer.write_table(table, row_group_size=table.num_rows)
            count += table.num_rows
    return count


def _batches(rows: Iterator[CallRow]) -> Iterator[Any]:
    while batch := list(islice(rows, _ROWS_IN_A_BATCH)):
        columns = dict(zip(CallRow._fields, zip(*batch, strict=True), strict=True))
        columns["ended_at"] = tuple(round(seconds * 1000) for seconds in columns["ended_at"])
        arrays = [pa.array(values, _TYPE_BY_FIELD[name]) for name, values in columns.items()]
        yield pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)
