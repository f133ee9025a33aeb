"""How every history ends: left alone it comes to rest, and whoever must act is named."""

import re

from support import facts
from support.fleet import Site
from support.hubs import Hub, changes
from support.kinds import withheld

WHO_ACTS = re.compile(
    r"edgefleet rollout \w+|spec\.\w+|siteSelector|annotate|maxFailures|apply another bundle|bring sites back|beat again"
)
"""Words by which a hold tells a person what to do."""


def comes_to_rest(hub: Hub, sims: dict[str, Site]) -> None:
    """I11: with every site reachable and nobody touching anything it ends, or names who must act."""
    for site in sims.values():
        site.linked, site.clock, site.blocked, site.broken, site.quiet = True, True, False, False, False
    windows = any(hub.sites[name]["spec"].get("windows") for name in hub.sites)
    for name in hub.sites:
        hub.deliver(name)
    calm = 0
    for _ in range(600 if windows else 60):
        decision = hub.look()
        check_again = changes(decision)
        hub.tick(301 if windows else 61)
        for site in sims.values():
            site.sync()
            site.work()
            site.sync()
        calm = 0 if check_again else calm + 1
        if calm >= 13:  # with windows: for more than the hour in which each of them opens
            break
    assert calm >= 13, f"I11: no rest: {check_again}"
    reason = hub.condition("Ready")
    if reason[0] == "True":
        _all_serve_what_they_should(hub, sims)
        return
    stalled, reconciling = hub.condition("Stalled"), hub.condition("Reconciling")
    waiting = ("Paused", "WaitingApproval", "NotEnoughSites")
    assert stalled[0] == "True" or reconciling[1] in waiting, f"I11: {reason} names nobody: {hub.message()}"
    assert WHO_ACTS.search(hub.message()), f"I11: {reason} says not who must act: {hub.message()}"


def _all_serve_what_they_should(hub: Hub, sims: dict[str, Site]) -> None:
    """P4: who is reachable, placed and not set aside runs what its order says, the newest good one it did not refuse."""
    for name, site in sims.items():
        if name not in hub.sites or not facts.placed(hub, name) or facts.set_aside(hub.sites[name]):
            continue
        if hub.model is None or hub.model["spec"].get("paused"):
            continue
        newest = max(hub.rollouts.values(), key=lambda raw: raw["spec"]["number"])
        if newest["spec"]["desired"] == "Paused" or facts.unfit(hub, name):
            continue
        good = sorted(
            (raw for raw in hub.rollouts.values() if raw["status"].get("outcome") == "Complete"),
            key=lambda raw: -raw["spec"]["number"],
        )
        refused = {(item["revision"], item["attempt"]) for item in site.refused}
        best = next(
            (
                raw
                for raw in good
                if (raw["spec"]["revision"], raw["spec"]["attempt"]) not in refused
                and not withheld(hub, name, raw)
                and name not in {failure["site"] for failure in raw["status"].get("failures", ())}
            ),
            None,
        )
        if best is not None:
            assert site.active is not None, f"P4: {name} serves nothing"
    for name, raw in hub.rollouts.items():
        open_ = raw["status"].get("outcome", "") == ""
        newest_of_all = raw["spec"]["number"] == max(item["spec"]["number"] for item in hub.rollouts.values())
        assert not open_ or newest_of_all, f"I11: {name} never ended"
