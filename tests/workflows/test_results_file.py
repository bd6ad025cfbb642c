from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_force.domain.errors import ItemsError
from claude_force.workflows.results_file import KeptResults, ResultsFile

KEYS = {"1": "k1", "2": "k2", "3": "k3"}


def entry(item_id: object, key: str, *, ok: bool = True, text: str = "fine") -> dict[str, Any]:
    return {"id": item_id, "line": 1, "key": key, "ok": ok, "text": text}


def written(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in entries), encoding="utf-8")
    return path


def kept(path: Path, keys: dict[str, str] = KEYS) -> KeptResults:
    with ResultsFile(path, keys) as results:
        return results.kept


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def test_first_run_keeps_nothing_and_a_second_keeps_what_it_wrote(out: Path) -> None:
    with ResultsFile(out, KEYS) as results:
        assert results.kept == KeptResults(done=frozenset(), dropped=0)
        results.append(entry("1", "k1"))
        results.append(entry("2", "k2"))
    assert kept(out) == KeptResults(done=frozenset({"1", "2"}), dropped=0)


def test_line_is_in_the_file_as_soon_as_it_is_appended(out: Path) -> None:
    with ResultsFile(out, KEYS) as results:
        results.append(entry("1", "k1"))
        assert out.read_text("utf-8") == json.dumps(entry("1", "k1")) + "\n"


def test_failed_lines_are_dropped(out: Path) -> None:
    good = entry("1", "k1")
    written(out, good, entry("2", "k2", ok=False))
    assert kept(out) == KeptResults(done=frozenset({"1"}), dropped=1)
    assert out.read_text("utf-8") == json.dumps(good) + "\n"


def test_paid_answers_to_what_is_asked_no_longer_are_set_aside_and_never_lost(out: Path) -> None:
    good, changed, gone = entry("1", "k1"), entry("3", "other"), entry("4", "k4")
    written(out, good, changed, gone)
    assert kept(out) == KeptResults(done=frozenset({"1"}), dropped=0, outdated=2)
    assert out.read_text("utf-8") == json.dumps(good) + "\n"
    aside = out.with_name("results.jsonl.old")
    assert [json.loads(line) for line in aside.read_text("utf-8").splitlines()] == [changed, gone]
    assert kept(out, {}).outdated == 1
    assert [json.loads(line) for line in aside.read_text("utf-8").splitlines()] == [
        changed,
        gone,
        good,
    ]


def test_numbers_and_texts_as_ids_are_the_same(out: Path) -> None:
    written(out, entry(1, "k1"))
    assert kept(out).done == {"1"}


def test_line_that_a_kill_cut_off_is_dropped_and_the_next_begins_on_its_own(out: Path) -> None:
    written(out, entry("1", "k1"))
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry("2", "k2"))[:-5])
    with ResultsFile(out, KEYS) as results:
        assert results.kept == KeptResults(done=frozenset({"1"}), dropped=1)
        results.append(entry("2", "k2"))
    assert kept(out) == KeptResults(done=frozenset({"1", "2"}), dropped=0)


def test_kill_in_the_middle_of_a_character_is_repaired_too(out: Path) -> None:
    whole = json.dumps(entry("1", "k1", text="naïve €"), ensure_ascii=False).encode() + b"\n"
    for cut in range(1, len(whole)):
        out.write_bytes(whole + whole[:cut])
        assert kept(out).done == {"1"}
        assert out.read_bytes() == whole


def test_whole_result_that_lacks_only_its_line_end_is_kept(out: Path) -> None:
    written(out, entry("1", "k1"), entry("2", "k2"))
    out.write_text(out.read_text("utf-8").removesuffix("\n"), encoding="utf-8")
    with ResultsFile(out, KEYS) as results:
        assert results.kept == KeptResults(done=frozenset({"1", "2"}), dropped=0)
        results.append(entry("3", "k3"))
    assert kept(out).done == {"1", "2", "3"}


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(
    text=st.text()
    | st.sampled_from(["\u2028", "\u2029", "\x85", "\x1c", "\x0b", "a\r\nb", "\ud800"])
)
def test_any_text_comes_back_as_one_line(tmp_path: Path, text: str) -> None:
    out = tmp_path / "any.jsonl"
    out.unlink(missing_ok=True)
    with ResultsFile(out, KEYS) as results:
        results.append(entry("1", "k1", text=text))
        results.append(entry("2", "k2"))
    assert kept(out) == KeptResults(done=frozenset({"1", "2"}), dropped=0)
    assert [json.loads(line)["text"] for line in out.read_bytes().splitlines()] == [text, "fine"]


@pytest.mark.parametrize(
    "content",
    [
        '{"task": "these are items"}\n',
        "# Notes\nnot JSON at all\n",
        "no line end",
        "[1]\n",
        json.dumps(entry("1", "k1")) + '\n{"torn": \n' + json.dumps(entry("2", "k2")) + "\n",
    ],
)
def test_file_of_something_else_is_refused_and_left_as_it_is(out: Path, content: str) -> None:
    out.write_text(content, encoding="utf-8")
    with pytest.raises(ItemsError, match="is not a file of results"):
        ResultsFile(out, KEYS)
    assert out.read_text("utf-8") == content
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_refused_file_can_be_opened_again_once_it_is_corrected(out: Path) -> None:
    out.write_text("# Notes\n", encoding="utf-8")
    with pytest.raises(ItemsError):
        ResultsFile(out, KEYS)
    out.unlink()
    assert kept(out).done == frozenset()


def test_second_process_is_refused_while_the_first_writes(out: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from claude_force.domain.errors import ItemsError\n"
        "from claude_force.workflows.results_file import ResultsFile\n"
        "try: ResultsFile(Path(sys.argv[1]), {}).close()\n"
        "except ItemsError as error: print(error)\n"
        "else: print('opened')\n"
    )

    def other() -> str:
        arguments = [sys.executable, "-c", code, str(out)]
        return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout

    with ResultsFile(out, KEYS) as results:
        results.append(entry("1", "k1"))
        assert other() == (
            f"Another process is writing to {str(out)!r}. Wait for it, or name another --out.\n"
        )
        assert out.read_text("utf-8") == json.dumps(entry("1", "k1")) + "\n"
    assert other() == "opened\n"


def test_writer_that_waited_with_the_old_lock_file_gets_no_place_beside_a_new_one(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first writer ends, and a third one starts, between the second's opening of the lock file and its lock.
    import fcntl

    first = ResultsFile(out, KEYS)
    real, third = fcntl.flock, list[ResultsFile]()

    def flock(file: Any, operation: int) -> None:
        if not third:
            monkeypatch.setattr(fcntl, "flock", real)
            first.close()
            third.append(ResultsFile(out, KEYS))
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ItemsError, match="Another process is writing"):
        ResultsFile(out, KEYS)
    third[0].close()


def test_nothing_but_the_results_is_left_in_the_folder(out: Path) -> None:
    written(out, entry("1", "k1", ok=False))
    with ResultsFile(out, KEYS) as results:
        results.append(entry("1", "k1"))
        results.close()
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_results_behind_a_link_stay_behind_it(out: Path, tmp_path: Path) -> None:
    real = written(tmp_path / "real.jsonl", entry("1", "k1"), entry("2", "k2", ok=False))
    out.symlink_to(real)
    assert kept(out) == KeptResults(done=frozenset({"1"}), dropped=1)
    assert out.is_symlink()
    assert real.read_text("utf-8") == json.dumps(entry("1", "k1")) + "\n"


def test_link_and_file_are_one_to_the_lock(out: Path, tmp_path: Path) -> None:
    real = written(tmp_path / "real.jsonl")
    out.symlink_to(real)
    with ResultsFile(out, KEYS), pytest.raises(ItemsError, match="Another process"):
        ResultsFile(real, KEYS)


@pytest.mark.parametrize("path", ["no/such/folder/out.jsonl", "."])
def test_place_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path, path: str) -> None:
    with pytest.raises(ItemsError, match="cannot be written"):
        ResultsFile(tmp_path / path, KEYS)


def test_full_disk_stops_before_more_is_spent(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    out = tmp_path / "out.jsonl"
    results = ResultsFile(out, KEYS)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, results._file.fileno())
    os.close(full)
    with pytest.raises(ItemsError, match=r"could not be written .*No space left on device"):
        results.append(entry("1", "k1"))
    results.close()
