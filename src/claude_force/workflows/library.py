"""Finds workflows by name: those of claude.json, and those in files of the folder ``workflows`` beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import WorkflowDefinitionError
from claude_force.workflows.definition import Workflow
from claude_force.workflows.documents import SUFFIXES, read_document
from claude_force.workflows.reading import check_workflow, parse_workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    AgentProblem: TypeAlias = Callable[[str], str | None]

# What a definition that is given in place of a name is called.
UNNAMED: Final = "workflow"

_AT_PLACE: Final = re.compile(r"steps\[\d+\][^:\s]*|[a-z_]+(?=:)")
_AT_STEP: Final = re.compile(
    r"(?:step '(?P<step_id>[^']*)'(?:: (?P<field>[a-z_]+)(?=:))?|the steps wait for each other: (?P<first>.*?) -> )"
)


@dataclass(frozen=True, slots=True)
class WorkflowPlace:
    """Where a workflow is written."""

    name: str
    # A file of its own; None for one of claude.json.
    file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowLibrary:
    """The workflows that can be run by name. Files are looked at anew each time."""

    # Definitions of claude.json by name.
    registered: Mapping[str, object] = field(default_factory=dict)
    # That claude.json; None where there is none.
    config_path: Path | None = None
    # Holds workflow files; it need not exist, and no file may lead out of the folder that it stands in.
    folder: Path | None = None
    # Where the path of a file begins that is given in place of a name.
    root: Path = Path()

    def places(self) -> dict[str, tuple[WorkflowPlace, ...]]:
        """Every name in alphabetical order, with all places that it is written in; more than one is a problem."""
        found = {name: [WorkflowPlace(name)] for name in self.registered}
        for file in _files(self.folder):
            found.setdefault(file.stem, []).append(WorkflowPlace(file.stem, file))
        return {name: tuple(found[name]) for name in sorted(found)}

    def load(
        self,
        workflow: str | Workflow | Mapping[str, object] | Sequence[str],
        agent_problem: AgentProblem | None,
    ) -> Workflow:
        """The checked workflow.

        Args:
            workflow: a name, the path of a file (it has a slash, or ends as a definition does), a definition, or a
                workflow that is already parsed.
            agent_problem: says what is wrong with an agent's name, or None.

        Raises:
            WorkflowDefinitionError: no workflow is called that, two are, or it cannot run.
        """
        if isinstance(workflow, Workflow):
            check_workflow(workflow, agent_problem=agent_problem)
            return workflow
        if isinstance(workflow, str):
            return self._load_name(workflow, agent_problem)
        if isinstance(workflow, Mapping):
            name = str(workflow.get("name", UNNAMED))
            return parse_workflow(name, dict(workflow), agent_problem=agent_problem)
        return parse_workflow(UNNAMED, list(workflow), agent_problem=agent_problem)

    def shown(self, place: WorkflowPlace) -> str:
        """Where that is, in words."""
        return str(place.file or self.config_path or "claude.json")

    def _load_name(self, name: str, agent_problem: AgentProblem | None) -> Workflow:
        # A run of a workflow in claude.json looks for no files but for one of its own name.
        files = [self.folder / f"{name}{suffix}" for suffix in SUFFIXES] if self.folder else []
        if name in self.registered and not any(os.path.lexists(file) for file in files):
            return parse_workflow(name, self.registered[name], agent_problem=agent_problem)
        places = self.places()
        if name not in places and looks_like_path(name):
            return load_file(self.root / name, agent_problem)
        if name not in places:
            raise WorkflowDefinitionError(_unknown(name, places))
        first, *others = places[name]
        if others or first.file is None:
            where = " and in ".join(self.shown(place) for place in places[name])
            problem = f"it stands in {where}; rename or remove all but one"
            raise WorkflowDefinitionError(
                f"The workflow {name!r} is ambiguous: {problem}.", [problem]
            )
        return load_file(first.file, agent_problem, inside=first.file.parent.parent)


def load_workflow(
    workflow: str | Workflow | Mapping[str, object] | Sequence[str],
    known: Mapping[str, object],
    agent_problem: AgentProblem,
) -> Workflow:
    """`WorkflowLibrary.load` over the definitions ``known`` alone."""
    return WorkflowLibrary(registered=known).load(workflow, agent_problem)


def load_file(
    file: Path, agent_problem: AgentProblem | None = None, *, inside: Path | None = None
) -> Workflow:
    """The checked workflow of a YAML or JSON file; it is called as the file is, without the ending.

    Raises:
        WorkflowDefinitionError: the file cannot be read, or the workflow cannot run; every problem names its line
            where the file is YAML.
    """
    document = read_document(file, inside=inside)
    try:
        return parse_workflow(file.stem, document.value, agent_problem=agent_problem)
    except WorkflowDefinitionError as error:
        problems = _with_lines(error.problems, document.lines, _ids(document.value))
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise WorkflowDefinitionError(
            f"The workflow {file.stem!r} in {str(file)!r} cannot run:\n{listed}", problems
        ) from error


def looks_like_path(name: str) -> bool:
    """Whether a name is meant as the path of a file."""
    return name.endswith(SUFFIXES) or "/" in name or os.sep in name


def _files(folder: Path | None) -> list[Path]:
    """The definitions in ``folder``, sorted; none where it is missing or may not be looked into."""
    if folder is None:
        return []
    try:
        return sorted(
            path for path in folder.iterdir() if path.suffix in SUFFIXES and path.name[0] != "."
        )
    except OSError:
        return []


def _ids(definition: object) -> dict[str, str]:
    """The place of each step by its id."""
    steps = definition.get("steps") if isinstance(definition, dict) else None
    return {
        str(step.get("id") or step.get("agent")): f"steps[{position}]"
        for position, step in enumerate(steps if isinstance(steps, list) else ())
        if isinstance(step, dict)
    }


def _with_lines(
    problems: Iterable[str], lines: Mapping[str, int], ids: Mapping[str, str]
) -> list[str]:
    """Each problem behind its line, in the order of the lines; those without one come first."""
    placed = [(_line(problem, lines, ids) or 0, problem) for problem in problems]
    placed.sort(key=lambda one: one[0])
    return [f"line {line}: {problem}" if line else problem for line, problem in placed]


def _line(problem: str, lines: Mapping[str, int], ids: Mapping[str, str]) -> int | None:
    """The line that a problem speaks of: of its place, or of the nearest part of the file around it."""
    at_step = _AT_STEP.match(problem)
    at_place = _AT_PLACE.match(problem)
    place = at_place.group() if at_place else ""
    if at_step:
        place = f"{ids.get(at_step['step_id'] or at_step['first'], '')}.{at_step['field'] or ''}"
    while place and place not in lines:
        place = place[: max(place.rfind("."), place.rfind("["), 0)]
    return lines.get(place)


def _unknown(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    names = list(known)
    if not names:
        return (
            f"Workflow {name!r} not found: claude.json has no workflows, and .claude/workflows no files. "
            "`claude-force init` writes some."
        )
    near = get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Workflow {name!r} not found.{hint} There are: {', '.join(names)}."
