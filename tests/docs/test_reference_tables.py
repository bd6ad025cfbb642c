"""The tables of the docs that restate the code say what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import claude_force
from claude_force.config.fields import FIELDS, Field
from claude_force.domain import errors
from claude_force.domain.errors import ClaudeForceError
from claude_force.domain.partial_failure import PartialFailureError, RunCappedError

DOCS = Path(__file__).parents[2] / "docs"
HEAD = ("| field | kind | default | bounds | meaning |", "|---|---|---|---|---|")
KINDS = {"bool": "true or false", "int": "whole number", "number": "number", "names": "agent names"}
ROW = re.compile(r"^\| `(\w+)` \| (\d+) \| `(\w+)` \|", re.MULTILINE)


def field_row(field: Field) -> str:
    if isinstance(field.default, tuple):
        default = "none"
    elif isinstance(field.default, str):
        default = field.default
    elif isinstance(field.default, bool):
        default = str(field.default).lower()
    else:
        default = f"{field.default:g}"
    numeric = field.kind in {"int", "number"}
    bounds = f"{field.minimum:,} to {field.maximum:,}" if numeric else " or ".join(field.choices)
    cells = (f"`{field.path}`", KINDS.get(field.kind, field.kind), default, bounds, field.meaning)
    return "| " + " | ".join(cells) + " |"


def public_errors() -> dict[str, type[ClaudeForceError]]:
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    return {
        error.__name__: error
        for error in (*found, PartialFailureError, RunCappedError)
        if issubclass(error, ClaudeForceError)
    }


def test_the_table_of_fields_is_that_of_the_code() -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    table = "\n".join((*HEAD, *map(field_row, FIELDS)))
    assert f"config.fields -->\n{table}\n<!-- end of fields -->" in page, f"expected:\n{table}"


def test_the_readme_names_every_extra() -> None:
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    page = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    install = page.split("## Install")[1].split("\n## ")[0]
    extras = project["project"]["optional-dependencies"]
    assert [
        name for name in extras if f"`{name}`" not in install and f"[{name}]" not in install
    ] == []


def test_every_error_has_its_row_with_exit_code_and_kind() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    rows = {name: (int(code), kind) for name, code, kind in ROW.findall(page)}
    assert rows == {name: (error.exit_code, error.kind) for name, error in public_errors().items()}


def test_the_tree_of_errors_is_that_of_the_code() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    tree = page.split("```text\n")[1].split("```")[0].splitlines()
    parents: list[str] = []
    for line in tree:
        name = line.lstrip("│├└─ ")
        depth = (len(line) - len(name)) // 4
        parents[depth:] = [name]
        if depth:
            assert public_errors()[name].__mro__[1].__name__ == parents[depth - 1]
    assert {line.lstrip("│├└─ ") for line in tree} == set(public_errors())


def test_every_error_that_the_package_exports_is_named() -> None:
    exported = {
        name
        for name in claude_force.__all__
        if isinstance(value := getattr(claude_force, name), type)
        and issubclass(value, ClaudeForceError)
    }
    assert exported <= set(public_errors())
