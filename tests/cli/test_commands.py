"""Every command but the `run` group: within this process, since the process does not matter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from claude_force._version import __version__

if TYPE_CHECKING:
    from tests.conftest import Cli, Project

    from claude_force.simulator import SimulatorThread

ESCAPE = "\x1b[31m"


class TestHelp:
    @pytest.mark.parametrize(
        "command",
        [
            [],
            ["run"],
            ["run", "agent"],
            ["run", "workflow"],
            ["run", "map"],
            ["agents"],
            ["agents", "list"],
            ["agents", "show"],
            ["agents", "check"],
            ["init"],
            ["cache"],
            ["cache", "stats"],
            ["cache", "clear"],
            ["config"],
            ["config", "show"],
            ["config", "check"],
            ["config", "migrate"],
            ["simulate"],
            ["demo"],
            ["execute"],
            ["run-workflow"],
        ],
    )
    def test_every_command_explains_itself(self, cli: Cli, command: list[str]) -> None:
        ended = cli(*command, "--help")
        assert ended.code == 0
        assert ended.out.startswith("Usage: ")
        assert ended.err == ""

    def test_every_listed_command_has_help(self, cli: Cli) -> None:
        def commands(*path: str) -> list[tuple[str, ...]]:
            text = cli(*path, "--help").out
            if "\nCommands:\n" not in text:
                return [path]
            lines = text.split("\nCommands:\n")[1].splitlines()
            names = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
            return [found for name in names for found in commands(*path, name)]

        found = commands()
        assert {("run", "agent"), ("run", "map"), ("agents", "check"), ("demo",)} <= set(found)
        for path in found:
            assert "Usage: claude-force" in cli(*path, "--help").out or path

    def test_exit_codes_are_documented(self, cli: Cli) -> None:
        text = " ".join(cli("--help").out.split())
        for part in ("0 done", "3 input", "4 no key", "6 an unfinished", "9 a deadline", "130"):
            assert part in text

    def test_version(self, cli: Cli) -> None:
        assert cli("--version").out == f"claude-force, version {__version__}\n"

    @pytest.mark.parametrize(
        ("arguments", "hint"),
        [
            (["agnets"], "No such command 'agnets'. Did you mean 'agents'?"),
            (["run", "agnet"], "No such command 'agnet'. Did you mean 'agent'?"),
            (["xyzzy"], "No such command 'xyzzy'. There are: run, plan, workflow"),
            (["run", "agent", "alpha", "--tsak", "x"], "--tsak"),
            (["run", "agent", "alpha", "--effort", "giant"], "giant"),
            (["run", "agent", "alpha", "--timeout", "soon"], "soon"),
            (["run", "agent"], "Missing argument 'NAME'"),
        ],
    )
    def test_wrong_command_line_is_2_and_points_on(
        self, cli: Cli, arguments: list[str], hint: str
    ) -> None:
        ended = cli(*arguments)
        assert ended.code == 2
        assert hint in ended.err
        assert ended.out == ""


class TestAgents:
    def test_list_names_every_agent(self, cli: Cli) -> None:
        ended = cli("agents", "list")
        assert ended.code == 0
        names = [line.split()[0] for line in ended.out.splitlines()]
        assert names == ["alpha", "beta", "gamma"]
        assert ended.err == "3 agents\n"

    def test_list_as_json(self, cli: Cli, project: Project) -> None:
        (alpha, *_) = cli("agents", "list", "--json").json
        assert alpha["name"] == "alpha"
        assert alpha["description"] == "Does the work of alpha"
        assert alpha["scope"] == "project"
        assert alpha["path"] == str(project.root / ".claude/agents/alpha.md")

    def test_list_tells_of_files_that_are_none(self, cli: Cli, project: Project) -> None:
        project.write(".claude/agents/README.md", "# About these agents\n")
        ended = cli("agents", "list")
        assert "3 agents, 1 file without one (claude-force agents check says why)" in ended.err

    def test_list_without_agents_says_how_to_get_some(self, cli: Cli, project: Project) -> None:
        for path in (project.root / ".claude/agents").iterdir():
            path.unlink()
        ended = cli("agents", "list")
        assert ended.code == 0
        assert "0 agents" in ended.err
        assert "claude-force init" in ended.err
        assert cli("agents", "list", "--json").json == []

    def test_show_prints_the_prompt_and_where_it_comes_from(
        self, cli: Cli, project: Project
    ) -> None:
        project.agent("alpha", model="haiku", tools="Read, Grep")
        ended = cli("agents", "show", "alpha")
        assert ended.code == 0
        assert "model:       haiku\n" in ended.out
        assert str(project.root / ".claude/agents/alpha.md") in ended.out
        assert ended.out.endswith("\nYou are alpha.\n")
        shown = cli("agents", "show", "alpha", "--json").json
        assert shown["prompt"] == "You are alpha."
        assert shown["tools"] == ["Read", "Grep"]

    def test_show_of_an_unknown_agent_is_3(self, cli: Cli) -> None:
        ended = cli("agents", "show", "alhpa")
        assert ended.code == 3
        assert "Did you mean 'alpha'?" in ended.err

    def test_check_of_good_agents_is_0(self, cli: Cli) -> None:
        ended = cli("agents", "check")
        assert ended.code == 0
        assert ended.out.startswith("3 agents: 0 errors")
        assert cli("agents", "check", "--json").json["ok"] is True

    def test_check_reports_each_problem_with_its_file_and_is_1(
        self, cli: Cli, project: Project
    ) -> None:
        project.write(".claude/agents/bad.md", "---\ndescription: no name\n---\nText\n")
        project.write(".claude/agents/twin.md", "---\nname: alpha\ndescription: again\n---\nText\n")
        project.agent("odd", model="gpt-9", tools="Raed")
        ended = cli("agents", "check")
        assert ended.code == 1
        for part in ("bad.md", "twin.md", "odd.md", "gpt-9", "Raed"):
            assert part in ended.out
        report = cli("agents", "check", "--json")
        assert report.code == 1
        assert report.json["ok"] is False
        assert {"severity", "path", "message", "hint"} == report.json["findings"][0].keys()

    def test_check_of_a_folder_looks_nowhere_else(self, cli: Cli, project: Project) -> None:
        project.write("other/one.md", "---\nname: one\ndescription: x\n---\nText\n")
        assert cli("agents", "check", "other").out.startswith("1 agent: ")

    def test_verbose_check_shows_the_size_of_every_prompt(self, cli: Cli) -> None:
        out = cli("agents", "check", "-v").out
        assert "prompt-cache minimum" in out
        assert any(line.startswith("alpha ") and " below " in line for line in out.splitlines())

    def test_escapes_in_an_agent_file_do_not_steer_the_terminal(
        self, cli: Cli, project: Project
    ) -> None:
        project.write(
            ".claude/agents/evil.md",
            f'---\nname: evil\ndescription: "red \\e[31m\\b"\nmodel: "gpt\\e[31m\\b"\n---\n{ESCAPE}Prompt\x9b2J\n',
        )
        for command in (["list"], ["show", "evil"], ["check", "-v"]):
            ended = cli("agents", *command)
            assert not set(ended.out + ended.err) & set("\x1b\x9b\b"), command
        assert "\x9b" not in cli("agents", "show", "evil", "--json").out


class TestInit:
    def test_what_it_writes_can_be_listed_checked_and_run(
        self, cli: Cli, project: Project, simulator: SimulatorThread
    ) -> None:
        for path in (project.root / ".claude/agents").iterdir():
            path.unlink()
        ended = cli("init")
        assert ended.code == 0
        assert ".claude/claude.json: created" in ended.out
        assert len(cli("agents", "list", "--json").json) == 10
        assert cli("agents", "check").code == 0
        assert cli("config", "check").code == 0
        assert cli("run", "workflow", "review", "-t", "x").code == 0
        assert simulator.stats.answers == 4

    def test_second_time_keeps_what_was_changed(self, cli: Cli, project: Project) -> None:
        cli("init", "new")
        path = project.root / "new/.claude/agents/code-reviewer.md"
        path.write_text(
            "---\nname: code-reviewer\ndescription: mine\n---\nMine\n", encoding="utf-8"
        )
        (project.root / "new/.claude/agents/summarizer.md").unlink()
        again = cli("init", "new", "--json").json
        assert again["kept"] == [".claude/agents/code-reviewer.md"]
        assert again["created"] == [".claude/agents/summarizer.md"]
        assert "Mine" in path.read_text("utf-8")
        assert "code-reviewer.md: kept, since you have changed it" in cli("init", "new").out
        forced = cli("init", "new", "--force", "--json").json
        assert forced["overwritten"] == [".claude/agents/code-reviewer.md"]
        assert "Mine" not in path.read_text("utf-8")


class TestConfig:
    def test_show_says_what_holds_and_never_the_key(self, cli: Cli, project: Project) -> None:
        project.config(performance={"max_retries": 7}, workflows={"w": ["alpha"]})
        ended = cli("config", "show", key="sk-very-secret")
        assert ended.code == 0
        assert "performance.max_retries: 7\n" in ended.out
        assert "workflows: w\n" in ended.out
        assert "api_key: set" in ended.out
        assert "very-secret" not in ended.out + ended.err
        shown = cli("config", "show", "--json").json
        assert shown["performance"]["max_retries"] == 7
        assert shown["performance"]["timeout_seconds"] == 120
        assert shown["config"] == str(project.root / ".claude/claude.json")

    def test_show_without_a_file_or_a_key(self, cli: Cli) -> None:
        ended = cli("config", "show", key=None)
        assert "config: none found; defaults hold" in ended.out
        assert "api_key: not set" in ended.out

    def test_check_of_a_good_file_is_0(self, cli: Cli, project: Project) -> None:
        project.config(workflows={"w": ["alpha", "beta"]}, cache={"enabled": False})
        assert cli("config", "check").code == 0
        assert cli("config", "check", "--json").json["ok"] is True

    def test_check_reports_every_problem_with_its_place_and_is_1(
        self, cli: Cli, project: Project
    ) -> None:
        project.config(performance={"max_retries": "three", "max_concurent_agents": 2}, cahce={})
        ended = cli("config", "check")
        assert ended.code == 1
        assert "error: performance.max_retries: expected a whole number, found 'three'" in ended.out
        assert "did you mean performance.max_concurrent_agents?" in ended.out
        assert "did you mean cache?" in ended.out
        report = cli("config", "check", "--json")
        assert report.code == 1
        assert (len(report.json["errors"]), len(report.json["warnings"])) == (1, 2)

    def test_check_reports_every_problem_of_every_workflow(
        self, cli: Cli, project: Project
    ) -> None:
        project.config(
            workflows={
                "one": ["alpah"],
                "two": {
                    "steps": [
                        {"id": "a", "agent": "alpha", "needs": ["b"]},
                        {"id": "b", "agent": "alpha", "needs": ["a"]},
                    ]
                },
            }
        )
        report = cli("config", "check", "--json")
        assert report.code == 1
        one, two = report.json["errors"]
        assert one.startswith("workflows.one: step 'alpah': Agent 'alpah' not found")
        assert two == "workflows.two: the steps wait for each other: a -> b -> a"

    def test_broken_file_is_3_and_says_where(self, cli: Cli, project: Project) -> None:
        project.write(".claude/claude.json", '{"agents": ')
        for command in (["config", "check"], ["config", "show"], ["agents", "list"]):
            ended = cli(*command)
            assert ended.code == 3
            assert "claude.json is not valid JSON" in ended.err

    def test_check_without_a_file_says_how_to_get_one(self, cli: Cli) -> None:
        ended = cli("config", "check")
        assert ended.code == 3
        assert "claude-force init" in ended.err

    def test_migrate_adds_what_is_missing_and_keeps_a_backup(
        self, cli: Cli, project: Project
    ) -> None:
        path = project.config(workflows={"w": ["alpha"]}, performance={"max_retries": 9}, mine=1)
        before = path.read_bytes()
        ended = cli("config", "migrate")
        assert ended.code == 0
        assert "cache.enabled" in ended.out
        after = json.loads(path.read_text("utf-8"))
        assert after["workflows"] == {"w": ["alpha"]}
        assert after["mine"] == 1
        assert after["performance"]["max_retries"] == 9
        assert after["performance"]["timeout_seconds"] == 120
        assert path.with_name("claude.json.bak").read_bytes() == before
        again = cli("config", "migrate")
        assert again.code == 0
        assert "nothing to do" in again.out


class TestWorkflow:
    CONFIG = {  # noqa: RUF012 - read only
        "workflows": {
            "review": {
                "steps": [
                    {"id": "code", "agent": "alpha", "task": "Read it"},
                    {"id": "tests", "agent": "beta", "task": "Test it"},
                    {
                        "id": "verdict",
                        "agent": "gamma",
                        "task": "Judge it",
                        "needs": ["code", "tests"],
                    },
                ]
            },
            "chain": ["alpha", "beta"],
        }
    }

    @pytest.fixture(autouse=True)
    def _config(self, project: Project) -> None:
        project.config(**self.CONFIG)

    def test_last_answers_go_to_stdout_and_progress_to_stderr(self, cli: Cli) -> None:
        ended = cli("run", "workflow", "review", "--task", "Look")
        assert ended.code == 0
        assert ended.out.startswith("[simulated answer")
        assert "agent: You are gamma." in ended.out
        assert "You are alpha" not in ended.out.split("attached")[0]
        lines = [line.strip() for line in ended.err.splitlines()]
        assert lines[:2] == ["start    code (alpha)", "start    tests (beta)"]
        assert any(line.startswith("done     verdict: ") for line in lines)
        assert lines[-1].startswith("review: 3 of 3 steps, ")

    def test_json_has_every_step(self, cli: Cli) -> None:
        result = cli("run", "workflow", "review", "-t", "Look", "--json").json
        assert result["ok"] is True
        assert result["execution_order"] == ["code", "tests", "verdict"]
        assert [step["state"] for step in result["steps"]] == ["succeeded"] * 3
        assert result["text"] == result["steps"][2]["result"]["text"]

    @pytest.mark.parametrize("option", ["--sequential", "--parallel"])
    def test_order_of_execution_does_not_change_the_results(self, cli: Cli, option: str) -> None:
        plain = cli("run", "workflow", "review", "-t", "Look", "--no-cache")
        assert cli("run", "workflow", "review", "-t", "Look", "--no-cache", option).out == plain.out

    def test_older_name_and_options_are_taken(self, cli: Cli) -> None:
        assert cli("run-workflow", "chain", "--task", "Look", "--async", "--parallel").code == 0

    def test_failed_step_is_7_and_everything_finished_is_printed(
        self, cli: Cli, simulator: SimulatorThread
    ) -> None:
        from claude_force.simulator import Fault, FaultKind

        simulator.queue_fault(Fault(kind=FaultKind.REFUSAL, match="Test it"))
        ended = cli("run", "workflow", "review", "-t", "Look", "--json")
        assert ended.code == 7
        assert ended.json["ok"] is False
        assert [step["state"] for step in ended.json["steps"]] == ["succeeded", "failed", "skipped"]
        assert ended.json["steps"][0]["result"]["text"]
        assert "1 of 3 steps failed" in ended.err
        assert "tests (beta): The model refused" in ended.err
        assert "skipped  verdict: tests failed" in ended.err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["reveiw", "-t", "x"], "Did you mean 'review'?"),
            (["chain"], "The task is empty"),
            (["review", "-t", "x", "-f", "no.py"], "no.py"),
        ],
    )
    def test_what_cannot_run_is_3_and_sends_nothing(
        self, cli: Cli, simulator: SimulatorThread, arguments: list[str], message: str
    ) -> None:
        ended = cli("run", "workflow", *arguments, "--json")
        assert ended.code == 3
        assert message in ended.err
        assert message in ended.json["error"]["message"]
        assert simulator.stats.requests == 0

    def test_missing_key_is_4(self, cli: Cli, simulator: SimulatorThread) -> None:
        ended = cli("run", "workflow", "review", "-t", "x", key=None)
        assert ended.code == 4
        assert "--simulate" in ended.err
        assert simulator.stats.requests == 0

    def test_simulated_run_needs_no_key(self, cli: Cli, simulator: SimulatorThread) -> None:
        ended = cli("run", "workflow", "review", "-t", "x", "--scenario", "instant", key=None)
        assert ended.code == 0
        assert ended.err.startswith("Simulated: no model runs")
        assert simulator.stats.requests == 0


class TestDemo:
    def test_it_runs_on_a_folder_without_a_key(
        self, cli: Cli, project: Project, simulator: SimulatorThread
    ) -> None:
        project.write("src/app.py", "APP = 1\n" * 10)
        ended = cli("demo", "src", "--scenario", "instant", key=None)
        assert ended.code == 0
        assert ended.out.startswith("A team of four agents looks at 1 file (10 lines):")
        assert "file src/app.py" in ended.out
        assert "No model ran" in ended.out
        assert "4 of 4 steps" in ended.err
        assert simulator.stats.requests == 0

    def test_without_a_path_it_takes_src(self, cli: Cli, project: Project) -> None:
        project.write("src/app.py", "APP = 1\n")
        project.write("other.py", "OTHER = 1\n")
        ended = cli("demo", "--scenario", "instant", key=None)
        assert ended.code == 0
        assert "looks at 1 file (" in ended.out

    def test_of_more_than_fits_into_a_prompt_it_takes_the_first_files(
        self, cli: Cli, project: Project
    ) -> None:
        for name in "abcd":
            project.write(f"src/{name}.py", "X = 1\n" * 20_000)
        ended = cli("demo", "--scenario", "instant", key=None)
        assert ended.code == 0
        assert ended.out.startswith(
            "A team of four agents looks at the first 2 files (40,000 lines)"
        )

    def test_folder_without_text_is_3(self, cli: Cli, project: Project) -> None:
        (project.root / "empty").mkdir()
        ended = cli("demo", "empty", key=None)
        assert ended.code == 3
        assert "empty" in ended.err


class TestSimulate:
    def test_list_names_every_scenario(self, cli: Cli) -> None:
        ended = cli("simulate", "--list")
        assert ended.code == 0
        assert [line.split()[0] for line in ended.out.splitlines()][:2] == ["instant", "calm"]
        listed = cli("simulate", "--list", "--json").json
        assert {"name", "summary"} == listed[0].keys()

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["--scenario", "clam"], 3, "there is no scenario 'clam'"),
            (["--scenario", "no.json"], 3, "no.json"),
            (["--port", "70000"], 2, "70000"),
        ],
    )
    def test_what_cannot_be_served_is_refused(
        self, cli: Cli, arguments: list[str], code: int, message: str
    ) -> None:
        ended = cli("simulate", *arguments)
        assert ended.code == code
        assert message in ended.err

    def test_taken_port_is_refused_by_number(self, cli: Cli, simulator: SimulatorThread) -> None:
        ended = cli("simulate", "--port", str(simulator.port))
        assert ended.code == 3
        assert str(simulator.port) in ended.err
