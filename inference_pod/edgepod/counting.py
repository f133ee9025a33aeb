"""Mutable twins of the contract's counters."""

from edgepod.contract import LATENCY_BOUNDS_MS, CanaryCounters, Counters, bucket


class Tally:
    """Requests seen from one side."""

    __slots__ = ("errors", "late", "latency", "latency_sum_ms", "requests")

    def __init__(self) -> None:
        self.requests = self.errors = self.late = 0
        self.latency = [0] * (len(LATENCY_BOUNDS_MS) + 1)
        self.latency_sum_ms = 0.0

    def add(self, latency_ms: float, *, error: bool = False, late: bool = False) -> None:
        """Count one request."""
        self.requests += 1
        self.errors += error
        self.late += late
        self.latency[bucket(latency_ms)] += 1
        self.latency_sum_ms += latency_ms

    def frozen(self) -> Counters:
        """What was counted so far."""
        return Counters(self.requests, self.errors, self.late, tuple(self.latency))


class StepTally:
    """What was seen of the canary during one step."""

    __slots__ = ("agreed", "disagreed", "dropped", "failures_in_a_row", "sent", "shadowed", "skipped", "step")

    def __init__(self, step: str) -> None:
        self.step = step
        self.sent, self.shadowed = Tally(), Tally()
        self.agreed = self.disagreed = self.skipped = self.failures_in_a_row = 0
        self.dropped = False

    def frozen(self) -> CanaryCounters:
        """What was counted so far."""
        return CanaryCounters(
            self.step,
            self.sent.frozen(),
            self.shadowed.frozen(),
            self.agreed,
            self.disagreed,
            self.skipped,
            self.dropped,
        )
