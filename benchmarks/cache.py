"""What a hit, a miss, an opening and a write of the cache cost, beside rivals in the same run.

Run as ``.venv/bin/python benchmarks/cache.py [--json] [--rivals-python PATH]``. Rivals that are not in the standard
library run under another interpreter, which has ``benchmarks/requirements-cache-rivals.txt`` installed. Every
contender of a workload runs once a round, in turns, so that a busy machine slows all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import importlib
import json
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = b"a secret of the benchmark"
CALLS_PER_SAMPLE = 200
SAMPLES_PER_ROUND = 40
READS = 400
ROUNDS = 5
GOALS = {
    "memory hit, 4 KB, key included": "claude-force <= 3 us",
    "request key, 4 KB prompt, 2 KB task": "<= 5 us",
    "disk hit in a fresh process, 4 KB": "claude-force <= 1.4 x bare sqlite; async <= 150 us",
    "disk hit in a fresh process, 50 KB": "claude-force <= 2 x bare sqlite; async <= 250 us",
    "open and first hit, 10,000 entries": "claude-force <= 5 ms",
    "open and first hit, 100,000 entries": "claude-force <= 5 ms",
    "set, 4 KB": ">= 10,000 a second acknowledged (<= 100 us each)",
    "last set of 10,000 until all are on disk": "<= 100 ms",
    "event loop late, 50 KB sets beside it": "<= 5 ms",
}
Samples = dict[str, list[float]]


# ---- inputs: the same for every contender


def body(size: int, number: int) -> bytes:
    return random.Random(number).randbytes(size)


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


# ---- contenders of the memory hit: a function that is called CALLS_PER_SAMPLE times a sample

TASK, ANSWER, MODEL = "t" * 4096, "r" * 4096, "claude-sonnet-5-5"


def memory_ours(folder: Path) -> Callable[[], object]:
    from claude_force.cache.response_cache import ResponseCache

    cache = ResponseCache(folder)
    cache.set("writer", TASK, MODEL, ANSWER, 10, 20, 0.01)
    cache.flush()
    return lambda: cache.get("writer", TASK, MODEL)


def memory_ordered_dict(_: Path) -> Callable[[], object]:
    held: OrderedDict[tuple[str, str, str], tuple[float, str]] = OrderedDict()
    held["writer", TASK, MODEL] = (time.time(), ANSWER)

    def get() -> str | None:
        slot = held.get(("writer", TASK, MODEL))
        if slot is None or time.time() - slot[0] > 3600:
            return None
        held.move_to_end(("writer", TASK, MODEL))
        return slot[1]

    return get


def memory_cachetools(_: Path) -> Callable[[], object]:
    cachetools = importlib.import_module("cachetools")
    held = cachetools.TTLCache(1000, 3600)
    held["writer", TASK, MODEL] = ANSWER
    return lambda: held.get(("writer", TASK, MODEL))


def request_key_ours(_: Path) -> Callable[[], object]:
    from claude_force.cache.fingerprint import request_key
    from claude_force.domain.messages import Message, MessageRequest, TextBlock

    request = MessageRequest(
        model=MODEL,
        system=(TextBlock("p" * 4096),),
        messages=(Message("user", (TextBlock("t" * 2048),)),),
        max_tokens=4096,
    )
    return lambda: request_key(request, "https://api.anthropic.com")


def bare_digest(_: Path) -> Callable[[], object]:
    task = "t" * 2048
    return lambda: hashlib.sha256(task.encode()).hexdigest()


# ---- stores on disk: `fill` in one process, `reader` in a fresh one


def _sqlite(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, value BLOB)")
    return connection


def fill_sqlite(folder: Path, count: int, size: int) -> None:
    connection = _sqlite(folder)
    connection.execute("BEGIN")
    rows = ((key_of(number), body(size, number)) for number in range(count))
    connection.executemany("INSERT INTO cache VALUES (?, ?)", rows)
    connection.execute("COMMIT")
    connection.close()


def read_sqlite(folder: Path) -> Callable[[str], object]:
    connection = _sqlite(folder)
    query = "SELECT value FROM cache WHERE key = ?"
    return lambda key: connection.execute(query, (key,)).fetchone()[0]


def fill_sqlite_hmac(folder: Path, count: int, size: int) -> None:
    connection = _sqlite(folder)
    connection.execute("BEGIN")
    for number in range(count):
        value = body(size, number)
        signed = hmac.digest(SECRET, value, "sha256") + value
        connection.execute("INSERT INTO cache VALUES (?, ?)", (key_of(number), signed))
    connection.execute("COMMIT")
    connection.close()


def read_sqlite_hmac(folder: Path) -> Callable[[str], object]:
    read = read_sqlite(folder)

    def get(key: str) -> bytes:
        record = read(key)
        assert isinstance(record, bytes)
        value = record[32:]
        assert hmac.compare_digest(record[:32], hmac.digest(SECRET, value, "sha256"))
        return value

    return get


def _tier(folder: Path) -> Any:
    from claude_force.cache.disk_tier import DATABASE_FILE, DiskTier
    from claude_force.cache.entries import EntrySigner

    return DiskTier(folder / DATABASE_FILE, signer=EntrySigner(SECRET), max_bytes=2**31)


def _entry(number: int, value: bytes) -> Any:
    from claude_force.cache.entries import CacheEntry
    from claude_force.cache.fingerprint import CacheKey

    return CacheEntry(
        key=CacheKey(key_of(number)),
        agent_name="a",
        model=MODEL,
        created_at=time.time(),
        body=value,
    )


def fill_ours(folder: Path, count: int, size: int) -> None:
    tier = _tier(folder)
    for number in range(count):
        tier.put(_entry(number, body(size, number)))
        if number % 500 == 0:
            tier.flush()
    tier.close()


def read_ours(folder: Path) -> Callable[[str], object]:
    tier = _tier(folder)
    return lambda key: tier.get(key).body


def fill_diskcache(folder: Path, count: int, size: int) -> None:
    diskcache = importlib.import_module("diskcache")
    with diskcache.Cache(str(folder / "diskcache"), size_limit=2**31) as cache, cache.transact():
        for number in range(count):
            cache.set(key_of(number), body(size, number))


def read_diskcache(folder: Path) -> Callable[[str], object]:
    diskcache = importlib.import_module("diskcache")
    cache = diskcache.Cache(str(folder / "diskcache"), size_limit=2**31)
    return cache.get  # type: ignore[no-any-return] # not installed here


def _lmdb(folder: Path) -> Any:
    return importlib.import_module("lmdb").open(str(folder / "lmdb"), map_size=2**31)


def fill_lmdb(folder: Path, count: int, size: int) -> None:
    environment = _lmdb(folder)
    with environment.begin(write=True) as transaction:
        for number in range(count):
            transaction.put(key_of(number).encode(), body(size, number))
    environment.close()


def read_lmdb(folder: Path) -> Callable[[str], object]:
    environment = _lmdb(folder)

    def get(key: str) -> bytes:
        with environment.begin() as transaction:
            return bytes(transaction.get(key.encode()))

    return get


MEMORY: dict[str, Callable[[Path], Callable[[], object]]] = {
    "claude-force": memory_ours,
    "ordered dict with TTL": memory_ordered_dict,
    "cachetools": memory_cachetools,
}
KEYS = {"claude-force": request_key_ours, "bare sha256 of the task": bare_digest}
FILL = {
    "claude-force": fill_ours,
    "claude-force, async": fill_ours,
    "bare sqlite": fill_sqlite,
    "sqlite + HMAC": fill_sqlite_hmac,
    "diskcache": fill_diskcache,
    "lmdb": fill_lmdb,
}
READ = {
    "claude-force": read_ours,
    "bare sqlite": read_sqlite,
    "sqlite + HMAC": read_sqlite_hmac,
    "diskcache": read_diskcache,
    "lmdb": read_lmdb,
}
FOREIGN = {"cachetools", "diskcache", "lmdb"}


# ---- what a worker process measures


def measure_calls(call: Callable[[], object]) -> list[float]:
    samples = []
    for _ in range(SAMPLES_PER_ROUND):
        start = time.perf_counter()
        for _ in range(CALLS_PER_SAMPLE):
            call()
        samples.append((time.perf_counter() - start) / CALLS_PER_SAMPLE * 1e6)
    return samples


def measure_reads(contender: str, folder: Path, count: int) -> list[float]:
    keys = [key_of(number) for number in random.sample(range(count), min(READS, count))]
    if contender == "claude-force, async":
        return asyncio.run(_measure_async_reads(folder, keys))
    read = READ[contender](folder)
    # The first one opens the file and is another row.
    read(keys[0])
    return [_timed(read, key) for key in keys[1:]]


def _timed(read: Callable[[str], object], key: str) -> float:
    start = time.perf_counter()
    read(key)
    return (time.perf_counter() - start) * 1e6


async def _measure_async_reads(folder: Path, keys: list[str]) -> list[float]:
    from claude_force.cache.fingerprint import CacheKey
    from claude_force.cache.policy import Lifetimes
    from claude_force.cache.store import open_store

    store = open_store(
        folder, lifetimes=Lifetimes(ttl_seconds=86_400), max_bytes=2**31, secret=SECRET
    )
    samples = []
    for key in keys:
        start = time.perf_counter()
        found = await store.lookup_async(CacheKey(key))
        samples.append((time.perf_counter() - start) * 1e6)
        assert found is not None
    await store.aclose()
    return samples[1:]


def measure_opening(contender: str, folder: Path, count: int) -> list[float]:
    if contender == "claude-force":
        _tier(folder / "warm-up").close()
    start = time.perf_counter()
    READ[contender](folder)(key_of(count // 2))
    return [(time.perf_counter() - start) * 1000]


def measure_sets(folder: Path) -> Samples:
    from claude_force.cache.response_cache import ResponseCache

    cache = ResponseCache(folder)
    acknowledged = []
    start = time.perf_counter()
    for number in range(10_000):
        before = time.perf_counter()
        cache.set("writer", f"{number}{TASK}", MODEL, ANSWER, 10, 20, 0.01)
        acknowledged.append((time.perf_counter() - before) * 1e6)
    seconds = time.perf_counter() - start
    before = time.perf_counter()
    cache.flush()
    durable = (time.perf_counter() - before) * 1000
    cache.close()
    connection = _sqlite(folder)
    bare = []
    for number in range(2000):
        value = body(4096, number)
        before = time.perf_counter()
        connection.execute("INSERT INTO cache VALUES (?, ?)", (key_of(number), value))
        bare.append((time.perf_counter() - before) * 1e6)
    return {
        "acknowledged": acknowledged,
        "bare": bare,
        "durable": [durable],
        "rate": [10_000 / seconds],
    }


async def measure_stalls(folder: Path) -> list[float]:
    from claude_force.cache.policy import Lifetimes
    from claude_force.cache.store import open_store

    store = open_store(
        folder, lifetimes=Lifetimes(ttl_seconds=86_400), max_bytes=2**28, secret=SECRET
    )
    values = [body(50_000, number) for number in range(50)]
    late = []
    for number in range(400):
        store.put(_entry(number, values[number % 50]))
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - before - 0.001) * 1000)
    await store.aclose()
    return late


def work(arguments: argparse.Namespace) -> None:
    """What a worker prints: samples by name, as JSON."""
    folder, contender = Path(arguments.folder), arguments.contender
    folder.mkdir(parents=True, exist_ok=True)
    result: object = None
    match arguments.worker:
        case "memory":
            result = measure_calls(MEMORY[contender](folder))
        case "key":
            result = measure_calls(KEYS[contender](folder))
        case "fill":
            FILL[contender](folder, arguments.count, arguments.size)
        case "read":
            result = measure_reads(contender, folder, arguments.count)
        case "open":
            result = measure_opening(contender, folder, arguments.count)
        case "set":
            result = measure_sets(folder)
        case "stall":
            result = asyncio.run(measure_stalls(folder))
    print(json.dumps(result))


# ---- the run


class Run:
    def __init__(self, folder: Path, rivals_python: str | None, rounds: int) -> None:
        self.folder = folder
        self.rivals_python = rivals_python
        self.rounds = rounds
        self.rows: list[tuple[str, str, str, list[float]]] = []
        self.missing: set[str] = set()

    def worker(self, task: str, contender: str, folder: Path, count: int = 0, size: int = 0) -> Any:
        python = self.rivals_python if contender in FOREIGN else sys.executable
        if python is None:
            self.missing.add(contender)
            return None
        command = [python, __file__, "--worker", task, "--contender", contender]
        command += ["--folder", str(folder), "--count", str(count), "--size", str(size)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            if "ModuleNotFoundError" in done.stderr and contender in FOREIGN:
                self.missing.add(contender)
                return None
            raise SystemExit(done.stderr)
        return json.loads(done.stdout)

    def compare(
        self, workload: str, unit: str, contenders: list[str], task: str, **how: Any
    ) -> None:
        samples: Samples = {contender: [] for contender in contenders}
        for _ in range(self.rounds):
            for contender in contenders:
                if contender not in self.missing:
                    folder = self.place(
                        task if "count" not in how else f"fill-{how['count']}-{how['size']}",
                        contender,
                    )
                    samples[contender] += self.worker(task, contender, folder, **how) or []
        self.rows += [(workload, name, unit, found) for name, found in samples.items() if found]

    def place(self, name: str, contender: str) -> Path:
        return self.folder / name / contender.replace(" ", "-").replace(",", "")

    def fill(self, contenders: list[str], count: int, size: int) -> None:
        for contender in contenders:
            self.worker(
                "fill", contender, self.place(f"fill-{count}-{size}", contender), count, size
            )

    def everything(self) -> None:
        self.compare("memory hit, 4 KB, key included", "us", list(MEMORY), "memory")
        self.compare("request key, 4 KB prompt, 2 KB task", "us", list(KEYS), "key")
        for count, size, name in ((2000, 4096, "4 KB"), (600, 50_000, "50 KB")):
            self.fill(list(FILL), count, size)
            self.compare(
                f"disk hit in a fresh process, {name}",
                "us",
                list(FILL),
                "read",
                count=count,
                size=size,
            )
        for count in (10_000, 100_000):
            contenders = list(READ)
            self.fill(contenders, count, 200)
            self.compare(
                f"open and first hit, {count:,} entries",
                "ms",
                contenders,
                "open",
                count=count,
                size=200,
            )
        sets: list[Samples] = [
            self.worker("set", "claude-force", self.folder / f"set-{number}")
            for number in range(self.rounds)
        ]
        for workload, contender, unit, name in (
            ("set, 4 KB", "claude-force, acknowledged", "us", "acknowledged"),
            ("set, 4 KB", "bare sqlite, committed", "us", "bare"),
            ("sets acknowledged a second, 10,000 in a row", "claude-force", "1/s", "rate"),
            ("last set of 10,000 until all are on disk", "claude-force", "ms", "durable"),
        ):
            self.rows.append(
                (workload, contender, unit, [value for one in sets for value in one[name]])
            )
        late = [
            value
            for number in range(self.rounds)
            for value in self.worker("stall", "claude-force", self.folder / f"stall-{number}")
        ]
        self.rows.append(("event loop late, 50 KB sets beside it", "claude-force", "ms", late))


def quantiles(samples: list[float]) -> tuple[float, float, float]:
    ordered = sorted(samples)
    return (
        statistics.median(ordered),
        ordered[min(len(ordered) - 1, int(len(ordered) * 0.9))],
        ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
    )


def facts() -> dict[str, object]:
    root = Path(__file__).resolve().parent.parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "sqlite": sqlite3.sqlite_version,
        "commit": commit.stdout.strip() or "unknown",
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def table(run: Run) -> Iterator[dict[str, object]]:
    baseline: dict[str, float] = {}
    for workload, contender, unit, samples in run.rows:
        median, p90, p99 = quantiles(samples)
        # The bare contender, where there is one: what the ratio is to.
        for name in (
            "bare sqlite",
            "ordered dict with TTL",
            "bare sha256 of the task",
            "bare sqlite, committed",
        ):
            for other, rival, _, found in run.rows:
                if other == workload and rival == name:
                    baseline[workload] = quantiles(found)[0]
        ratio = median / baseline[workload] if workload in baseline else None
        yield {
            "workload": workload, "contender": contender, "unit": unit, "median": median, "p90": p90, "p99": p99,
            "ratio_to_bare": ratio, "samples": len(samples), "goal": GOALS.get(workload),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rivals-python", help="an interpreter with the rivals installed")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    for hidden in ("--worker", "--contender", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    for hidden in ("--count", "--size"):
        parser.add_argument(hidden, type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), arguments.rivals_python, arguments.rounds)
        run.everything()
    rows = list(table(run))
    if arguments.json:
        print(
            json.dumps(
                {"machine": facts(), "rows": rows, "not_installed": sorted(run.missing)}, indent=2
            )
        )
        return
    print(json.dumps(facts()))
    workload = None
    for row in rows:
        if row["workload"] != workload:
            workload = row["workload"]
            print(f"\n{workload}" + (f"   [goal: {row['goal']}]" if row["goal"] else ""))
        ratio = f"{row['ratio_to_bare']:.2f} x" if row["ratio_to_bare"] is not None else ""
        print(
            f"  {row['contender']:<28} median {row['median']:>10.2f}  p90 {row['p90']:>10.2f}"
            f"  p99 {row['p99']:>10.2f} {row['unit']:<4} {ratio}"
        )
    if run.missing:
        print(f"\nnot installed: {', '.join(sorted(run.missing))} (--rivals-python)")


if __name__ == "__main__":
    main()
