"""A local server that speaks the Messages API over a real socket: no key, no cost, every fault on demand."""

from claude_force.simulator.faults import Fault, FaultKind
from claude_force.simulator.rate_limits import RateLimits
from claude_force.simulator.scenarios import SCENARIOS, Latency, Scenario, load_scenario
from claude_force.simulator.server import Simulator, serve
from claude_force.simulator.stats import RequestRecord, SimulatorStats
from claude_force.simulator.thread import SimulatorThread

__all__ = [
    "SCENARIOS",
    "Fault",
    "FaultKind",
    "Latency",
    "RateLimits",
    "RequestRecord",
    "Scenario",
    "Simulator",
    "SimulatorStats",
    "SimulatorThread",
    "load_scenario",
    "serve",
]
