"""Random faults under traffic, round after round, until Ctrl-C: every round has to end well. `make soak`."""

import itertools
import os
import random
import time
from collections.abc import Callable

import pytest
from support.clusters import Told

from demo.fleet import AGENT, SYSTEM

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

SECONDS = float(os.environ.get("SOAK_SECONDS", "inf"))
FAULTS_IN_A_ROUND = 3


def _cut_for_a_while(told: Told, site: str) -> None:
    told.fleet.cut(site)
    time.sleep(random.uniform(1, 20))
    told.fleet.heal(site)


def _kill_agent(told: Told, site: str) -> None:
    told.fleet.sites[site].kubectl("delete", "pod", "-n", AGENT, "--all", "--grace-period=0", "--force")


def _kill_operator(told: Told, _site: str) -> None:
    told.fleet.hub.kubectl("delete", "pod", "-n", SYSTEM, "--all", "--grace-period=0", "--force")


FAULTS: tuple[Callable[[Told, str], None], ...] = (_cut_for_a_while, _kill_agent, _kill_operator)


def test_every_round_of_random_faults_ends_with_all_sites_on_the_newest_bundle(told: Told) -> None:
    end = time.monotonic() + SECONDS
    failed = told.story.watcher.look().totals().failed
    for number in itertools.count(1):
        if time.monotonic() > end:
            return
        name = told.new_bundle(random.choice(("v1", "v2")))
        told.story.release(name)
        for _ in range(FAULTS_IN_A_ROUND):
            time.sleep(random.uniform(0, 8))
            possible = FAULTS if told.fleet.can_cut else FAULTS[1:]
            fault, site = random.choice(possible), random.choice(list(told.fleet.sites))
            print(f"round {number}: {fault.__name__} {site}")
            fault(told, site)
        told.story.until(f"round {number} ends well", lambda now, n=name: told.story.promoted(now, n), 600)
        assert told.story.watcher.look().totals().failed == failed
