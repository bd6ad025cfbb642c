"""The one method that every layer of a call has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse


class ModelClient(Protocol):
    """Something that answers message requests: a connection to the API, or a layer around another client.

    Any number of tasks, of one or several event loops, may call ``send`` at the same time.
    """

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request, whole or unfinished (``MessageResponse.complete`` tells).

        Raises `CallError` when no answer came back, and nothing else but cancellation, which passes through and
        frees what the call held. ``on_event`` is called on the event loop, in order, and has to return at once;
        what it raises ends the call.
        """
        ...

    async def aclose(self) -> None:
        """Free connections. Calls under way fail; a second call does nothing."""
        ...
