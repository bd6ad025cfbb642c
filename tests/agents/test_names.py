from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.agents.names import check_agent_name, is_agent_name
from claude_force.domain.errors import InvalidAgentNameError

ALLOWED = set(string.ascii_letters + string.digits + "-_.")


@pytest.mark.parametrize(
    "name", ["a", "code-reviewer", "dotnet-framework-4.8-expert", "A_b-9", "_x", "a-", "x" * 128]
)
def test_good_name_passes_unchanged(name: str) -> None:
    assert check_agent_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "a\n", "\na", "..", "a..b", ".a", "a.", "-a", "a;b", "a'b", 'a"b', "a:b", "a/b", "../a", "a b", "é", "a\0",
        "x" * 129, "a\u200b", "\u0661",
    ],
)  # fmt: skip
def test_bad_name_is_refused_with_its_value(name: str) -> None:
    with pytest.raises(InvalidAgentNameError, match="Invalid agent name") as caught:
        check_agent_name(name)
    assert repr(name)[:30].rstrip("'\"") in str(caught.value)


def test_very_long_name_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidAgentNameError, match=r"100,000 characters") as caught:
        check_agent_name("x" * 100_000)
    assert len(str(caught.value)) < 400


@given(st.text(alphabet=st.sampled_from("aZ9-_./:\n ;'é"), max_size=12))
def test_a_name_holds_only_allowed_characters_and_is_safe_as_a_file_stem(name: str) -> None:
    if is_agent_name(name):
        assert set(name) <= ALLOWED
        assert ".." not in name
        assert name[0] not in "-."
        assert name[-1] != "."
    else:
        with pytest.raises(InvalidAgentNameError):
            check_agent_name(name)


@given(st.from_regex(r"\A[a-zA-Z0-9_][a-zA-Z0-9_-]{0,20}(\.[a-zA-Z0-9_-]{1,20}){0,3}\Z"))
def test_words_joined_by_single_dots_are_names(name: str) -> None:
    assert is_agent_name(name)
