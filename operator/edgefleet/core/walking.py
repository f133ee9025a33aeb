"""One walk through the waves of a rollout: who is admitted now, and whether the wave under way is complete.

It goes through the waves in order until one holds. Membership is read from the orders, numbers from the rollout's
status; nothing else is remembered.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from edgefleet.core import holding, limiting, opening, placement, units
from edgefleet.core.cohorts import Ruling
from edgefleet.core.failures import Ledger
from edgefleet.core.fleet import SiteView
from edgefleet.core.specs import Wave
from edgefleet.core.statuses import Failure, WaveStatus
from edgefleet.core.verdict import Verdict
from edgefleet.core.waves import Hold, Look, allowed_failures, effective

BEATS_SEEN_EVERY: Final = 5.0
"""Seconds between looks at a wave that only waits for beats: a beat alone starts no pass over the model."""
_DONE: Final = frozenset({Verdict.HEALTHY, Verdict.FAILED, Verdict.BLOCKED, Verdict.UNREACHABLE})


class Walk:
    """One walk through the waves."""

    def __init__(self, look: Look, known: Mapping[str, WaveStatus]) -> None:
        self.look = look
        self.waves = effective(look.policy, look.rollout)
        self.known = dict(known)
        self.admitted: dict[str, str] = {}
        self.members: dict[str, list[SiteView]] = {wave.name: [] for wave in self.waves}
        self.ruling = Ruling()
        self.held: frozenset[str] = frozenset()
        self.failures: Sequence[Failure] = ()
        self.overdue: str | None = None
        """The breach that was waited with as long as it made sense."""
        self.next_at: datetime | None = None
        """When the rate lets another site in; None: it keeps nobody back."""
        # those about to go back because they are held are at work until they are told
        self.in_flight = Counter(look.verdicts.values())[Verdict.AT_WORK]
        self.patient = opening.patient(look.fleet.counted, look.verdicts)
        """Sites that begin by themselves once their window opens."""

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

    def judge_cohorts(self, ledger: Ledger) -> Ruling:
        """Hold what is to be held, before anything is counted."""
        look, self.failures = self.look, ledger.known
        if not look.rollout.status.holds and (look.policy.cohorts is None or not ledger.known):
            return self.ruling
        begun = next((wave for wave in self.waves if not self._completed(wave.name)), None)
        candidates = self._candidates(begun) if begun is not None and begun.name in self.known else []
        self.ruling = limiting.ruling(look, ledger, candidates)
        self.held = limiting.held_sites(look, self.ruling)
        return self.ruling

    def count(self, ledger: Ledger) -> None:
        """Bring every wave's numbers up to date, before anything is moved by them."""
        verdicts, held, members = self.look.verdicts, self.held, self.members
        for view in self.look.fleet.counted:
            if view.name in verdicts and view.name not in held:
                members[self.wave_of(view)].append(view)
        excused = limiting.newly_excused(self.look, ledger, self.ruling)
        for wave in self.waves:
            self._keep(wave, self._counted(wave, ledger, excused))

    def through(self) -> Hold | None:
        """Go through the waves until one holds. None: all are complete."""
        for wave in self.waves:
            if self._completed(wave.name):
                continue
            status, hold = self._step(wave, self.known.get(wave.name))
            if hold is None and (breach := self.breach(patient=False)) is not None:
                # the wave would be over: a cohort that is not decided by now keeps no failure from it
                self.overdue = breach
                return None
            self._keep(wave, status)
            if hold is not None:
                return hold
        return None

    def _keep(self, wave: Wave, status: WaveStatus | None) -> None:
        if status is not None:
            self.known[wave.name] = status

    def _counted(self, wave: Wave, ledger: Ledger, excused: Mapping[str, int]) -> WaveStatus | None:
        """The wave's status with today's numbers; None: it has not begun."""
        before, members = self.known.get(wave.name), self.members[wave.name]
        new_failures = ledger.by_wave.get(wave.name, 0)
        if before is None and not members and not new_failures:
            return None
        base = before or self._started(wave)
        tally = Counter([self.look.verdicts[view.name] for view in members])
        failed, held = base.failed + new_failures, base.held + excused.get(wave.name, 0)
        gone = failed - held - tally[Verdict.FAILED]
        return msgspec.structs.replace(
            base,
            admitted=len(members) + max(0, gone),
            healthy=tally[Verdict.HEALTHY],
            failed=failed,
            held=held,
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
            return status, holding.waiting_approval(self.look, wave)
        if status is None:
            if not candidates:
                return self._empty(wave, None)
            if self.look.still:
                return None, holding.standing(self.look)
            status = self._started(wave)
        room = _room(wave, status)
        expected = status.admitted + min(len(candidates), room)
        if wave.limit is None:
            status = msgspec.structs.replace(status, limit=max(status.limit, expected))
        offered = self._offer(wave, candidates, room)
        status = msgspec.structs.replace(status, admitted=status.admitted + offered)
        if expected == 0:  # a soak is watching somebody: with nobody it begins anew
            return self._empty(wave, msgspec.structs.replace(status, soak_started_at=None))
        online = [view for view in candidates[:room] if view.online and view.name not in self.admitted]
        shut = [view for view in online if not opening.may_offer(view, self.look.now)]
        return self._judge(wave, status, expected, offered + len(online) - len(shut), shut)

    def _candidates(self, wave: Wave) -> list[SiteView]:
        """Sites that may still be admitted to a wave, in order."""
        verdicts, refusing = self.look.verdicts, self.look.refusing
        found = [
            view
            for view in self.look.fleet.counted
            if view.name not in verdicts
            and view.name not in refusing
            and view.name not in self.held
            and view.readable
            and _selects(wave, view)
        ]
        return sorted(found, key=lambda view: turn(self.look, view))

    def _offer(self, wave: Wave, candidates: Sequence[SiteView], room: int) -> int:
        """Admit who fits; who is not heard is admitted when it returns."""
        if self.look.still:
            return 0
        free = max(0, wave.max_concurrency - self.in_flight)
        heard = (view for view in candidates if view.online)
        ready = opening.choose(heard, min(room, free), free - self.patient, self.look.now)
        pace = limiting.pace(self.look, self.failures, self._healthy())
        chosen = ready if pace is None else ready[: pace.room]
        if pace is not None and len(chosen) < len(ready):
            self.next_at = pace.next_at(len(chosen))
        self.admitted.update((view.name, wave.name) for view in chosen)
        self.in_flight += len(chosen)
        return len(chosen)

    def _healthy(self) -> int:
        """Sites of the rollout on which its revision serves."""
        verdicts, held = self.look.verdicts, self.held
        return Counter([verdicts[name] for name in verdicts if name not in held])[Verdict.HEALTHY]

    def _judge(
        self, wave: Wave, status: WaveStatus, expected: int, working: int, shut: list[SiteView]
    ) -> tuple[WaveStatus, Hold | None]:
        """Complete, soaking, or why not yet. `shut`: those heard who are offered nothing while their windows are closed."""
        verdicts = self.look.verdicts
        need = units.at_least(wave.min_success, expected)
        busy = [view for view in self.members[wave.name] if verdicts[view.name] not in _DONE]
        numbers = f"wave {wave.name}: {status.healthy} of {expected} healthy, {need} needed"
        if status.healthy < need:
            status = msgspec.structs.replace(status, soak_started_at=None)
        if self.look.still:
            return status, holding.standing(self.look)
        if busy or working or shut:
            text = f"{numbers}, {holding.who_works(self.look, busy, working, shut)}"
            return status, limiting.said(self.look, Hold("WaveRunning", text), self._healthy(), self.next_at)
        if status.healthy < need:
            return status, Hold("NotEnoughSites", f"{numbers}: {holding.who_acts(status, expected)}")
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
        """A wave with nobody passes only if all it means were admitted before, or are held while others are healthy.

        A selector with a typo never does.
        """
        if self.look.still:
            return status, holding.standing(self.look)
        meant = [view for view in self.look.fleet.counted if _selects(wave, view)]
        held = sum(view.name in self.held for view in meant)
        if held and not self._healthy():
            return status, holding.all_held(self.look, wave, held, self.ruling.holds)
        if not meant:
            return status, holding.no_sites(wave)
        moment = units.timestamp(self.look.now)
        before = status or WaveStatus(name=wave.name, limit=0, started_at=moment)
        return msgspec.structs.replace(before, completed_at=moment), None

    def _approved(self, wave: Wave) -> bool:
        return any(approval.wave == wave.name for approval in self.look.rollout.spec.approvals)

    # -- the end --------------------------------------------------------------------------------------

    def breach(self, *, patient: bool = True) -> str | None:
        """The wave in which more sites failed than may, in words. Patient: failures wait for their cohort's judgement."""
        for wave in self.waves:
            status = self.known.get(wave.name)
            if status is None or not status.failed:
                continue
            failed = self._held_against(wave, status, patient=patient)
            allowed = allowed_failures(wave, self._size(wave, status))
            if failed > allowed:
                return f"wave {wave.name}: {failed} failed, {allowed} allowed"
        return None

    def _held_against(self, wave: Wave, status: WaveStatus, *, patient: bool) -> int:
        """Failures a wave is judged by: those no cohort accounts for, or all when no minority would."""
        if not self.ruling.minority:
            return status.failed
        waiting = (
            sum(f.wave == wave.name and self.ruling.undecided(f) for f in self.failures) if patient else 0
        )
        return max(0, status.failed - status.held - waiting)

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


def turn(look: Look, view: SiteView) -> tuple[bool, bool, bool, str]:
    """What decides who is admitted before whom: who is heard, has its window, is on a superseded revision."""
    return (
        not view.online,
        not opening.may_offer(view, look.now),
        view.name not in look.first,
        view.name,
    )


def _selects(wave: Wave, view: SiteView) -> bool:
    return wave.site_selector is None or placement.matches(wave.site_selector, view.labels)


def _room(wave: Wave, status: WaveStatus) -> int:
    """Sites the wave may still take."""
    return 1_000_000_000 if wave.limit is None else max(0, status.limit - status.admitted)
