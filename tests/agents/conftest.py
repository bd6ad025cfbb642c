from __future__ import annotations

from pathlib import Path

import pytest

from claude_force.domain.agents import AgentDefinition

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def lookalikes() -> Path:
    return Path(__file__).parent / "lookalikes"


@pytest.fixture
def shared_agents() -> Path:
    folder = REPOSITORY.parent / "shared" / "data" / "agents"
    if not folder.is_dir():
        pytest.skip(f"the public collection of agents is not at {folder}")
    return folder


@pytest.fixture
def definition() -> AgentDefinition:
    return AgentDefinition(
        name="reviewer",
        description="Reviews code",
        prompt="You review code.",
        path=Path("reviewer.md"),
        scope="project",
        model="haiku",
        effort="low",
    )
