"""The names, defaults and positional order that older code was written for."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from typing import Any

import pytest

import claude_force
from claude_force import AgentOrchestrator, AsyncAgentOrchestrator
from claude_force.workflows.options import WorkflowOptions


def parameters(function: Any) -> list[str]:
    """Parameters as written, without self and annotations; keyword-only ones with a star before them."""
    shown = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
            star = "*" if parameter.kind is parameter.KEYWORD_ONLY else ""
            default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
            shown.append(f"{star}{parameter.name}{default}")
    return shown


ASKING = ["agent_name", "task", "model=None", "max_tokens=4096", "temperature=None"]


@pytest.mark.parametrize("kind", [AsyncAgentOrchestrator, AgentOrchestrator])
def test_constructor_takes_config_path_and_key_by_position(kind: type) -> None:
    found = parameters(kind)
    assert found[:2] == ["config_path=None", "api_key=None"]
    for name in (
        *("base_url", "max_concurrent", "timeout_seconds", "max_retries", "enable_cache"),
        *("cache_ttl_hours", "client", "agents_dir"),
    ):
        assert f"*{name}=None" in found
    assert "*listeners=()" in found


@pytest.mark.parametrize(
    "method",
    [
        AsyncAgentOrchestrator.execute_agent,
        AsyncAgentOrchestrator.run_agent,
        AsyncAgentOrchestrator.stream_agent,
        AgentOrchestrator.execute_agent,
        AgentOrchestrator.run_agent,
        AgentOrchestrator.execute_agent_async,
    ],
)
def test_one_call_is_asked_the_same_way_everywhere(method: Any) -> None:
    assert parameters(method) == ASKING


@pytest.mark.parametrize(
    "method",
    [
        AsyncAgentOrchestrator.execute_workflow,
        AgentOrchestrator.execute_workflow,
        AgentOrchestrator.execute_workflow_async,
    ],
)
def test_a_workflow_is_run_the_same_way_everywhere(method: Any) -> None:
    assert parameters(method) == ["workflow", "task=''"]
    assert {"files", "sequential", "on_event"} <= set(WorkflowOptions.__annotations__)


def test_an_option_that_no_workflow_run_has_is_refused() -> None:
    with AgentOrchestrator() as force, pytest.raises(TypeError, match="'flies'; there are: files"):
        force.execute_workflow("review", flies=())  # type: ignore[call-arg] # the mistake


def test_blocking_and_async_constructors_are_the_same() -> None:
    assert parameters(AgentOrchestrator) == parameters(AsyncAgentOrchestrator)


@pytest.mark.parametrize("name", claude_force.__all__)
def test_every_public_name_can_be_imported_and_is_listed(name: str) -> None:
    assert getattr(claude_force, name) is not None
    assert name in dir(claude_force)


def test_public_names_are_those_of_the_modules_that_define_them() -> None:
    for name, module in claude_force._MODULE_OF.items():
        assert getattr(claude_force, name) is getattr(importlib.import_module(module), name)
        assert name in claude_force.__all__
    assert set(claude_force.__all__) == {*claude_force._MODULE_OF, "__version__"}
    assert claude_force.__all__ == sorted(claude_force.__all__, key=lambda n: (not n.isupper(), n))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        claude_force.Nonsense  # noqa: B018 - the access is the test


def test_import_costs_no_part_of_the_package() -> None:
    code = (
        "import sys, claude_force\n"
        "print(sorted(n for n in sys.modules if n.startswith('claude_force.')))\n"
        "print([n for n in ('asyncio', 'msgspec', 'click', 'yaml', 'anyio', 'rich', 'anthropic') if n in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "['claude_force._version']\n[]\n"
