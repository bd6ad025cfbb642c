"""Doubles for the tests of people who build on this package; our own suite uses them too.

For a test that goes over a real socket, start `claude_force.simulator.SimulatorThread`. With pytest, a line
``pytest_plugins = ["claude_force.testing"]`` in ``conftest.py`` brings the fixtures `scripted_client` and
`simulated_api`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from claude_force.domain.errors import ClaudeForceError
from claude_force.domain.events import AnswerStarted, TextDelta
from claude_force.domain.messages import MessageResponse
from claude_force.domain.tokens import estimate_tokens
from claude_force.domain.usage import Usage
from claude_force.simulator import SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import MessageRequest


class ScriptedClient:
    """A `ModelClient` that answers from a list, without a network.

    Args:
        script: what each call gets, in order: a text, a whole `MessageResponse`, or an error to raise. When it is
            used up, every further call gets ``default``.
        default: a text for calls that the script does not cover; None makes them fail.
    """

    def __init__(
        self,
        script: Iterable[str | MessageResponse | ClaudeForceError] = (),
        *,
        default: str | None = "scripted answer",
    ) -> None:
        self._script = deque(script)
        self._default = default
        # Every request so far, in the order in which they came.
        self.requests: list[MessageRequest] = []
        self.closed = False

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The next answer of the script; see `ModelClient.send`."""
        self.requests.append(request)
        entry = self._script.popleft() if self._script else self._default
        if entry is None:
            raise AssertionError(f"call {len(self.requests)} is not in the script")
        if isinstance(entry, ClaudeForceError):
            raise entry
        response = entry if isinstance(entry, MessageResponse) else _response(request, entry)
        if on_event is not None:
            call_id = request.context.call_id
            on_event(
                AnswerStarted(
                    call_id, response.request_id, replace(response.usage, output_tokens=0)
                )
            )
            if response.text:
                on_event(TextDelta(call_id, response.text))
        return response

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True


def _response(request: MessageRequest, text: str) -> MessageResponse:
    asked = sum(estimate_tokens(block.text) for block in request.system)
    asked += sum(
        estimate_tokens(block.text) for message in request.messages for block in message.content
    )
    return MessageResponse(
        message_id="msg_scripted",
        model=request.model,
        text=text,
        stop_reason="end_turn",
        usage=Usage(input_tokens=asked, output_tokens=estimate_tokens(text)),
        request_id="req_scripted",
    )


@pytest.fixture
def scripted_client() -> ScriptedClient:
    """A client that answers every call with the same text."""
    return ScriptedClient()


@pytest.fixture
def simulated_api(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatorThread]:
    """A simulator on loopback, with the environment set so that every call of the test goes there."""
    with SimulatorThread(scenario="instant") as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "simulated")
        monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
        yield simulator
