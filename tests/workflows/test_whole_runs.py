"""What the fields of a step mean, in whole runs through the public API."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import (
    AnswerSchemaError,
    AsyncAgentOrchestrator,
    Attachment,
    CallError,
    IncompleteAnswerError,
    InvalidRequestError,
    MessageRequest,
    MessageResponse,
    ServiceError,
    Usage,
    WorkflowDefinitionError,
    WorkflowResult,
    parse_workflow,
)
from claude_force.testing import ScriptedClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Project

    from claude_force.domain.events import EventListener

LIST = {"type": "object", "properties": {"names": {"type": "array"}}, "required": ["names"]}


class Rule(ScriptedClient):
    """Answers every request by a rule: from the text of its user message and how often it was asked before."""

    def __init__(self, rule: Callable[[str, int], str | CallError]) -> None:
        super().__init__()
        self._rule = rule
        self._asked: dict[str, int] = {}

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        text = asked(request)
        count = self._asked[text] = self._asked.get(text, -1) + 1
        self._script.append(self._rule(text, count))
        return await super().send(request, on_event)

    @property
    def texts(self) -> list[str]:
        return [asked(request) for request in self.requests]


def asked(request: MessageRequest) -> str:
    return "".join(block.text for message in request.messages for block in message.content)


def echo(text: str, _: int) -> str:
    # The last line closes the block of the task.
    return f"<{text.strip().splitlines()[-2]}>"


def run(
    steps: Any, rule: Callable[[str, int], str | CallError] = echo, task: str = "", **options: Any
) -> tuple[WorkflowResult, Rule]:
    client = Rule(rule)

    async def main() -> WorkflowResult:
        async with AsyncAgentOrchestrator(client=client, max_retries=0) as force:
            return await force.execute_workflow({"steps": steps}, task, **options)

    return asyncio.run(main()), client


@pytest.fixture(autouse=True)
def _in_a_project(project: Project) -> None:
    """Agents alpha, beta and gamma."""


def step(step_id: str, task: str, *needs: str, **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "agent": "alpha", "task": task, "needs": list(needs), **fields}


class TestTemplates:
    def test_a_task_is_rendered_with_the_answers_that_it_names(self) -> None:
        result, client = run(
            [
                step("one", "say 1"),
                step("two", "of {{ steps.one.text | upper }} and {{ task }}", "one"),
            ],
            task="the rest",
        )
        assert result.ok
        # The answer stands where the template puts it, and nowhere else.
        assert "of <THE REST> and the rest" in client.texts[1]
        assert "<the rest>" not in client.texts[1]

    def test_lists_and_objects_are_put_in_as_json_and_answers_as_their_texts(self) -> None:
        result, _ = run(
            [
                step("one", "Name them.", output_schema=LIST),
                step("each", "{{ item }}", for_each=[{"b": [True, None, "ä"]}, ["c"], "d"]),
                step("all", "{{ steps.one }} and {{ steps.one.data.names }}", "one", "each"),
                step("files", "{{ item }}", for_each="files"),
                step("nothing", "{{ steps }}", "one"),
            ],
            lambda text, count: '{"names": ["x"]}' if "Name them." in text else echo(text, count),
            files=(Attachment(name="src/a.py", text="x"),),
        )
        assert result.steps["each"].text == json.dumps(
            ['<{"b": [true, null, "ä"]}>', '<["c"]>', "<d>"], ensure_ascii=False
        )
        assert result.results["all"] == '<{"names": ["x"]} and ["x"]>'
        assert result.results["files"] == '["<src/a.py>"]'
        assert "the run so far has no 'text'; it has: one" in str(result.steps["nothing"].error)

    def test_an_answer_that_is_a_template_is_text(self) -> None:
        _, client = run(
            [step("one", "say"), step("two", "of {{ steps.one.text }}", "one")],
            lambda text, _: "{{ 7 * 7 }}{% for x in y %}" if "say" in text else "done",
        )
        assert "of {{ 7 * 7 }}{% for x in y %}" in client.texts[1]

    @pytest.mark.parametrize(
        "template",
        [
            "{{ ''.__class__ }}",
            "{{ task.__class__.__mro__ }}",
            "{{ steps.one.__init__.__globals__ }}",
            "{{ steps['one'].__dict__ }}",
            "{{ (task|attr('__class__')) }}",
        ],
    )
    def test_a_template_reaches_nothing_but_its_values(self, template: str) -> None:
        result, client = run([step("one", "say"), step("two", template, "one")], task="x")
        assert result.steps["two"].state == "failed"
        assert isinstance(result.steps["two"].error, WorkflowDefinitionError)
        assert len(client.requests) == 1

    def test_a_huge_loop_in_a_template_fails_its_step_alone(self) -> None:
        result, _ = run(
            [step("one", "{% for i in range(10**9) %}x{% endfor %}"), step("two", "say")]
        )
        assert result.steps["one"].state == "failed"
        assert result.steps["two"].state == "succeeded"


class TestConditions:
    STEPS = (
        step("one", "decide"),
        step("yes", "then", "one", when="'go' in steps.one.text"),
        step("no", "else", "one", when="'go' not in steps.one.text"),
        step("after-no", "later", "no"),
        step("merge", "both", "yes", "no", on_error="continue"),
    )

    def test_a_step_runs_where_its_condition_holds_and_skips_spread(self) -> None:
        result, _ = run(list(self.STEPS), lambda text, _: "go" if "decide" in text else "done")
        states = {name: one.state for name, one in result.steps.items()}
        assert states == {
            "one": "succeeded",
            "yes": "succeeded",
            "no": "skipped",
            "after-no": "skipped",
            "merge": "succeeded",
        }
        assert result.ok
        assert result.steps["no"].reason == (
            "its condition does not hold: 'go' not in steps.one.text"
        )

    def test_a_condition_over_data_sees_json(self) -> None:
        result, _ = run(
            [
                step("one", "list", output_schema=LIST),
                step("two", "more", "one", when="steps.one.data.names | length > 1"),
            ],
            lambda text, _: '{"names": ["a", "b"]}' if "list" in text else "done",
        )
        assert result.steps["two"].state == "succeeded"

    def test_a_condition_over_what_is_not_there_fails_its_step(self) -> None:
        result, _ = run([step("one", "x"), step("two", "y", "one", when="steps.one.txt")])
        assert result.steps["two"].state == "failed"
        assert str(result.steps["two"].error) == (
            "'steps.one.txt': step 'one', which succeeded, has no 'txt'; it has: ok, state, text, data"
        )

    def test_what_may_not_be_there_can_be_asked_for(self) -> None:
        result, _ = run(
            [
                step("one", "x", when="false"),
                step(
                    "two",
                    "{{ steps.one.text if steps.one.text is defined else 'none' }}",
                    "one",
                    on_error="continue",
                ),
            ]
        )
        assert result.results["two"] == "<none>"


class TestFanOut:
    def test_each_item_is_asked_once_and_the_answers_are_in_order(self) -> None:
        result, client = run([step("each", "look at {{ item }}", for_each=["a", 2, {"b": 3}])])
        assert sorted(echo(text, 0) for text in client.texts) == [
            "<look at 2>",
            "<look at a>",
            '<look at {"b": 3}>',
        ]
        assert [item.result.text for item in result.steps["each"].items if item.result] == [
            "<look at a>",
            "<look at 2>",
            '<look at {"b": 3}>',
        ]

    def test_items_come_from_an_upstream_list(self) -> None:
        result, client = run(
            [
                step("names", "list", output_schema=LIST),
                step(
                    "each", "greet {{ item }}", "names", for_each={"step": "names", "key": "names"}
                ),
            ],
            lambda text, _: '{"names": ["ann", "bob"]}' if "list" in text else echo(text, 0),
        )
        assert result.ok
        assert {echo(text, 0) for text in client.texts[1:]} == {"<greet ann>", "<greet bob>"}

    def test_items_come_from_the_lines_of_a_file_of_the_project(self, project: Project) -> None:
        project.write("names.txt", "ann\n\n  bob \n")
        result, client = run([step("each", "greet {{ item }}", for_each={"lines": "names.txt"})])
        assert result.ok
        assert {echo(text, 0) for text in client.texts} == {"<greet ann>", "<greet bob>"}

    def test_a_file_outside_the_project_is_not_read(self, project: Project) -> None:
        (project.home / "secret.txt").write_text("secret")
        result, client = run(
            [step("each", "x {{ item }}", for_each={"lines": "../home/secret.txt"})]
        )
        assert "outside the project" in str(result.steps["each"].error)
        assert client.requests == []

    def test_each_file_of_the_run_goes_to_one_call(self) -> None:
        files = (Attachment(name="a.py", text="aaa = 1"), Attachment(name="b.py", text="bbb = 2"))
        _, client = run([step("each", "look", for_each="files")], files=files)
        assert len(client.requests) == 2
        for text in client.texts:
            assert ("aaa" in text) != ("bbb" in text)

    def test_a_step_without_files_is_given_none(self) -> None:
        files = (Attachment(name="a.py", text="aaa = 1"),)
        _, client = run(
            [step("one", "look"), step("two", "merge", "one", files=False)], files=files
        )
        assert "aaa" in client.texts[0]
        assert "aaa" not in client.texts[1]

    def test_no_item_is_no_call_and_no_failure(self) -> None:
        result, client = run([step("each", "look", for_each=[]), step("after", "then", "each")])
        assert result.ok
        assert result.steps["each"].state == "succeeded"
        assert len(client.requests) == 1

    def test_max_parallel_bounds_the_items_under_way(self) -> None:
        running, most = 0, 0

        class Slow(ScriptedClient):
            async def send(
                self, request: MessageRequest, on_event: EventListener | None = None
            ) -> MessageResponse:
                nonlocal running, most
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.002)
                running -= 1
                return await super().send(request, on_event)

        async def main() -> WorkflowResult:
            async with AsyncAgentOrchestrator(client=Slow(), max_concurrent=50) as force:
                steps = [step("each", "{{ item }}", for_each=list(range(30)), max_parallel=3)]
                return await force.execute_workflow({"steps": steps})

        assert asyncio.run(main()).ok
        assert most == 3

    def test_a_failed_item_fails_the_step_and_keeps_the_others(self) -> None:
        def rule(text: str, _: int) -> str | CallError:
            return ServiceError("it broke", attempts=1) if "item b" in text else "fine"

        result, _ = run(
            [step("each", "item {{ item }}", for_each=["a", "b", "c"]), step("after", "x", "each")],
            rule,
        )
        each = result.steps["each"]
        assert each.state == "failed"
        assert str(each.error) == "1 of 3 items failed; the first is item 2: it broke"
        assert [item.ok for item in each.items] == [True, False, True]
        assert result.steps["after"].state == "skipped"

    def test_a_tolerated_failure_of_an_item_hands_on_the_answers_of_the_others(self) -> None:
        def rule(text: str, _: int) -> str | CallError:
            return ServiceError("it broke", attempts=1) if "item b" in text else echo(text, 0)

        result, client = run(
            [
                step("each", "item {{ item }}", for_each=["a", "b", "c"], on_error="continue"),
                step("merge", "{{ steps.each.text }}", "each"),
                step("again", "again {{ item }}", "each", for_each="steps.each"),
            ],
            rule,
        )
        assert result.ok
        assert result.steps["each"].state == "failed"
        assert result.results["merge"] == '<["<item a>", null, "<item c>"]>'
        assert [item.result.text for item in result.steps["again"].items if item.result] == [
            "<again <item a>>",
            "<again <item c>>",
        ]
        assert len(client.requests) == 6

    def test_a_tolerated_failure_of_every_item_hands_on_nothing(self) -> None:
        result, _ = run(
            [
                step("each", "item {{ item }}", for_each=["a", "b"], on_error="continue"),
                step("after", "go on", "each"),
            ],
            lambda text, _: ServiceError("no", attempts=1) if "item" in text else "fine",
        )
        assert result.results == {"after": "fine"}

    def test_an_answer_that_is_no_list_says_what_to_do(self) -> None:
        result, _ = run([step("one", "say"), step("each", "x", "one", for_each="steps.one")])
        assert "Give that step an output_schema" in str(result.steps["each"].error)


class TestLoops:
    def test_a_step_asks_again_until_its_expression_holds(self) -> None:
        answers = iter(["draft", "better", "READY"])
        result, client = run(
            [step("write", "write it", repeat_until="'READY' in answer.text", max_rounds=5)],
            lambda _text, _count: next(answers),
        )
        assert result.steps["write"].text == "READY"
        assert len(client.requests) == 3
        # Each round is given the answer of the one before.
        assert "draft" in client.texts[1]
        assert "better" in client.texts[2]
        assert "draft" not in client.texts[2]

    def test_a_loop_ends_with_its_last_round(self) -> None:
        result, client = run(
            [step("write", "{{ round }}", repeat_until="false", max_rounds=3)], lambda *_: "no"
        )
        assert result.ok
        assert len(client.requests) == 3
        assert len(result.steps["write"].earlier) == 2

    def test_all_rounds_are_paid(self) -> None:
        result, _ = run(
            [step("write", "again", repeat_until="false", max_rounds=3, model="sonnet")],
            lambda *_: "no",
        )
        one, _ = run([step("write", "again", model="sonnet")], lambda *_: "no")
        assert result.cost_usd is not None
        assert one.cost_usd is not None
        assert result.cost_usd > 2 * one.cost_usd


class TestSchemas:
    def test_an_answer_that_does_not_follow_is_repaired_once(self) -> None:
        result, client = run(
            [step("one", "list", output_schema=LIST)],
            lambda text, _: '{"names": ["a"]}' if "does not follow" in text else '{"nams": []}',
        )
        assert result.ok
        assert result.steps["one"].data == {"names": ["a"]}
        assert "'names' is a required property" in client.texts[1]
        assert '{"nams": []}' in client.texts[1]
        assert len(result.steps["one"].earlier) == 1

    def test_a_second_wrong_answer_is_a_typed_failure(self) -> None:
        result, client = run([step("one", "list", output_schema=LIST)], lambda *_: "no JSON")
        error = result.steps["one"].error
        assert isinstance(error, AnswerSchemaError)
        assert error.text == "no JSON"
        assert error.exit_code == 6
        assert len(client.requests) == 2
        assert result.usage.output_tokens > 0

    def test_json_in_a_code_fence_is_json(self) -> None:
        result, _ = run(
            [step("one", "list", output_schema=LIST)], lambda *_: '```json\n{"names": []}\n```'
        )
        assert result.steps["one"].data == {"names": []}


class TestFailures:
    def test_retries_of_a_step_come_on_top_of_those_of_a_call(self) -> None:
        result, client = run(
            [step("one", "try", retries=2)],
            lambda _, count: "fine" if count == 2 else ServiceError("down", attempts=1),
        )
        assert result.ok
        assert len(client.requests) == 3

    def test_what_would_fail_again_is_not_retried(self) -> None:
        result, client = run(
            [step("one", "{{ task }}", retries=5)],
            lambda *_: InvalidRequestError("too long", attempts=1),
            task="x",
        )
        assert not result.ok
        assert len(client.requests) == 1

    @pytest.mark.parametrize(
        ("on_error", "itself", "after", "whole"),
        [
            ("fail", "failed", "skipped", False),
            ("skip", "skipped", "skipped", True),
            ("continue", "failed", "succeeded", True),
        ],
    )
    def test_on_error_says_what_a_failure_means(
        self, on_error: str, itself: str, after: str, whole: bool
    ) -> None:
        result, _ = run(
            [
                step("one", "break", on_error=on_error),
                step("two", "then", "one"),
                step("alone", "beside"),
            ],
            lambda text, _: ServiceError("down", attempts=1) if "break" in text else "fine",
        )
        assert result.steps["one"].state == itself
        assert result.steps["two"].state == after
        assert result.steps["alone"].state == "succeeded"
        assert result.ok is whole

    def test_an_unfinished_answer_of_a_step_is_a_failure_and_its_cost_counts(self) -> None:
        cut = MessageResponse(
            text="half",
            stop_reason="max_tokens",
            model="claude-sonnet-5-5",
            usage=Usage(input_tokens=5, output_tokens=7),
            message_id="msg_1",
        )

        async def main() -> WorkflowResult:
            client = ScriptedClient([cut])
            async with AsyncAgentOrchestrator(client=client, max_retries=0) as force:
                return await force.execute_workflow(["alpha"], "x")

        result = asyncio.run(main())
        assert isinstance(result.steps["alpha"].error, IncompleteAnswerError)
        assert result.usage.output_tokens == 7


@pytest.mark.parametrize("sequential", [False, True])
def test_one_step_at_a_time_comes_to_the_same(sequential: bool) -> None:
    steps = [
        step("a", "1"),
        step("b", "2 {{ steps.a.text }}", "a"),
        step("c", "3", "a", when="steps.a.ok"),
        step("d", "{{ item }}", "c", for_each=["x", "y"]),
        step("e", "last", "b", "d"),
    ]
    result, client = run(steps, sequential=sequential)
    assert list(result.execution_order) == ["a", "b", "c", "d", "e"]
    assert result.results["b"] == "<2 <1>>"
    assert len(client.requests) == 6


def test_every_field_survives_the_way_to_json_and_back() -> None:
    definition = {
        "name": "all",
        "description": "All of it",
        "timeout_seconds": 60,
        "steps": [
            step("one", "say", output_schema=LIST, retries=2, cache=False, budget_usd="0.50"),
            step("two", "{{ item }}", "one", for_each={"step": "one", "key": "names"}, files=False),
            step("three", "x", "two", when="steps.two.ok", on_error="continue", max_tokens=100),
            step(
                "four", "y", repeat_until="answer.text", max_rounds=2, effort="low", model="haiku"
            ),
            step("five", "z", for_each="files", max_parallel=2, timeout_seconds=5),
            step("six", "z", for_each={"lines": "a.txt"}),
            step("seven", "z", for_each=[1, "a", None, {"b": [True]}]),
        ],
    }
    workflow = parse_workflow("all", definition)
    there_and_back = parse_workflow("all", json.loads(json.dumps(workflow.to_dict())))
    assert there_and_back == workflow
