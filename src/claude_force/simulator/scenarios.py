"""Scenarios: how the simulated API behaves, by name or from a JSON file."""

from __future__ import annotations

import math
from collections.abc import Mapping  # noqa: TC003  # msgspec reads the annotations at run time
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from claude_force.domain.errors import ConfigError
from claude_force.simulator.faults import RETRY_AFTER_FORMS, FaultKind, RetryAfter, fault_kind
from claude_force.simulator.rate_limits import RateLimits

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.simulator.draws import Draws

Distribution = Literal["none", "fixed", "lognormal"]
# A scenario file is a page of settings; anything larger is not one.
MAX_SCENARIO_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long an answer takes."""

    # none: everything at once. fixed: the median every time. lognormal: seeded, around the median.
    distribution: Distribution = "none"
    # To the first event.
    first_event_median_seconds: float = 0.25
    first_event_sigma: float = 0.4
    # From then on; each wait between two chunks is drawn with `chunk_sigma`.
    output_tokens_per_second: float = 400.0
    chunk_sigma: float = 0.2

    def __post_init__(self) -> None:
        _check_choice("latency.distribution", self.distribution, ("none", "fixed", "lognormal"))
        for name in ("first_event_median_seconds", "first_event_sigma", "chunk_sigma"):
            _check_number(f"latency.{name}", getattr(self, name), above=None)
        _check_number("latency.output_tokens_per_second", self.output_tokens_per_second, above=0)

    def first_event_seconds(self, draws: Draws) -> float:
        """Wait before the first event."""
        return self._draw(
            draws, "first_event", self.first_event_median_seconds, self.first_event_sigma
        )

    def chunk_seconds(self, draws: Draws, index: int, tokens: float) -> float:
        """Wait before chunk ``index`` of ``tokens`` tokens."""
        median = tokens / self.output_tokens_per_second
        return self._draw(draws, f"chunk.{index}", median, self.chunk_sigma)

    def _draw(self, draws: Draws, label: str, median: float, sigma: float) -> float:
        if self.distribution == "none":
            return 0.0
        if self.distribution == "fixed" or not median:
            return median
        return draws.lognormal(label, median=median, sigma=sigma)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One way for the API to behave. Everything random comes from the simulator's seed and the request."""

    name: str = "custom"
    # One line for a list.
    summary: str = ""
    latency: Latency = field(default_factory=Latency)
    # Length of an answer in tokens, drawn evenly; the lines that say what was asked may make it longer.
    min_output_tokens: int = 60
    max_output_tokens: int = 200
    # Tokens in a text delta.
    chunk_tokens: int = 40
    # Text blocks in an answer.
    text_blocks: int = 1
    # Answers begin with a thinking block even where the request does not ask for one.
    thinking: bool = False
    rate_limits: RateLimits | None = None
    # Probability of each fault for an attempt, by its name. Together at most 1.
    fault_rates: Mapping[str, float] = field(default_factory=dict)
    # How long drawn stalls and slow headers last; None lasts until the client leaves.
    stall_seconds: float | None = None
    # How drawn refusals say when to come back.
    retry_after: RetryAfter = "default"
    retry_after_seconds: float = 1.0
    # How long a batch is processed.
    batch_seconds: float = 1.0

    def __post_init__(self) -> None:
        for name in ("min_output_tokens", "chunk_tokens", "text_blocks"):
            _check_number(name, getattr(self, name), above=0)
        if self.max_output_tokens < self.min_output_tokens:
            raise ConfigError(
                f"max_output_tokens is {self.max_output_tokens!r}, below min_output_tokens "
                f"{self.min_output_tokens!r}; raise the one or lower the other."
            )
        _check_choice("retry_after", self.retry_after, RETRY_AFTER_FORMS)
        for name in ("retry_after_seconds", "batch_seconds"):
            _check_number(name, getattr(self, name), above=None)
        if self.stall_seconds is not None:
            _check_number("stall_seconds", self.stall_seconds, above=None)
        for kind, rate in self.fault_rates.items():
            fault_kind(kind)
            _check_number(f"fault_rates.{kind}", rate, above=None)
        if (total := math.fsum(self.fault_rates.values())) > 1 + 1e-9:
            raise ConfigError(f"fault_rates add up to {total:g}; together they can be at most 1.")
        object.__setattr__(self, "fault_rates", MappingProxyType(dict(self.fault_rates)))

    def draw_fault(self, draws: Draws) -> FaultKind | None:
        """The fault of one attempt, or None."""
        if not self.fault_rates:
            return None
        left = draws.uniform("fault")
        for kind, rate in self.fault_rates.items():
            left -= rate
            if left < 0:
                return FaultKind(kind)
        return None


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}; it can be {', '.join(choices)}.")


def _check_number(name: str, value: float, *, above: float | None) -> None:
    if not math.isfinite(value) or value < 0 or (above is not None and value <= above):
        bound = "of 0 or more" if above is None else f"above {above:g}"
        raise ConfigError(f"{name} is {value!r}; give a number {bound}.")


_SCALE_TIER: Final = RateLimits(
    requests_per_minute=10_000,
    input_tokens_per_minute=10_000_000,
    output_tokens_per_minute=2_000_000,
    count_requests_per_minute=10_000,
)
_CALM: Final = Latency(distribution="lognormal")
# How often each fault comes in a storm: the mixture that a run has to come through without losing an answer.
_STORM: Final = {
    "rate_limit": 0.20,
    "overloaded": 0.10,
    "cut": 0.05,
    "stall": 0.03,
    "bad_json": 0.02,
    "error_overloaded": 0.02,
    "early_end": 0.01,
}
_FLAKY: Final = {
    "rate_limit": 0.04,
    "overloaded": 0.04,
    "cut": 0.02,
    "stall": 0.02,
    "bad_json": 0.01,
    "error_api": 0.01,
    "early_end": 0.01,
}

SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType({
    scenario.name: scenario
    for scenario in (
        Scenario(name="instant", summary="answers at once, without limits or faults", batch_seconds=0.0),
        Scenario(name="calm", summary="small latency, generous limits, no faults", latency=_CALM, chunk_tokens=12, rate_limits=_SCALE_TIER),
        Scenario(
            name="flaky",
            summary="one request in seven fails: 429, 529, cut or stalled streams",
            latency=Latency(distribution="lognormal", first_event_median_seconds=0.1),
            chunk_tokens=12,
            rate_limits=_SCALE_TIER,
            fault_rates=_FLAKY,
            stall_seconds=0.5,
            retry_after_seconds=0.2,
        ),
        Scenario(name="storm", summary="two requests in five fail, in every way", fault_rates=_STORM, retry_after_seconds=0.1),
        Scenario(
            name="limited",
            summary="600 requests a minute",
            rate_limits=RateLimits(
                requests_per_minute=600,
                input_tokens_per_minute=2_000_000,
                output_tokens_per_minute=400_000,
            ),
        ),
        Scenario(
            name="outage",
            summary="every request fails", fault_rates={"overloaded": 0.6, "unavailable": 0.2, "api_error": 0.2}
        ),
        Scenario(
            name="slow",
            summary="seconds to the first token, 20 tokens a second",
            latency=Latency(
                distribution="lognormal",
                first_event_median_seconds=5.0,
                output_tokens_per_second=20.0,
            ),
            chunk_tokens=12,
        ),
        Scenario(name="refusing", summary="the model refuses every task", fault_rates={"refusal": 1.0}),
        Scenario(name="truncated", summary="every answer is cut off at max_tokens", fault_rates={"max_tokens": 1.0}),
    )
})  # fmt: skip


def scenario_named(name: str) -> Scenario:
    """The built-in scenario of that name."""
    try:
        return SCENARIOS[name]
    except KeyError:
        raise ConfigError(
            f"there is no scenario {name!r}; there are {', '.join(SCENARIOS)}, or give a JSON file."
        ) from None


def resolve_scenario(scenario: Scenario | str) -> Scenario:
    """A scenario itself, the built-in one of that name, or the one in a file whose name ends in ``.json``."""
    if isinstance(scenario, Scenario):
        return scenario
    return load_scenario(scenario) if scenario.endswith(".json") else scenario_named(scenario)


def load_scenario(path: Path | str) -> Scenario:
    """Read a scenario from a JSON object with the field names of `Scenario`; every other field is an error."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # pathlib is 8 ms of start-up
            data = file.read(MAX_SCENARIO_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"cannot read the scenario {str(path)!r}: {exc.strerror}.") from exc
    if len(data) > MAX_SCENARIO_BYTES:
        raise ConfigError(f"the scenario {str(path)!r} is larger than {MAX_SCENARIO_BYTES} bytes.")
    return scenario_from_json(data, where=str(path))


def scenario_from_json(data: bytes, *, where: str) -> Scenario:
    """A scenario from JSON text; ``where`` names its source in errors."""
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError as exc:
        raise ConfigError(f"{where}: not valid JSON: {exc}.") from exc
    _check_fields(value, Scenario, where, "")
    for name, kind in (("latency", Latency), ("rate_limits", RateLimits)):
        if isinstance(value.get(name), dict):
            _check_fields(value[name], kind, where, name + ".")
    try:
        return msgspec.convert(value, Scenario)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{where}: {exc}. Give the field a value of that type.") from exc
    except ConfigError as exc:
        raise ConfigError(f"{where}: {exc}") from exc


def _check_fields(value: object, kind: type, where: str, prefix: str) -> None:
    allowed = tuple(kind.__dataclass_fields__)  # type: ignore[attr-defined]  # every kind is a dataclass
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: a scenario is a JSON object with {', '.join(allowed)}.")
    for name in value:
        if name not in allowed:
            raise ConfigError(
                f"{where}: unknown field {prefix + name!r}; allowed are {', '.join(allowed)}."
            )
