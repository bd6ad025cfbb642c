from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from claude_force.domain.errors import WorkflowDefinitionError
from claude_force.workflows.documents import MAX_DEFINITION_BYTES, read_document
from claude_force.workflows.library import WorkflowLibrary, load_file

if TYPE_CHECKING:
    from pathlib import Path

REVIEW = """\
description: Two looks
steps:
  - id: code
    agent: reviewer
    task: |
      Look for faults.
  - id: page
    agent: writer
    needs: [code]
"""


def library(tmp_path: Path, **registered: object) -> WorkflowLibrary:
    folder = tmp_path / ".claude" / "workflows"
    folder.mkdir(parents=True, exist_ok=True)
    return WorkflowLibrary(
        registered=registered,
        config_path=tmp_path / ".claude" / "claude.json",
        folder=folder,
        root=tmp_path,
    )


def write(tmp_path: Path, name: str, text: str) -> Path:
    file = tmp_path / ".claude" / "workflows" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def problems_of(file: Path) -> list[str]:
    with pytest.raises(WorkflowDefinitionError) as caught:
        load_file(file)
    assert str(file) in str(caught.value)
    return list(caught.value.problems)


def test_yaml_and_json_files_say_the_same(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", REVIEW)
    write(
        tmp_path,
        "b.json",
        '{"description": "Two looks", "steps": ['
        '{"id": "code", "agent": "reviewer", "task": "Look for faults.\\n"},'
        '{"id": "page", "agent": "writer", "needs": ["code"]}]}',
    )
    here = library(tmp_path)
    first, second = here.load("a", None), here.load("b", None)
    assert (first.name, first.description, first.steps) == ("a", "Two looks", second.steps)
    assert first.final_steps == ("page",)


def test_names_come_from_claude_json_and_from_files(tmp_path: Path) -> None:
    write(tmp_path, "deep.yml", REVIEW)
    write(tmp_path, ".hidden.yaml", REVIEW)
    write(tmp_path, "notes.txt", "no workflow")
    places = library(tmp_path, chain=["reviewer", "writer"]).places()
    assert list(places) == ["chain", "deep"]
    assert places["chain"][0].file is None
    assert places["deep"][0].file == tmp_path / ".claude" / "workflows" / "deep.yml"


@pytest.mark.parametrize("other", ["review.yml", "review.json"])
def test_name_in_two_places_names_both(tmp_path: Path, other: str) -> None:
    file = write(tmp_path, other, "steps: []" if other.endswith("yml") else "{}")
    with pytest.raises(WorkflowDefinitionError) as caught:
        library(tmp_path, review=["reviewer"]).load("review", None)
    config = tmp_path / ".claude" / "claude.json"
    assert str(caught.value) == (
        f"The workflow 'review' is ambiguous: it stands in {config} and in {file}; "
        "rename or remove all but one."
    )


def test_name_in_two_files_is_a_problem_that_spares_the_others(tmp_path: Path) -> None:
    write(tmp_path, "review.yml", REVIEW)
    write(tmp_path, "review.yaml", REVIEW)
    here = library(tmp_path, chain=["reviewer"])
    with pytest.raises(WorkflowDefinitionError, match=r"review\.yaml and in .*review\.yml"):
        here.load("review", None)
    assert here.load("chain", None).name == "chain"


def test_path_is_taken_in_place_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(REVIEW)
    here = library(tmp_path)
    assert here.load("./mine.yaml", None).name == "mine"
    assert here.load("mine.yaml", None).name == "mine"
    assert here.load(str(tmp_path / "mine.yaml"), None).name == "mine"
    with pytest.raises(WorkflowDefinitionError, match=r"other\.yaml.* No such file"):
        here.load("./other.yaml", None)


def test_unknown_name_gets_the_nearest_of_all_places(tmp_path: Path) -> None:
    write(tmp_path, "document.yaml", REVIEW)
    with pytest.raises(WorkflowDefinitionError) as caught:
        library(tmp_path, review=["reviewer"]).load("documnt", None)
    assert str(caught.value) == (
        "Workflow 'documnt' not found. Did you mean 'document'? There are: document, review."
    )


def test_every_problem_of_a_yaml_file_names_its_line(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "wrong.yaml",
        "description: 5\n"
        "steps:\n"
        "  - id: a\n"
        "    agent: reviewer\n"
        "    max_tokens: many\n"
        "  - agent: writer\n"
        "    id: b\n"
        "    needs: [c]\n"
        "    colour: red\n",
    )
    lines = [problem.split(":")[0] for problem in problems_of(file)]
    assert lines == ["line 1", "line 5", "line 6", "line 9"]


def test_cycle_in_a_file_is_shown_as_its_path(tmp_path: Path) -> None:
    text = "steps:\n  - {id: a, agent: x, needs: [b]}\n  - {id: b, agent: x, needs: [a]}\n"
    (problem,) = problems_of(write(tmp_path, "loop.yaml", text))
    assert problem == "line 2: the steps wait for each other: a -> b -> a"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        ("steps:\n- [a\nb: c\n", "line 3: while parsing a flow sequence, "),
        ("a: &x [1]\nb: *x\n", "line 2: anchors and aliases (`&`, `*`) are not accepted"),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands there twice"),
        ("steps:\n  - id: a\n    id: b\n", "line 3: the key 'id' stands there twice"),
        ("x:\n  - 2026-11-22\n", "line 2: x[0]: 2026-11-22 is read as a date; put it in quotes"),
        ("on: 1\n", "the key True is no text; put it in quotes"),
        ("x: .inf\n", "line 1: x: inf is read as a float"),
        ("x: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
        ("x: !!int x\n", "a value cannot be read"),
        ("<<: {a: 1}\n", "line 1: merge keys (`<<`) are not accepted"),
        ("[" * 40 + "]" * 40, "line 1: nested deeper than 32 levels"),
        ("- reviewer\n--- \n- writer\n", "expected a single document"),
    ],
)
def test_yaml_that_is_not_accepted_is_refused_with_its_line(
    tmp_path: Path, text: str, problem: str
) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(WorkflowDefinitionError) as caught:
        read_document(file)
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"The workflow file {str(file)!r} cannot be read: ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1,\n "b": }', "line 2: it is not valid JSON"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice in one object"),
        ('{"a": NaN}', "NaN is no JSON"),
        ("[" * 40 + "]" * 40, "nested deeper than 32 levels"),
        ("[" * 100_000 + "]" * 100_000, "it is not JSON that is accepted"),
    ],
)
def test_json_that_is_not_accepted_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(WorkflowDefinitionError) as caught:
        read_document(file)
    assert problem in str(caught.value)


def test_file_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text(REVIEW)
    project = tmp_path / "project"
    here = library(project)
    (project / ".claude" / "workflows" / "spy.yaml").symlink_to(outside)
    with pytest.raises(WorkflowDefinitionError, match="it is a link that leads out of"):
        here.load("spy", None)
    inside = write(project, "real.yaml", REVIEW)
    inside.with_name("link.yaml").symlink_to(inside)
    assert here.load("link", None).name == "link"


def test_file_that_is_none_or_too_large_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "large.yaml").write_text("#" * (MAX_DEFINITION_BYTES + 1))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "x.toml").write_text("steps = []")
    for name, problem in (
        ("pipe.yaml", "it is not a regular file"),
        ("folder.yaml", "Is a directory"),
        ("large.yaml", "it is larger than 4,000,000 bytes"),
        ("binary.yaml", "it is not UTF-8 text"),
        ("x.toml", r"its name ends in none of \.yaml, \.yml, \.json"),
    ):
        with pytest.raises(WorkflowDefinitionError, match=problem):
            read_document(tmp_path / name)
