"""Requests that were put together before: a question that is asked again costs a look-up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force.domain.messages import MessageRequest

if TYPE_CHECKING:
    from collections.abc import Hashable

    from claude_force.agents.calls import AgentCall
    from claude_force.domain.agents import AgentDefinition
    from claude_force.domain.messages import CallContext

# Bounded by number and, for each request, by the length of its task and files.
_KEPT: Final = 256
_MAX_KEPT_CHARACTERS: Final = 20_000


class RequestMemo:
    """Remembers requests by what they were built from.

    Definitions count by identity: a registry gives the same object while the file is the same. Safe in any thread:
    the worst that happens is that a request is built twice.
    """

    def __init__(self) -> None:
        # The definition is kept beside the request, so that its id is not given to another one.
        self._known: dict[Hashable, tuple[AgentDefinition, MessageRequest]] = {}

    def request(
        self, call: AgentCall, definition: AgentDefinition, context: CallContext
    ) -> MessageRequest:
        """The request of ``call`` with its own ``context``; its parts are the same objects each time.

        Raises:
            InputError: the task or an option cannot be used.
        """
        if (
            call.files
            or call.upstream
            or call.output_schema
            or len(call.task) > _MAX_KEPT_CHARACTERS
        ):
            return call.request_to(definition, context)
        key = (
            id(definition),
            call.task,
            call.model,
            call.max_tokens,
            call.effort,
            call.temperature,
        )
        known = self._known.get(key)
        if known is None:
            request = call.request_to(definition, context)
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = (definition, request)
            return request
        return in_context(known[1], context)


def in_context(same: MessageRequest, context: CallContext) -> MessageRequest:
    """The same request for another call."""
    # By hand: dataclasses.replace takes three times as long, and this runs at every hit of the cache.
    return MessageRequest(
        model=same.model,
        messages=same.messages,
        max_tokens=same.max_tokens,
        system=same.system,
        effort=same.effort,
        output_schema=same.output_schema,
        temperature=same.temperature,
        api_version=same.api_version,
        context=context,
    )
