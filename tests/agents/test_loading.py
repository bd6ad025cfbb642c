from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_force.agents.loading import LoadedAgent, NotAnAgent, read_agent

GOOD = "---\nname: a\ndescription: b\n---\nYou are a."


def load(text: str | bytes) -> LoadedAgent | NotAnAgent:
    data = text.encode() if isinstance(text, str) else text
    return read_agent(data, Path("a.md"), "project")


def agent(text: str) -> LoadedAgent:
    loaded = load(text)
    assert isinstance(loaded, LoadedAgent), loaded
    return loaded


def test_simple_file_is_an_agent() -> None:
    loaded = agent(GOOD)
    definition = loaded.definition
    assert (definition.name, definition.description, definition.prompt) == ("a", "b", "You are a.")
    assert (definition.model, definition.effort, definition.tools) == (None, None, None)
    assert (definition.scope, definition.lenient, loaded.notes) == ("project", False, ())


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("# Read me", "documentation"),
        ("", "documentation"),
        ("---\nname: a\n", "unterminated"),
        ("---\n---\nBody", "no_name"),
        ("---\ndescription: b\n---\nBody", "no_name"),
        ("---\nname:\ndescription: b\n---\nBody", "no_name"),
        ("---\nname: a:b\ndescription: b\n---\nBody", "invalid_name"),
        ("---\nname: -a\ndescription: b\n---\nBody", "invalid_name"),
        ("---\nname: 42\ndescription: b\n---\nBody", "invalid_name"),
        ("---\nname: [a]\ndescription: b\n---\nBody", "invalid_name"),
        ('---\nname: "a\\n"\ndescription: b\n---\nBody', "invalid_name"),
        ("---\nname: a\n---\nBody", "no_description"),
        ("---\nname: a\ndescription: ' '\n---\nBody", "no_description"),
        ("---\nname: a\ndescription: [b]\n---\nBody", "no_description"),
        ("---\nname: a\ndescription: b\n---\n \n", "empty_body"),
        ("---\n[: ]: [\n---\nBody", "bad_yaml"),
        (b"---\nname: \xff\n---\n", "encoding"),
        (b"x" * 1_000_001, "too_large"),
    ],
)
def test_file_that_is_no_agent_says_why(text: str | bytes, kind: str) -> None:
    loaded = load(text)
    assert isinstance(loaded, NotAnAgent)
    assert loaded.kind == kind
    assert loaded.reason
    assert loaded.hint.endswith((".", "`."))


@pytest.mark.parametrize(
    ("written", "tools"),
    [
        ("tools: Read, Agent(a, b), mcp__x__y,", ("Read", "Agent(a, b)", "mcp__x__y")),
        ("tools: [Read, 'Task(x)']", ("Read", "Task(x)")),
        ("tools:\n  - Read\n  - Bash(git log:*)", ("Read", "Bash(git log:*)")),
        ("tools: []", ()),
        ("tools:", None),
        ("tools: 3", None),
    ],
)
def test_tools_are_a_text_or_a_list(written: str, tools: tuple[str, ...] | None) -> None:
    assert agent(GOOD.replace("---\nYou", f"{written}\n---\nYou")).definition.tools == tools


@pytest.mark.parametrize(
    ("written", "model", "effort", "memory"),
    [
        ("model: inherit", None, None, None),
        ("model: opus\neffort: high\nmemory: project", "opus", "high", "project"),
        ("model: claude-opus-4-5-20251101", "claude-opus-4-5-20251101", None, None),
    ],
)
def test_model_effort_and_memory_are_read(
    written: str, model: str | None, effort: str | None, memory: str | None
) -> None:
    definition = agent(GOOD.replace("---\nYou", f"{written}\n---\nYou")).definition
    assert (definition.model, definition.effort, definition.memory) == (model, effort, memory)


@pytest.mark.parametrize(
    ("written", "note"),
    [
        (
            "effort: enormous",
            "`effort` is 'enormous', which is not one of low, medium, high, max, and is left out",
        ),
        (
            "memory: everywhere",
            "`memory` is 'everywhere', which is not one of user, project, local, and is left out",
        ),
        ("model: [a]", "`model` is ['a'], which is not one word, and is left out"),
        ("tools: 3", "`tools` is 3, which is no list of names, and is left out"),
    ],
)
def test_value_that_cannot_be_used_is_told(written: str, note: str) -> None:
    assert agent(GOOD.replace("---\nYou", f"{written}\n---\nYou")).notes == (note,)


def test_colon_and_literal_breaks_are_read(lookalikes: Path) -> None:
    definition = agent((lookalikes / "colon-and-literal-breaks.md").read_text()).definition
    assert definition.lenient
    assert definition.name == "release-notes-writer"
    assert definition.description.splitlines()[1:4] == [
        "",
        "<example>",
        "Context: The branch is ready to be tagged.",
    ]
    assert "\\n" not in definition.description
    assert definition.model == "sonnet"
    assert definition.prompt.startswith("You write release notes")


def test_raw_dialogue_continues_the_description(lookalikes: Path) -> None:
    loaded = agent((lookalikes / "raw-dialogue.md").read_text())
    definition = loaded.definition
    assert definition.description.splitlines()[-2:] == [
        "user: and afterwards?",
        "assistant: It drafts the report.",
    ]
    assert definition.tools == ("Read", "Grep", "Bash(git log:*, git show:*)")
    assert (definition.model, definition.effort) == ("opus", "high")
    assert definition.prompt == (
        "You keep the timeline of an incident.\n\n---\n\nEvery line starts with a time in UTC."
    )
    assert any("`tools` stands there again" in note for note in loaded.notes)


def test_unclosed_quote_is_read_by_the_lenient_rule(lookalikes: Path) -> None:
    definition = agent((lookalikes / "example-block.md").read_text()).definition
    assert (definition.lenient, definition.tools, definition.model) == (
        True,
        ("Read", "Edit"),
        None,
    )
    assert "<example>" in definition.description


def test_late_frontmatter_with_crlf_is_an_agent_and_told(lookalikes: Path) -> None:
    loaded = agent((lookalikes / "late-and-crlf.md").read_text().replace("\n", "\r\n"))
    assert loaded.definition.name == "changelog-keeper"
    assert loaded.definition.lenient
    assert loaded.notes == ("blank lines stand before the frontmatter",)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=120).map(lambda text: f"---\n{text}\n---\nx".encode("utf-8", "replace")),
    )
)
def test_any_bytes_are_an_agent_or_a_reason(data: bytes) -> None:
    loaded = load(data)
    if isinstance(loaded, LoadedAgent):
        assert loaded.definition.name
        assert loaded.definition.prompt
    else:
        assert loaded.reason
