"""How it is switched on, what stands in the way, and what the command line says of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.semantic.conftest import OTHER, QUESTION, SAME, TaskFile

from claude_force import ConfigError, OptionalDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Cli, Project
    from tests.semantic.conftest import Ask

ALPHA = ("run", "agent", "alpha", "--task")


@pytest.mark.parametrize("missing", ["numpy", "safetensors", "tokenizers", "wordllama"])
def test_without_the_extra_nothing_is_sent(
    ask: Ask, paid: Callable[[], int], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        OptionalDependencyError,
        match=rf"needs {missing}, .*pip install 'claude-force\[semantic\]'",
    ):
        ask(QUESTION)
    assert paid() == 0


def test_an_embedder_of_ones_own_needs_only_numpy(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, paid: Callable[[], int]
) -> None:
    import numpy as np

    class Same:
        name = "everything is the same"

        def embed(self, texts: list[str]) -> Any:
            return np.ones((len(texts), 1), dtype=np.float32)

    for name in ("safetensors", "tokenizers", "wordllama"):
        monkeypatch.setitem(sys.modules, name, None)
    ask(QUESTION, force={"semantic_embedder": Same()})
    hit = ask(SAME, force={"semantic_embedder": Same()}).cached
    assert hit is not None
    assert hit.match is not None
    assert hit.match.similarity == 1.0
    assert ask(OTHER, force={"semantic_embedder": Same()}).cached is None
    assert paid() == 2


def test_calls_of_other_agents_import_nothing_of_it() -> None:
    program = (
        "import sys, claude_force.orchestrator, claude_force.assembly.layers, claude_force.cli.run_agent\n"
        "print([name for name in ('numpy', 'tokenizers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_package_of_the_weights_is_not_imported() -> None:
    program = (
        "import sys, logging\n"
        "from claude_force.cache.semantic.embedder import own_embedder\n"
        "rows = own_embedder().embed(['How do I reset my password?', ''])\n"
        "print(rows.shape, rows.dtype, round(float(rows[0] @ rows[0]), 5), float(abs(rows[1]).sum()))\n"
        "print('wordllama' in sys.modules, 'requests' in sys.modules, logging.root.handlers)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(2, 256) float32 1.0 0.0\nFalse False []\n"


@pytest.mark.parametrize("threshold", [0, -1, 1.01, float("nan")])
def test_a_threshold_that_is_no_cosine_is_refused(
    ask: Ask, paid: Callable[[], int], threshold: float
) -> None:
    with pytest.raises(ConfigError, match=r"for 'alpha' is .*; it is a cosine above 0"):
        ask(QUESTION, force={"semantic_cache": {"alpha": threshold}})
    assert paid() == 0


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ([], "error: cache.semantic: expected an object, found []"),
        ({"agents": ["faq"]}, "error: cache.semantic.agents: expected agents by name"),
        ({"agents": {"faq": 0.9}}, "error: cache.semantic.agents.faq: expected an object"),
        (
            {"agents": {"faq": {"threshold": 2}}},
            "error: cache.semantic.agents.faq.threshold: expected a cosine above 0 and at most 1",
        ),
        (
            {"agents": {"faq": {"threshold": True}}},
            "error: cache.semantic.agents.faq.threshold: expected a cosine above 0 and at most 1",
        ),
        ({"agent": {}}, "warning: cache.semantic.agent: nothing reads this key"),
        (
            {"agents": {"faq": {"treshold": 0.9}}},
            "warning: cache.semantic.agents.faq.treshold: nothing reads this key",
        ),
    ],
)
def test_the_section_is_checked(cli: Cli, project: Project, section: object, problem: str) -> None:
    project.config(cache={"semantic": section})
    shown = cli("config", "check")
    assert problem in shown.out + shown.err


def test_the_line_of_the_command_says_how_similar_and_to_what(cli: Cli) -> None:
    assert cli(*ALPHA, QUESTION, "--semantic-cache").code == 0
    shown = cli(*ALPHA, SAME, "--semantic-cache")
    assert f'from the cache (semantic: 0.984 like "{QUESTION}", ' in shown.err


def test_json_says_the_same(cli: Cli) -> None:
    cli(*ALPHA, QUESTION, "--semantic-cache", "0.9", "--json")
    cached = cli(*ALPHA, SAME, "--semantic-cache", "0.9", "--json").json["cached"]
    assert cached["tier"] == "semantic"
    assert cached["answered_task"] == QUESTION
    assert 0.98 < cached["similarity"] < 0.99


def test_a_task_of_a_file_cannot_steer_the_terminal(cli: Cli) -> None:
    cli(*ALPHA, "How do I reset my \x1b[31mred\x1b[0m\npassword?", "--semantic-cache")
    shown = cli(*ALPHA, "How can I reset my [31mred[0m password?", "--semantic-cache")
    assert "\x1b" not in shown.err
    assert 'like "How do I reset my' in shown.err


def test_a_map_says_it_in_its_results(cli: Cli, project: Project) -> None:
    project.items({"task": QUESTION})
    more = project.items({"task": SAME, "id": "again"}, name="more.jsonl")
    cli("run", "map", "alpha", "--items", "items.jsonl", "--out", "out.jsonl", "--semantic-cache")
    shown = cli("run", "map", "alpha", "--items", str(more), "--json", "--semantic-cache")
    (entry,) = shown.json_lines
    assert entry["cached"]["answered_task"] == QUESTION


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*ALPHA, SAME, "--semantic-cache", "-f", "a.txt"), "for tasks without files"),
        (
            ("run", "map", "alpha", "--items", "i", "--json", "--batch", "--semantic-cache"),
            "not for --batch",
        ),
    ],
)
def test_what_it_has_no_part_in_is_said(
    cli: Cli, project: Project, paid: Callable[[], int], arguments: tuple[str, ...], message: str
) -> None:
    project.write("a.txt", "text")
    shown = cli(*arguments)
    assert (shown.code, paid()) == (3, 0)
    assert message in shown.err


@pytest.mark.parametrize("written", ["alpha", "0", "1.5", "nan", "90%"])
def test_a_threshold_that_cannot_be_read_is_a_usage_error(cli: Cli, written: str) -> None:
    shown = cli("run", "agent", "--semantic-cache", written, "alpha", "--task", QUESTION)
    assert shown.code == 2
    assert f"{written!r} is no similarity" in shown.err


def test_the_commands_of_the_cache_know_the_tasks(cli: Cli) -> None:
    for task in (QUESTION, "How do I reset my 2 passwords?"):
        cli(*ALPHA, task, "--semantic-cache")
    assert "semantic: 2 tasks that similar ones are answered by" in cli("cache", "stats").out
    why = cli("cache", "why")
    assert f'most similar task: 0.885 "{QUESTION}"; they differ in numbers' in why.out
    told = cli("cache", "why", "--json").json["similar"]
    assert (told["task"], told["apart"]) == (QUESTION, "numbers")
    assert "semantic: 2 tasks intact, 0 not." in cli("cache", "verify").out
    assert cli("cache", "clear", "--agent", "beta", "--json").json["removed"] == 0
    assert cli("cache", "stats", "--json").json["semantic"]["tasks"] == 2
    assert cli("cache", "clear", "--agent", "alpha", "--json").json["removed"] == 2
    assert cli("cache", "stats", "--json").json["semantic"]["tasks"] == 0
    cli(*ALPHA, SAME, "--semantic-cache", "--json")
    assert json.loads(cli("cache", "stats", "--json").out)["semantic"]["tasks"] == 1


def test_why_tells_a_threshold_from_a_difference(cli: Cli, project: Project) -> None:
    project.config(cache={"semantic": {"agents": {"alpha": {"threshold": 0.99}}}})
    for task in (QUESTION, SAME):
        cli(*ALPHA, task)
    assert f'0.984 "{QUESTION}"; that is less than 0.99' in cli("cache", "why").out
    project.config(cache={"semantic": {"agents": {"alpha": {}}}})
    assert "either can be answered by the other" in cli("cache", "why").out


def test_the_commands_say_nothing_of_it_where_it_was_never_used(cli: Cli, tasks: TaskFile) -> None:
    cli(*ALPHA, QUESTION)
    for command in ("stats", "why", "clear"):
        assert "semantic" not in cli("cache", command).out
        assert "similar" not in cli("cache", command, "--json").out
    assert tasks.count() == 0


def test_verify_finds_a_task_that_was_edited(cli: Cli, project: Project) -> None:
    cli(*ALPHA, QUESTION, "--semantic-cache")
    (path,) = project.home.rglob("semantic.db")
    tasks = TaskFile(path.parent)
    (record,) = tasks.records()
    tasks.execute("UPDATE bodies SET record = ?", record.replace(b"password", b"username"))
    shown = cli("cache", "verify", "--json")
    assert (shown.code, shown.json["semantic"]) == (1, {"valid": 0, "invalid": 1})
