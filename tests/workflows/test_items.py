from __future__ import annotations

import pytest

from claude_force.domain.errors import ItemsError
from claude_force.workflows.items import MapItem, parse_items


def problems_of(*lines: str) -> list[str]:
    with pytest.raises(ItemsError) as caught:
        parse_items(lines)
    head, *problems = str(caught.value).split("\n")
    assert head == "The items cannot be used; nothing was sent:"
    return [problem.strip() for problem in problems]


def test_every_key_of_an_item_is_read() -> None:
    line = '{"task": "Look", "id": "first", "agent": "alpha", "files": ["src", "*.md"]}'
    assert parse_items([line]) == [
        MapItem(line=1, task="Look", item_id="first", agent_name="alpha", files=("src", "*.md"))
    ]


def test_item_without_an_id_is_called_by_its_line_and_empty_lines_count() -> None:
    items = parse_items(["", '{"task": "a"}', "   ", '{"task": "b", "id": 9}\r', ""])
    assert [(item.line, item.item_id) for item in items] == [(2, 2), (4, 9)]


def test_every_bad_line_is_reported() -> None:
    found = problems_of(
        '{"task": "good"}',
        "{nonsense",
        "[1]",
        '{"tsak": "x"}',
        '{"task": 5, "id": true, "agent": 1, "files": "src"}',
        '{"task": "x", "id": "same"}',
        '{"task": "x", "id": "same"}',
        '{"task": "x", "id": 1}',
    )
    assert found == [
        "line 2: not valid JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
        "line 3: expected an object, found list",
        "line 4: nothing reads the key 'tsak'",
        'line 4: "task" has to be text',
        'line 5: "task" has to be text',
        'line 5: "id" has to be text or a whole number',
        'line 5: "agent" has to be the name of an agent',
        'line 5: "files" has to be a list of paths',
        "line 7: the id 'same' stands in line 6 already",
        "line 8: the id 1 stands in line 1 already",
    ]


def test_deeply_nested_line_is_a_problem_and_no_crash() -> None:
    (problem,) = problems_of("[" * 200_000)
    assert problem.startswith("line 1: not valid JSON")


def test_long_list_of_problems_is_cut_and_counted() -> None:
    found = problems_of(*["x"] * 50)
    assert len(found) == 21
    assert found[-1] == "… and 30 more"


@pytest.mark.parametrize("lines", [[], ["", "  "]])
def test_no_items_are_an_error_that_shows_one(lines: list[str]) -> None:
    with pytest.raises(ItemsError) as caught:
        parse_items(lines)
    assert str(caught.value) == (
        'There are no items. A line is a JSON object such as {"task": "Review this"}.'
    )
