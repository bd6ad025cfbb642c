"""Asks the next model of a chain when one cannot answer, and says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from claude_force.domain.discounts import NO_DISCOUNTS, Discounts, total_discounts
from claude_force.domain.errors import (
    BudgetExceededError,
    CallError,
    CallTimeoutError,
    CertificateError,
    InvalidRequestError,
    RateLimitError,
    ServiceError,
    TransportError,
)
from claude_force.domain.events import FellBack
from claude_force.domain.results import total_cost_usd
from claude_force.domain.usage import Usage

if TYPE_CHECKING:
    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.pricing.catalogue import PriceCatalogue
    from claude_force.provider.client import ModelClient

_NOT_FOUND: Final = 404
_NOTHING: Final = Decimal(0)


class FallbackClient:
    """A `ModelClient` that follows ``request.context.fallback`` when a model cannot answer.

    The next model is asked when one is limited, overloaded, down, unreachable, too slow, or gone (404), after
    the retries and within the deadline that each call has for itself. What is wrong with the request, the key or the
    account would be wrong with every model, and an unfinished answer is an answer: those errors are passed on.

    The response names the model that answered, and in ``fallback_from`` the one that was asked; its cost has the
    failed calls in it.

    Args:
        inner: answers the requests.
        catalogue: says what the answer would have cost at the model that was asked; None leaves that unknown.
    """

    def __init__(self, inner: ModelClient, *, catalogue: PriceCatalogue | None = None) -> None:
        self._inner = inner
        self._catalogue = catalogue

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request; see `ModelClient.send`."""
        models = [model for model in request.context.fallback if model != request.model]
        if not models:
            return await self._inner.send(request, on_event)
        failures: list[CallError] = []
        asked = request
        for following in (*models, None):
            try:
                response = await self._inner.send(asked, on_event)
            except BudgetExceededError as refusal:
                if not failures:
                    raise
                # It was not asked; the call failed by what came before, which may have cost something.
                error = failures[-1]
                error.args = (f"{error} {asked.model} was not asked: {refusal}",)
                raise _with_all(error, failures) from refusal
            except CallError as error:
                failures.append(error)
                if following is None or not can_fall_back(error) or _is_stopped(request):
                    raise _with_all(error, failures) from error.__cause__
                if on_event is not None:
                    call_id = request.context.call_id
                    on_event(FellBack(call_id, asked.model, following, error.kind, str(error)))
                asked = _next_request(request, following, failures)
            else:
                return self._answer(response, request, failures)
        raise AssertionError  # pragma: no cover - the last round returns or raises

    async def aclose(self) -> None:
        """Close the inner client."""
        await self._inner.aclose()

    def _answer(
        self, response: MessageResponse, request: MessageRequest, failures: list[CallError]
    ) -> MessageResponse:
        if not failures:
            return response
        return replace(
            response,
            fallback_from=request.model,
            attempts=response.attempts + sum(error.attempts for error in failures),
            lost_usages=(
                *(usage for error in failures for usage in error.usages),
                *response.lost_usages,
            ),
            cost_usd=total_cost_usd([response.cost_usd, *(_spent(error) for error in failures)]),
            discounts=total_discounts(
                (
                    response.discounts,
                    self._difference(response, request.model),
                    *(_discounts(error) for error in failures),
                )
            ),
        )

    def _difference(self, response: MessageResponse, requested_model: str) -> Discounts | None:
        """What the answer would have cost more at the model that was asked, both without the prompt cache."""
        if self._catalogue is None or response.cost_usd is None:
            return None
        # The price list is there: the answer is priced.
        now = datetime.now(UTC)
        requested = self._catalogue.tariff(requested_model, at=now)
        answered = self._catalogue.tariff(response.model, at=now)
        if requested is None or answered is None:
            return None
        plain = Usage(
            input_tokens=response.usage.total_input_tokens,
            output_tokens=response.usage.output_tokens,
        )
        return Discounts(fallback_usd=requested.cost_usd(plain) - answered.cost_usd(plain))


def can_fall_back(error: CallError) -> bool:
    """Whether another model might answer where this one failed."""
    if isinstance(error, InvalidRequestError):
        return error.status == _NOT_FOUND
    if isinstance(error, CertificateError):
        # Every model is behind the same address.
        return False
    return isinstance(error, (RateLimitError, ServiceError, TransportError, CallTimeoutError))


def _next_request(request: MessageRequest, model: str, failures: list[CallError]) -> MessageRequest:
    """The same request to the next model, which the failed ones have left less of a budget."""
    spent = sum((_spent(error) or _NOTHING for error in failures), _NOTHING)
    return replace(request, model=model, context=replace(request.context, spent_usd=spent))


def _is_stopped(request: MessageRequest) -> bool:
    """Whether nothing more of the request's run is sent."""
    halt = request.context.halt
    return halt is not None and halt.stopped


def _with_all(error: CallError, failures: list[CallError]) -> CallError:
    """The last error, with what all attempts of all models took."""
    cost = total_cost_usd([_spent(failure) for failure in failures])
    discounts = total_discounts([_discounts(failure) for failure in failures])
    error.usages = tuple(usage for failure in failures for usage in failure.usages)
    error.attempts = sum(failure.attempts for failure in failures)
    error.cost_usd = cost
    error.discounts = discounts
    return error


def _spent(error: CallError) -> Decimal | None:
    return error.cost_usd if error.usages else _NOTHING


def _discounts(error: CallError) -> Discounts | None:
    return error.discounts if error.usages else NO_DISCOUNTS
