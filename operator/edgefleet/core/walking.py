"""One walk through the waves of a rollout: who is admitted now, and whether the wave under way is complete.

It goes through the waves in order until one holds. Membership is read from the orders, numbers from the rollout's
status; nothing else is remembered.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import msgspec

from edgefleet.core import placement, units
from edgefleet.core.failures import Ledger
from edgefleet.core.fleet import SiteView
from edgefleet.core.specs import Wave
from edgefleet.core.statuses import WaveStatus
from edgefleet.core.verdict import Verdict
from edgefleet.core.waves import Hold, Look, allowed_failures, effective

NAMED: Final = 3
"""Held sites a message names."""
BEATS_SEEN_EVERY: Final = 5.0
"""Seconds between looks at a wave that only waits for beats: a beat alone starts no pass over the model."""
_DONE: Final = frozenset({Verdict.HEALTHY, Verdict.FAILED, Verdict.BLOCKED, Verdict.UNREACHABLE})


class Walk:
    """One walk through the waves."""

    def __init__(self, look: Look, known: Mapping[str, WaveStatus]) -> None:
        self.look = look
        self.waves = waves = effective(look.policy, look.rollout)
        self.known = dict(known)
        self.admitted: dict[str, str] = {}
        self.members: dict[str, list[SiteView]] = {wave.name: [] for wave in waves}
        self.in_flight = 0
        for view in look.fleet.counted:
            verdict = look.verdicts.get(view.name)
            if verdict is not None:
                self.members[self.wave_of(view)].append(view)
                self.in_flight += verdict is Verdict.AT_WORK

    def wave_of(self, view: SiteView) -> str:
        """The wave a site was admitted to.

        The one under way if the spec has that one no more; the last that began for sites whose orders are rewritten.
        """
        order = view.running
        if order is None or order.rollout != self.look.rollout.meta.name:
            begun = [wave.name for wave in self.waves if wave.name in self.known]
            return begun[-1] if begun else self.waves[0].name
        if order.wave in self.members:
            return order.wave
        return next((w.name for w in self.waves if not self._completed(w.name)), self.waves[-1].name)

    def _completed(self, name: str) -> bool:
        return name in self.known and self.known[name].completed_at is not None

    def count(self, ledger: Ledger) -> None:
        """Bring every wave's numbers up to date, before anything is moved by them."""
        for wave in self.waves:
            self._keep(wave, self._counted(wave, ledger))

    def through(self) -> Hold | None:
        """Go through the waves until one holds. None: all are complete."""
        for wave in self.waves:
            if self._completed(wave.name):
                continue
            status, hold = self._step(wave, self.known.get(wave.name))
            self._keep(wave, status)
            if hold is not None:
                return hold
        return None

    def _keep(self, wave: Wave, status: WaveStatus | None) -> None:
        if status is not None:
            self.known[wave.name] = status

    def _counted(self, wave: Wave, ledger: Ledger) -> WaveStatus | None:
        """The wave's status with today's numbers; None: it has not begun."""
        before, members = self.known.get(wave.name), self.members[wave.name]
        new_failures = ledger.by_wave.get(wave.name, 0)
        if before is None and not members and not new_failures:
            return None
        base = before or self._started(wave)
        tally = Counter(self.look.verdicts[view.name] for view in members)
        gone = base.failed + new_failures - tally[Verdict.FAILED]
        return msgspec.structs.replace(
            base,
            admitted=len(members) + max(0, gone),
            healthy=tally[Verdict.HEALTHY],
            failed=base.failed + new_failures,
            blocked=tally[Verdict.BLOCKED],
            unreachable=tally[Verdict.UNREACHABLE],
        )

    def _started(self, wave: Wave) -> WaveStatus:
        total = len(self.look.fleet.counted)
        limit = units.at_least(wave.limit, total) if wave.limit is not None else 0
        return WaveStatus(name=wave.name, limit=limit, started_at=units.timestamp(self.look.now))

    # -- one wave -------------------------------------------------------------------------------------

    def _step(self, wave: Wave, status: WaveStatus | None) -> tuple[WaveStatus | None, Hold | None]:
        """Move the wave under way as far as it goes now."""
        candidates = self._candidates(wave)
        if candidates and wave.approval and not self._approved(wave):
            return status, Hold("WaitingApproval", self._ask(wave))
        if status is None:
            if not candidates:
                return self._empty(wave, None)
            if self.look.still:
                return None, self._standing()
            status = self._started(wave)
        room = _room(wave, status)
        expected = status.admitted + min(len(candidates), room)
        if wave.limit is None:
            status = msgspec.structs.replace(status, limit=max(status.limit, expected))
        offered = self._offer(wave, candidates, room)
        status = msgspec.structs.replace(status, admitted=status.admitted + offered)
        if expected == 0:
            return self._empty(wave, status)
        reachable = sum(view.online for view in candidates[:room]) - offered
        return self._judge(wave, status, expected, working=offered + max(0, reachable))

    def _candidates(self, wave: Wave) -> list[SiteView]:
        """Sites that may still be admitted to a wave, in order: first those on a superseded revision, then who is heard."""
        first = self.look.first
        found = [
            view
            for view in self.look.fleet.counted
            if view.name not in self.look.verdicts
            and view.name not in self.look.refusing
            and view.readable
            and _selects(wave, view)
        ]
        return sorted(found, key=lambda view: (not view.online, view.name not in first, view.name))

    def _offer(self, wave: Wave, candidates: Sequence[SiteView], room: int) -> int:
        """Admit who fits; who is not heard is admitted when it returns."""
        if self.look.still:
            return 0
        free = max(0, wave.max_concurrency - self.in_flight)
        chosen = [view for view in candidates if view.online][: min(room, free)]
        self.admitted.update((view.name, wave.name) for view in chosen)
        self.in_flight += len(chosen)
        return len(chosen)

    def _judge(
        self, wave: Wave, status: WaveStatus, expected: int, working: int
    ) -> tuple[WaveStatus, Hold | None]:
        """Complete, soaking, or why not yet."""
        members = self.members[wave.name]
        need = units.at_least(wave.min_success, expected)
        busy = [view for view in members if self.look.verdicts[view.name] not in _DONE]
        numbers = f"wave {wave.name}: {status.healthy} of {expected} healthy, {need} needed"
        if status.healthy < need:
            status = msgspec.structs.replace(status, soak_started_at=None)
        if self.look.still:
            return status, self._standing()
        if busy or working:
            held = sum(self.look.verdicts[view.name] is Verdict.HELD for view in busy)
            text = f"{numbers}, {len(busy) - held + working} at work, {held} waiting at the site"
            if held and held == len(busy) + working:
                text = f"{numbers}, {self._who_holds(wave)}"
            return status, Hold("WaveRunning", text)
        if status.healthy < need:
            return status, Hold("NotEnoughSites", f"{numbers}: {self._who_acts(status, expected)}")
        return self._soak(wave, status, need)

    def _soak(self, wave: Wave, status: WaveStatus, need: int) -> tuple[WaveStatus, Hold | None]:
        now, length = self.look.now, units.duration(wave.soak)
        if length > 0:
            since = status.soak_started_at or units.timestamp(now)
            status = msgspec.structs.replace(status, soak_started_at=since)
            left = length - (now - units.instant(since)).total_seconds()
            if left > 0:
                text = f"wave {wave.name} is healthy and is watched until {units.later(since, timedelta(seconds=length))}"
                return status, Hold("Soaking", text, changes_in=left)
            fresh = sum(self._fresh(view, since) for view in self.members[wave.name])
            if fresh < need:
                text = f"wave {wave.name}: {fresh} of {need} needed sites were heard healthy since {since}: the others must beat again"
                return status, Hold("NotEnoughSites", text, changes_in=BEATS_SEEN_EVERY)
        if wave.limit is not None:
            # what it was of in the end: sites cordoned later must not tighten what it may fail
            status = msgspec.structs.replace(status, limit=min(status.limit, status.admitted))
        return msgspec.structs.replace(status, completed_at=units.timestamp(now)), None

    def _fresh(self, view: SiteView, since: str) -> bool:
        """Healthy by a sign of life newer than the soak's start."""
        healthy = self.look.verdicts[view.name] is Verdict.HEALTHY
        return healthy and view.heard is not None and view.heard > units.instant(since)

    def _empty(self, wave: Wave, status: WaveStatus | None) -> tuple[WaveStatus | None, Hold | None]:
        """A wave with nobody passes only if all it means were admitted before; a selector with a typo never does."""
        if self.look.still:
            return status, self._standing()
        if any(_selects(wave, view) for view in self.look.fleet.counted):
            moment = units.timestamp(self.look.now)
            before = status or WaveStatus(name=wave.name, limit=0, started_at=moment)
            return msgspec.structs.replace(before, completed_at=moment), None
        text = f"wave {wave.name}: no placed site that has joined and is not cordoned matches it: correct its siteSelector or join sites"
        return status, Hold("NotEnoughSites", text)

    def _approved(self, wave: Wave) -> bool:
        return any(approval.wave == wave.name for approval in self.look.rollout.spec.approvals)

    def _ask(self, wave: Wave) -> str:
        name = self.look.rollout.meta.name
        return f"wave {wave.name} waits for approval: `edgefleet rollout approve {name} --wave {wave.name}`"

    def _standing(self) -> Hold:
        if self.look.paused:
            return Hold(
                "Paused", "no offers, no soak, until spec.paused is false and the rollout's desired is Run"
            )
        return Hold("Paused", "no offers: spec asks for another revision, which cannot start")

    @staticmethod
    def _who_acts(status: WaveStatus, expected: int) -> str:
        missing = expected - status.admitted
        return (
            f"{status.unreachable + missing} unreachable, {status.blocked} blocked, {status.failed} failed; "
            "bring sites back, cordon or delete those that are gone, or finish or abort the rollout"
        )

    def _who_holds(self, wave: Wave) -> str:
        """The sites that wait at their own side, why, and what a person can do."""
        held = [view for view in self.members[wave.name] if self.look.verdicts[view.name] is Verdict.HELD]
        named = "; ".join(f"{view.name}: {_why_held(view)}" for view in held[:NAMED])
        more = f" and {len(held) - NAMED} more" if len(held) > NAMED else ""
        name = self.look.rollout.meta.name
        return (
            f"{len(held)} waiting at the site ({named}{more}): see to it there, ease spec.canary (where callers are silent "
            f"onNoTraffic: Golden), or `edgefleet rollout direct {name}`, or `edgefleet rollout abort {name}`"
        )

    # -- the end --------------------------------------------------------------------------------------

    def breach(self) -> str | None:
        """The wave in which more sites failed than may, in words."""
        for wave in self.waves:
            status = self.known.get(wave.name)
            if status is None or not status.failed:
                continue
            allowed = allowed_failures(wave, self._size(wave, status))
            if status.failed > allowed:
                return f"wave {wave.name}: {status.failed} failed, {allowed} allowed"
        return None

    def _size(self, wave: Wave, status: WaveStatus) -> int:
        """Sites the wave is of: no more than there are for it, however large its limit."""
        most = max(status.limit, status.admitted)
        if wave.limit is None or status.completed_at is not None:
            return most
        return min(most, status.admitted + len(self._candidates(wave)))

    def statuses(self) -> tuple[WaveStatus, ...]:
        """All waves that have begun: those the spec has no more first, then in the order of the spec."""
        listed = {wave.name for wave in self.waves}
        past = [status for name, status in self.known.items() if name not in listed]
        return (*past, *(self.known[wave.name] for wave in self.waves if wave.name in self.known))


def _selects(wave: Wave, view: SiteView) -> bool:
    return wave.site_selector is None or placement.matches(wave.site_selector, view.labels)


def _why_held(view: SiteView) -> str:
    reason = view.report.reason or str(view.report.stage)
    return f"{reason}, {view.report.message}" if view.report.message else reason


def _room(wave: Wave, status: WaveStatus) -> int:
    """Sites the wave may still take."""
    return 1_000_000_000 if wave.limit is None else max(0, status.limit - status.admitted)
