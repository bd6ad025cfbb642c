from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.simulator import Fault, FaultKind, Latency, Scenario, SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Cli, Process, Project, Spawn

MARK = "[simulated answer: no model ran]"


def user_text(simulator: SimulatorThread) -> str:
    (request,) = simulator.requests
    return "".join(block["text"] for block in request.body["messages"][0]["content"])


class TestAnswer:
    def test_text_goes_to_stdout_and_the_summary_to_stderr(self, cli: Cli) -> None:
        ended = cli("run", "agent", "alpha", "--task", "Look at this")
        assert ended.code == 0
        assert ended.out.startswith(MARK)
        assert ended.out.endswith("\n")
        assert "> Look at this" in ended.out
        (line,) = ended.err.splitlines()
        assert line.startswith("alpha · claude-sonnet-5-5 · ")
        assert " tokens in, " in line
        assert " · $0.0" in line

    @pytest.mark.parametrize("option", ["--stream", "--no-stream"])
    def test_streamed_and_whole_answers_are_the_same(self, cli: Cli, option: str) -> None:
        plain = cli("run", "agent", "alpha", "-t", "Look", "--no-cache")
        assert cli("run", "agent", "alpha", "-t", "Look", "--no-cache", option).out == plain.out

    def test_json_is_one_object_and_nothing_else(
        self, cli: Cli, simulator: SimulatorThread
    ) -> None:
        ended = cli("run", "agent", "alpha", "-t", "Look", "--json")
        assert ended.code == 0
        result = ended.json
        assert result["ok"] is True
        assert result["agent"] == "alpha"
        assert result["text"].startswith(MARK)
        assert result["stop_reason"] == "end_turn"
        assert result["attempts"] == 1
        assert result["usage"]["output_tokens"] == simulator.stats.usage.output_tokens
        assert float(result["cost_usd"]) > 0
        assert ended.out.count("\n") == 1

    def test_options_reach_the_request(
        self, cli: Cli, simulator: SimulatorThread, project: Project
    ) -> None:
        options = ["--model", "haiku", "--max-tokens", "77", "--effort", "low", "--async"]
        assert cli("run", "agent", "alpha", "-t", "Look", *options).code in {0, 6}
        body = simulator.requests[0].body
        assert body["model"] == "claude-haiku-5-5"
        assert body["max_tokens"] == 77
        assert body["output_config"] == {"effort": "low"}

    def test_execute_is_the_older_name(self, cli: Cli) -> None:
        ended = cli("execute", "alpha", "Look at this", "--async", "--timeout", "30")
        assert ended.code == 0
        assert "> Look at this" in ended.out

    def test_agents_folder_goes_first(self, cli: Cli, project: Project) -> None:
        project.write("other/alpha.md", "---\nname: alpha\ndescription: x\n---\nYou are another.\n")
        assert (
            "agent: You are another."
            in cli("run", "agent", "alpha", "-t", "x", "--agents", "other").out
        )

    def test_base_url_option_goes_before_the_environment(
        self, cli: Cli, simulator: SimulatorThread, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
        assert cli("run", "agent", "alpha", "-t", "x", "--base-url", simulator.base_url).code == 0

    def test_auth_token_is_a_key_too(
        self, cli: Cli, simulator: SimulatorThread, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token")
        assert cli("run", "agent", "alpha", "-t", "x", key=None).code == 0
        assert simulator.stats.requests == 1

    def test_terminal_escapes_never_reach_stdout(
        self, cli: Cli, spawn: Spawn, simulator: SimulatorThread
    ) -> None:
        # The simulator quotes the first lines of the task, but a task is cleaned; the agent's first line is too.
        # So the escapes come from the API's own message.
        evil = "\x1b]0;title\x07\x1b[31mred\x9b2J\x08"
        simulator.queue_fault(Fault(kind=FaultKind.INVALID_REQUEST, message=evil))
        ended = cli("run", "agent", "alpha", "-t", "x")
        assert ended.code == 5
        assert not set(ended.out + ended.err) & set("\x1b\x07\x9b\x08")


class TestInput:
    def test_stdin_alone_is_the_task(self, cli: Cli, simulator: SimulatorThread) -> None:
        ended = cli("run", "agent", "alpha", "-", stdin="Überprüfe das".encode())
        assert "> Überprüfe das" in ended.out

    def test_stdin_beside_a_task_is_attached(self, cli: Cli, simulator: SimulatorThread) -> None:
        ended = cli(
            "run", "agent", "alpha", "--task", "Review this diff", "-", stdin=b"+new line\n"
        )
        assert ended.code == 0
        text = user_text(simulator)
        assert 'path="stdin"' in text
        assert "+new line" in text
        assert text.index("+new line") < text.index("Review this diff")

    def test_files_folders_and_globs_are_attached(
        self, cli: Cli, simulator: SimulatorThread, project: Project
    ) -> None:
        project.write("src/app.py", "APP = 1\n")
        project.write("src/deep/tool.py", "TOOL = 2\n")
        project.write("docs/a.md", "PAGE A\n")
        project.write("docs/b.txt", "PAGE B\n")
        project.write("README.md", "READ ME\n")
        project.write(".gitignore", "ignored.py\n")
        project.write("src/ignored.py", "SECRET = 3\n")
        ended = cli(
            "run",
            "agent",
            "alpha",
            "-t",
            "x",
            "-f",
            "src",
            "--file",
            "docs/*.md",
            "-f",
            "README.md",
        )
        assert ended.code == 0
        text = user_text(simulator)
        for name in ("src/app.py", "src/deep/tool.py", "docs/a.md", "README.md"):
            assert f'path="{name}"' in text
        assert "PAGE B" not in text
        assert "SECRET" not in text

    def test_binary_file_is_refused_by_name_and_left_out_of_a_folder_with_a_word(
        self, cli: Cli, simulator: SimulatorThread, project: Project
    ) -> None:
        project.write("src/app.py", "APP = 1\n")
        (project.root / "src/photo.bin").write_bytes(b"\x00\x01")
        named = cli("run", "agent", "alpha", "-t", "x", "-f", "src/photo.bin")
        assert named.code == 3
        assert "src/photo.bin" in named.err
        assert simulator.stats.requests == 0
        folder = cli("run", "agent", "alpha", "-t", "x", "-f", "src")
        assert folder.code == 0
        assert "Left out: src/photo.bin (it is binary" in folder.err

    @pytest.mark.parametrize(
        ("arguments", "stdin", "message"),
        [
            (["alpha"], b"", 'There is no task. Give one with --task "…"'),
            (["alpha", "-t", "  "], b"", "The task is empty"),
            (["alpha", "-"], b"", "Standard input is empty"),
            (
                ["alpha", "-"],
                b"\xff\xfe",
                "Standard input cannot be attached: it is not UTF-8 text",
            ),
            (["alpha", "-t", "x" * 100_001], b"", "Task too large: 100,001 characters"),
            (["alhpa", "-t", "x"], b"", "Did you mean 'alpha'?"),
            (["../alpha", "-t", "x"], b"", "Invalid agent name"),
            (["alpha", "-t", "x", "-f", "no.py"], b"", "no.py"),
            (["alpha", "-t", "x", "--max-tokens", "0"], b"", "max_tokens is 0"),
            (["alpha", "-t", "x", "--timeout", "0"], b"", "timeout_seconds is 0"),
            (["alpha", "-t", "x", "--max-concurrent", "0"], b"", "max_concurrent is 0"),
            (["alpha", "-t", "x", "--base-url", "nonsense"], b"", "nonsense"),
            (["alpha", "-t", "x", "--config", "no.json"], b"", "no.json"),
            (["alpha", "-t", "x", "--agents", "nowhere"], b"", "nowhere"),
            (["alpha", "-t", "x", "--scenario", "strom"], b"", "there is no scenario 'strom'"),
        ],
    )
    def test_what_cannot_be_used_ends_in_3_before_anything_is_sent(
        self, cli: Cli, simulator: SimulatorThread, arguments: list[str], stdin: bytes, message: str
    ) -> None:
        for form in ([], ["--json"]):
            ended = cli("run", "agent", *arguments, *form, stdin=stdin)
            assert ended.code == 3
            assert message in ended.err
            assert "Traceback" not in ended.err
            if form:
                assert ended.json["ok"] is False
                assert ended.json["error"]["exit_code"] == 3
                assert message in ended.json["error"]["message"]
            else:
                assert ended.out == ""
        assert simulator.stats.requests == 0


class TestExitCodes:
    @pytest.mark.parametrize(
        ("kind", "code", "error"),
        [
            (FaultKind.AUTHENTICATION, 4, "authentication"),
            (FaultKind.PERMISSION, 4, "authentication"),
            (FaultKind.NOT_FOUND, 5, "invalid_request"),
            (FaultKind.OVERLOADED, 5, "service"),
            (FaultKind.CUT, 5, "transport"),
            (FaultKind.MAX_TOKENS, 6, "incomplete_answer"),
            (FaultKind.REFUSAL, 6, "incomplete_answer"),
            (FaultKind.EMPTY_TEXT, 6, "incomplete_answer"),
            (FaultKind.BILLING, 8, "spend_limit"),
            (FaultKind.ENFORCED_SPEND_LIMIT, 8, "spend_limit"),
        ],
    )
    def test_every_failure_has_its_code_and_its_word(
        self, cli: Cli, simulator: SimulatorThread, kind: FaultKind, code: int, error: str
    ) -> None:
        simulator.queue_fault(Fault(kind=kind, times=2))
        plain = cli("run", "agent", "alpha", "-t", "x", "--max-retries", "0")
        assert plain.code == code
        assert plain.err.splitlines()[-1].startswith("Error: ")
        ended = cli("run", "agent", "alpha", "-t", "x", "--max-retries", "0", "--json")
        assert ended.code == code
        assert ended.json["ok"] is False
        assert ended.json["error"]["kind"] == error
        assert ended.json["error"]["exit_code"] == code

    def test_deadline_is_9(self, cli: Cli, simulator: SimulatorThread) -> None:
        simulator.queue_fault(Fault(kind=FaultKind.STALL))
        ended = cli("run", "agent", "alpha", "-t", "x", "--timeout", "0.3")
        assert ended.code == 9
        assert "within 0.3 s" in ended.err
        assert "--timeout" in ended.err

    def test_nobody_listening_is_5_and_names_the_address(self, cli: Cli) -> None:
        ended = cli(
            "run",
            "agent",
            "alpha",
            "-t",
            "x",
            "--base-url",
            "http://127.0.0.1:9",
            "--max-retries",
            "0",
        )
        assert ended.code == 5
        assert "http://127.0.0.1:9" in ended.err

    def test_missing_key_is_4_and_sends_nothing(self, cli: Cli, simulator: SimulatorThread) -> None:
        ended = cli("run", "agent", "alpha", "-t", "x", key=None)
        assert ended.code == 4
        assert ended.out == ""
        assert "export ANTHROPIC_API_KEY=" in ended.err
        assert "--simulate" in ended.err
        assert cli("run", "agent", "alpha", "-t", "x", "--json", key=None).json["error"][
            "kind"
        ] == ("missing_credentials")
        assert simulator.stats.requests == 0

    def test_key_is_in_no_output(self, cli: Cli, simulator: SimulatorThread) -> None:
        simulator.queue_fault(Fault(kind=FaultKind.AUTHENTICATION))
        ended = cli("run", "agent", "alpha", "-t", "x", key="sk-very-secret")
        assert "very-secret" not in ended.out + ended.err


class TestSimulate:
    def test_it_needs_no_key_and_says_that_no_model_ran(
        self, cli: Cli, simulator: SimulatorThread
    ) -> None:
        ended = cli("run", "agent", "alpha", "-t", "x", "--simulate", key=None)
        assert ended.code == 0
        assert ended.out.startswith(MARK)
        assert ended.err.startswith("Simulated: no model runs, the answers are made up.\n")
        assert simulator.stats.requests == 0

    def test_scenario_implies_it(self, cli: Cli) -> None:
        ended = cli("run", "agent", "alpha", "-t", "x", "--scenario", "refusing", key=None)
        assert ended.code == 6
        assert "refused" in ended.err

    def test_scenario_may_be_a_file(self, cli: Cli, project: Project) -> None:
        project.write("odd.json", json.dumps({"fault_rates": {"not_found": 1.0}}))
        assert cli("run", "agent", "alpha", "-t", "x", "--scenario", "odd.json", key=None).code == 5


class TestProcess:
    def test_text_is_on_stdout_before_the_answer_ends(
        self, spawn: Spawn, simulator: SimulatorThread
    ) -> None:
        simulator.queue_fault(Fault(kind=FaultKind.STALL, after_bytes=1_200))
        running = spawn("run", "agent", "alpha", "-t", "x")
        assert running.stdout is not None
        # The rest of the answer never comes; without streaming this would wait for ever.
        assert running.stdout.read(len(MARK)) == MARK
        assert running.poll() is None

    def test_no_stream_prints_nothing_before_the_end(
        self, spawn: Spawn, simulator: SimulatorThread, until: Callable[[Any], None]
    ) -> None:
        simulator.queue_fault(Fault(kind=FaultKind.STALL, after_bytes=1_200))
        running = spawn("run", "agent", "alpha", "-t", "x", "--no-stream", "--timeout", "1")
        out, err = running.communicate(timeout=60)
        assert (running.returncode, out) == (9, "")
        assert "Traceback" not in err

    def test_pipe_is_told_where_an_answer_starts_again(
        self, process: Process, simulator: SimulatorThread
    ) -> None:
        simulator.queue_fault(Fault(kind=FaultKind.CUT, after_bytes=1_200))
        ended = process("run", "agent", "alpha", "-t", "x")
        assert ended.code == 0
        void = "[the answer broke off here and is void; it starts again below]\n"
        assert ended.out.count(void) == 1
        before, after = ended.out.split(void)
        assert before.startswith(MARK)
        assert after.startswith(MARK)
        assert "Attempt 1 failed (transport); next in " in ended.err
        assert " · 2 attempts" in ended.err

    def test_regular_file_is_cut_back_to_where_the_answer_began(
        self, spawn: Spawn, simulator: SimulatorThread, project: Project
    ) -> None:
        simulator.queue_fault(Fault(kind=FaultKind.CUT, after_bytes=1_200))
        out = project.root / "out.txt"
        with out.open("w", encoding="utf-8") as file:
            file.write("kept\n")
            file.flush()
            running = spawn("run", "agent", "alpha", "-t", "x", stdout=file)
            running.communicate(timeout=60)
        assert running.returncode == 0
        text = out.read_text("utf-8")
        assert text.startswith(f"kept\n{MARK}\n")
        assert text.count(MARK) == 1
        assert "void" not in text

    def test_file_that_is_appended_to_is_marked_and_never_cut(
        self, spawn: Spawn, simulator: SimulatorThread, project: Project
    ) -> None:
        simulator.queue_fault(Fault(kind=FaultKind.CUT, after_bytes=1_200))
        out = project.write("out.txt", "kept\n")
        with out.open("a", encoding="utf-8") as file:
            running = spawn("run", "agent", "alpha", "-t", "x", stdout=file)
            running.communicate(timeout=60)
        assert running.returncode == 0
        text = out.read_text("utf-8")
        assert text.startswith(f"kept\n{MARK}\n")
        assert text.count(MARK) == 2
        assert text.count("[the answer broke off here and is void; it starts again below]\n") == 1

    def test_reader_that_leaves_gets_no_traceback(self, spawn: Spawn) -> None:
        running = spawn("run", "agent", "alpha", "-t", "x")
        head = subprocess.run(
            ["head", "-1"], stdin=running.stdout, capture_output=True, text=True, check=True
        )
        assert head.stdout == f"{MARK}\n"
        assert running.stdout is not None
        running.stdout.close()
        running.wait(timeout=60)
        assert running.stderr is not None
        assert "Traceback" not in (err := running.stderr.read())
        assert "BrokenPipe" not in err

    def test_full_disk_behind_stdout_is_a_message(self, spawn: Spawn) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("needs /dev/full")
        for arguments in (["agents", "list"], ["run", "agent", "alpha", "-t", "x"]):
            with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
                running = spawn(*arguments, stdout=full)
                _, err = running.communicate(timeout=60)
            assert running.returncode == 1
            assert "No space left on device" in err
            assert "Traceback" not in err

    def test_second_interrupt_stops_at_once_with_130_and_leaves_no_request(
        self, spawn: Spawn, simulator: SimulatorThread, until: Callable[[Any], None]
    ) -> None:
        simulator.queue_fault(Fault(kind=FaultKind.STALL, after_bytes=1_200))
        running = spawn("run", "agent", "alpha", "-t", "x")
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.read(len(MARK))
        running.send_signal(signal.SIGINT)
        while "Ctrl-C again stops at once" not in running.stderr.readline():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
        assert running.returncode == 130
        assert "Traceback" not in err
        until(lambda: simulator.stats.open_connections == 0)

    def test_first_interrupt_lets_a_paid_answer_come_to_its_end(
        self, spawn: Spawn, simulator: SimulatorThread
    ) -> None:
        simulator.queue_fault(Fault(kind=FaultKind.STALL, after_bytes=1_200, seconds=1.0))
        running = spawn("run", "agent", "alpha", "-t", "x")
        assert running.stdout is not None
        running.stdout.read(len(MARK))
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
        assert simulator.stats.answers == 1
        assert "nothing more is sent" in err
        assert "Traceback" not in err

    def test_diff_is_piped_in(self, process: Process, simulator: SimulatorThread) -> None:
        ended = process("run", "agent", "alpha", "--task", "Review", "-", stdin="+ä\n")
        assert ended.code == 0
        assert "+ä" in user_text(simulator)

    def test_log_lines_are_json_without_prompt_answer_or_key(
        self, process: Process, simulator: SimulatorThread, project: Project
    ) -> None:
        project.agent("alpha", "The secret system prompt.")
        simulator.queue_fault(Fault(kind=FaultKind.OVERLOADED, message="quotes the private task"))
        options = ["--log-format", "json", "--log-level", "debug"]
        ended = process(*options, "run", "agent", "alpha", "-t", "the private task", "--json")
        assert ended.code == 0
        assert ended.json["ok"] is True
        lines = [line for line in ended.err.splitlines() if line.startswith("{")]
        entries = [json.loads(line) for line in lines]
        events = [entry["event"] for entry in entries]
        assert events[0] == "call started"
        assert events[-1] == "call finished"
        assert "attempt failed" in events
        assert {"time", "level", "logger", "call_id"} <= entries[0].keys()
        logged = "\n".join(lines)
        for secret in ("private task", "secret system", MARK, "key-of-the-tests"):
            assert secret not in logged

    def test_text_log_has_fields(self, process: Process) -> None:
        ended = process("--log-level", "info", "run", "agent", "alpha", "-t", "x")
        assert " info    claude_force.calls: call finished " in ended.err
        assert " agent=alpha " in ended.err

    def test_nothing_is_logged_unasked(self, process: Process) -> None:
        assert len(process("run", "agent", "alpha", "-t", "x").err.splitlines()) == 1

    def test_on_a_terminal_an_answer_that_breaks_off_is_marked(
        self, spawn: Spawn, simulator: SimulatorThread
    ) -> None:
        simulator.queue_fault(Fault(kind=FaultKind.CUT, after_bytes=1_200))
        ours, theirs = pty.openpty()
        running = spawn("run", "agent", "alpha", "-t", "x", stdout=theirs)
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65_536):
                shown += part
        except OSError:
            # Linux says so when the other end is closed.
            pass
        finally:
            os.close(ours)
        assert running.wait(timeout=60) == 0
        assert b"[the answer broke off here and is void; it starts again below]" in shown
        assert b"\x1b" not in shown


def test_slow_scenario_prints_text_while_it_comes(spawn: Spawn, simulator: SimulatorThread) -> None:
    simulator.use_scenario(
        Scenario(
            latency=Latency(
                distribution="fixed", first_event_median_seconds=0, output_tokens_per_second=40
            ),
            chunk_tokens=4,
        )
    )
    running = spawn("run", "agent", "alpha", "-t", "x")
    assert running.stdout is not None
    parts = 0
    while os.read(running.stdout.fileno(), 65_536):
        parts += 1
    assert parts >= 5
    assert running.wait(timeout=60) == 0
