"""A site without its hub, and pods that die: what serves goes on serving, and the end is the same."""

import time

import pytest
from support.clusters import Told

from demo.cluster import condition
from demo.fleet import AGENT, MODELS, wait
from demo.story import MODEL, NAMESPACE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_a_site_restarted_while_it_is_cut_off_serves_and_catches_up(told: Told) -> None:
    told.need_links_to_cut()
    site, cluster = list(told.fleet.sites.items())[-1]
    picture = told.story.watcher.look()
    before, failed = picture.sites[site], picture.totals().failed
    name = told.new_bundle()
    told.fleet.cut(site)
    try:
        cluster.kubectl("delete", "pod", "-n", AGENT, "--all", "--grace-period=0", "--force")
        told.story.release(name)
        first = next(iter(told.fleet.sites))
        digest = told.story.bundles[name].digest
        told.story.until("the other site serves", lambda now: now.sites[first].serving_bundle == digest)
        wait("the agent is back without its hub", 60, lambda: _ready(told, site))
        alone = told.story.watcher.look().sites[site]
        assert alone.serving_bundle == before.serving_bundle
        assert alone.totals.failed == before.totals.failed
        assert alone.totals.sent > before.totals.sent
    finally:
        told.fleet.heal(site)
    told.story.until("it catches up", lambda now: told.story.promoted(now, name))
    assert told.story.watcher.look().totals().failed == failed


def _ready(told: Told, site: str) -> bool:
    pods = [pod for pod in told.fleet.agent_pods(site) if not pod["metadata"].get("deletionTimestamp")]
    return bool(pods) and all(condition(pod, "Ready").get("status") == "True" for pod in pods)


def test_a_model_pod_killed_during_a_canary_changes_nothing_about_the_end(told: Told) -> None:
    site, cluster = next(iter(told.fleet.sites.items()))
    name = told.new_bundle()
    failed = told.story.watcher.look().totals().failed
    told.story.release(name)
    told.story.until("the canary runs", lambda now: now.sites[site].stage == "Canary")
    canary = str(told.story.watcher.look().sites[site].order["revision"])
    chosen = f"edgefleet.dev/model={NAMESPACE}.{MODEL},edgefleet.dev/revision={canary}"
    cluster.kubectl("delete", "pod", "-n", MODELS, "-l", chosen, "--grace-period=0", "--force")
    told.story.until("it ends well", lambda now: told.story.promoted(now, name))
    assert told.story.watcher.look().totals().failed == failed


def test_the_hub_says_who_is_away_and_does_not_call_that_healthy(told: Told) -> None:
    told.need_links_to_cut()
    site = list(told.fleet.sites)[-1]
    told.fleet.cut(site)
    try:
        told.story.until("away", lambda now: now.sites[site].connectivity == "Away")
        counts = told.story.watcher.look().model["status"]["sites"]
        assert counts["unreachable"] == 1
        assert counts["healthy"] == 1
        time.sleep(1)
        assert told.fleet.hub.kubectl("get", "efs", site).count("Away") == 1
    finally:
        told.fleet.heal(site)
    told.story.until("online", lambda now: now.sites[site].connectivity == "Online")
