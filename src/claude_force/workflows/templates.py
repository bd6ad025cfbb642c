"""Templates of tasks and expressions of conditions: Jinja in its sandbox, with strict undefined.

Names that a template sees: ``task`` (of the run), ``steps.ID`` (``.ok``, ``.state``, and of a step that answered ``.text``
and ``.data``), in a step that fans out ``item`` and ``item_index`` (from 0), in a loop ``round`` (from 1) and from the
second round on ``previous`` (``.text``, ``.data``). ``repeat_until`` sees ``answer`` as well. What is rendered stands in
the task of a request, never in its system text.
"""
# ruff: noqa: PLC0415 - Jinja is imported by the first template: most workflows have none, and start-up time

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from claude_force.domain.errors import WorkflowDefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jinja2 import nodes
    from jinja2.sandbox import SandboxedEnvironment

# A rendered task is bounded by what a request may hold; a template that is larger is a mistake.
MAX_TEMPLATE_CHARACTERS: Final = 100_000

_SIGNS: Final = (
    ("'end of print statement'", "'}}'"),
    ("'end of statement block'", "'%}'"),
    ("unexpected end of template", "it ends too early"),
    ("unexpected 'end of template'", "it ends too early"),
    ("Unexpected end of template", "it ends too early"),
)
_MARKS: Final = ("{{", "{%", "{#")


@dataclass(frozen=True, slots=True)
class References:
    """What a template or an expression uses."""

    # Names at its top level.
    names: frozenset[str]
    # Ids of steps that are named outright; a computed one is not among them.
    steps: frozenset[str]
    # Those of them whose ``data`` is used.
    data: frozenset[str] = frozenset()


class Names:
    """Values by name for a template: ``names.a`` and ``names["a"]`` alike, and nothing else of the object.

    Put in as it is, an answer stands for its text, and a file for its path.
    """

    __slots__ = ("_values", "_what")

    def __init__(self, values: Mapping[str, object], what: str) -> None:
        self._values = values
        # In the words of an error.
        self._what = what

    def __getattr__(self, name: str) -> object:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, name: str) -> object:
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __str__(self) -> str:
        for name in ("text", "path"):
            if name in self._values:
                return str(self._values[name])
        raise LookupError(self.without("text"))

    def without(self, name: str) -> str:
        """Says that nothing here is called so."""
        return f"{self._what} has no {name!r}; it has: {', '.join(self._values) or 'nothing'}"


def is_template(text: str) -> bool:
    """Whether ``text`` has anything to be replaced."""
    return any(mark in text for mark in _MARKS)


def render(template: str, names: Mapping[str, object]) -> str:
    """The text of a template.

    Raises:
        WorkflowDefinitionError: it uses what is not there, or fails.
    """
    return str(_evaluated(template, lambda: _compiled(template).render(names)))


def holds(expression: str, names: Mapping[str, object]) -> bool:
    """Whether an expression is true.

    Raises:
        WorkflowDefinitionError: it uses what is not there, or fails.
    """

    def evaluate() -> bool:
        from jinja2 import Undefined

        value = _expression(expression)(**names)
        if isinstance(value, Undefined):
            # Asking a strict undefined for its truth is an error that names it.
            return bool(value)
        return bool(value)

    return bool(_evaluated(expression, evaluate))


def template_references(template: str) -> References:
    """What a template uses.

    Raises:
        WorkflowDefinitionError: it is no template; the message says why, and in which line.
    """
    return _references(template, lambda: _environment().parse(template))


def expression_references(expression: str) -> References:
    """What an expression uses.

    Raises:
        WorkflowDefinitionError: it is no expression; the message says why.
    """
    if expression.lstrip().startswith(("{{", "{%")):
        raise WorkflowDefinitionError(
            "it is an expression, so it stands without '{{' and '}}', such as: 'yes' in steps.ID.text"
        )
    return _references(expression, lambda: _parsed_expression(expression))


def _references(source: str, parse: Callable[[], nodes.Template]) -> References:
    from jinja2 import TemplateSyntaxError
    from jinja2.meta import find_undeclared_variables

    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise WorkflowDefinitionError(
            f"{len(source):,} characters, at most {MAX_TEMPLATE_CHARACTERS:,}"
        )
    try:
        tree = parse()
        names = find_undeclared_variables(tree)
    except TemplateSyntaxError as error:
        # The line of a file is told by whoever reads it; this one counts within the text.
        where = f" (in line {error.lineno} of it)" if "\n" in source.strip() else ""
        raise WorkflowDefinitionError(f"{_explained(error.message or '')}{where}") from error
    except RecursionError as error:
        raise WorkflowDefinitionError("it is nested too deeply") from error
    return References(frozenset(names), frozenset(_steps_in(tree)), frozenset(_data_in(tree)))


def _explained(message: str) -> str:
    """What Jinja says, in the signs that stand in a template rather than in the words of its parser."""
    for word, sign in _SIGNS:
        message = message.replace(word, sign)
    return message.rstrip(".")


def _steps_in(tree: nodes.Template) -> Iterator[str]:
    from jinja2 import nodes

    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        if (step_id := _step_of(node)) is not None:
            yield step_id


def _data_in(tree: nodes.Template) -> Iterator[str]:
    """Steps of which `steps.ID.data` is used."""
    from jinja2 import nodes

    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        assert isinstance(node, nodes.Getattr | nodes.Getitem)  # noqa: S101 - what was looked for
        if _key_of(node) == "data" and (step_id := _step_of(node.node)) is not None:
            yield step_id


def _step_of(node: nodes.Node) -> str | None:
    """The id in `steps.ID` or `steps["ID"]`."""
    from jinja2 import nodes

    if not isinstance(node, nodes.Getattr | nodes.Getitem):
        return None
    of_steps = isinstance(node.node, nodes.Name) and node.node.name == "steps"
    return _key_of(node) if of_steps else None


def _key_of(node: nodes.Node) -> str | None:
    from jinja2 import nodes

    if isinstance(node, nodes.Getattr):
        return node.attr
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return str(node.arg.value)
    return None


def _parsed_expression(expression: str) -> nodes.Template:
    from jinja2 import nodes
    from jinja2.parser import Parser

    parser = Parser(_environment(), expression, state="variable")
    parsed = parser.parse_expression()
    if not parser.stream.eos:
        parser.fail(f"{parser.stream.current.value!r} was not expected here")
    tree = nodes.Template([nodes.Output([parsed], lineno=1)], lineno=1)
    tree.set_environment(_environment())
    return tree


def _evaluated(source: str, evaluate: Callable[[], object]) -> object:
    from jinja2 import TemplateError

    try:
        return evaluate()
    except TemplateError as error:
        raise WorkflowDefinitionError(f"{source[:80]!r}: {error.message}") from error
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        # What a filter or an operator says of a value that it cannot work with.
        raise WorkflowDefinitionError(f"{source[:80]!r}: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise WorkflowDefinitionError(f"{source[:80]!r}: it is too large") from error


@lru_cache(maxsize=1)
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined, TemplateRuntimeError, UndefinedError
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import missing

    class Missing(StrictUndefined):
        """Names what is not there in words of ours."""

        def __init__(
            self,
            hint: str | None = None,
            obj: object = missing,
            name: str | None = None,
            exc: type[TemplateRuntimeError] = UndefinedError,
        ) -> None:
            if hint is None and name is not None and isinstance(obj, Names):
                hint = obj.without(name)
            super().__init__(hint, obj, name, exc)

    environment = ImmutableSandboxedEnvironment(
        undefined=Missing,
        # A task is text for a model, not for a browser.
        autoescape=False,
        keep_trailing_newline=True,
        finalize=_as_put_in,
    )
    environment.globals = {"range": environment.globals["range"]}
    return environment


def _as_put_in(value: object) -> object:
    """What stands in the text for a value: lists and objects are JSON, as they came."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


@lru_cache(maxsize=1024)
def _compiled(template: str) -> Any:  # noqa: ANN401 - jinja2.Template, which is imported late
    return _environment().from_string(template)


@lru_cache(maxsize=1024)
def _expression(expression: str) -> Any:  # noqa: ANN401 - jinja2's TemplateExpression, as above
    return _environment().compile_expression(expression, undefined_to_none=False)
