"""Sites that are alike are chosen for once; each gets what it would get alone."""

import random

import pytest
from edgefleet.core import attempts, fleet, going_back, names, targets
from edgefleet.core.attempts import Attempts
from edgefleet.core.choosing import Choice, Chooser
from edgefleet.core.fleet import SiteView
from support.hubs import MODEL, NAMESPACE, Hub, Raw, bundle

OUTCOMES = ("Complete", "Superseded", "RolledBack", "Complete", "Superseded", "")
"""Of rollouts 1 to 6, oldest first; the last two try one revision."""
TIME = "2026-01-31T12:00:00Z"
BLAMED = [
    {"site": f"s{place:03}", "reason": "GoldenDisagrees", "message": "", "time": TIME, "wave": ""}
    for place in range(0, 300, 7)
]
HELD = ("variant=int8", "soc=x", "ring=1")


def rollout(number: int, outcome: str, holds: list[str]) -> Raw:
    """An EdgeRollout as the API server returns it."""
    return {
        "metadata": {"name": f"{MODEL}-{number}", "namespace": NAMESPACE, "uid": f"r{number}"},
        "spec": {
            "model": MODEL,
            "revision": f"rev{min(number, 5)}",
            "attempt": 2 if number == 6 else 1,
            "bundle": bundle(min(number, 5)),
            "bundleVersion": number,
            "image": "",
            "number": number,
        },
        "status": {
            "outcome": outcome,
            "failures": BLAMED if number in (3, 4) else [],
            "holds": [{"cohort": held, "failed": 2, "seen": 3, "since": TIME} for held in holds],
        },
    }


def a_fleet(dice: random.Random, held: int) -> Hub:
    """Sites with every mixture of orders and reports, most of them like some other."""
    hub = Hub()
    for number, outcome in enumerate(OUTCOMES, 1):
        holds = list(HELD[:held]) if number in (4, 6) else []
        hub.rollouts[f"{MODEL}-{number}"] = rollout(number, outcome, holds)
    for place in range(300):
        name = f"s{place:03}"
        hub.join(name, {"ring": dice.choice("01")}, inventory={"soc": dice.choice("xy")})
        if dice.random() < 0.9:
            hub.orders[name] = order(dice, name)
        if dice.random() < 0.1:
            del hub.sites[name]  # its order is left
    return hub


def order(dice: random.Random, site: str) -> Raw:
    """An order and its report."""
    number = dice.randint(1, 6)
    told = number if dice.random() < 0.8 else dice.randint(1, 6)  # as an order of a hub that was restored
    spec = {
        "orderVersion": names.ORDER_VERSION,
        "state": dice.choice(("Run", "Run", "Run", "Keep")),
        "mode": "Canary",
        "model": {"namespace": NAMESPACE, "name": MODEL},
        "revision": f"rev{min(told, 5)}",
        "attempt": dice.choice((1, 2)) if told > 4 else 1,
        "bundle": bundle(min(told, 5)),
        "variants": [],
        "image": "",
        "serving": {},
        "canary": {},
        "rollout": f"{MODEL}-{number}",
        "wave": "all",
        "offeredAt": TIME,
        "replaces": dice.choice(("", bundle(4).rpartition("@")[2], bundle(5).rpartition("@")[2])),
    }
    refused = {"revision": "rev5", "attempt": dice.choice((1, 2)), "reason": "Crashed", "message": ""}
    status = {
        "activeRevision": dice.choice(("", "rev1", "rev2", "rev4", "rev5")),
        "variant": dice.choice(("int8", "fp32")),
        "refused": [{**refused, "time": TIME}] if dice.random() < 0.2 else [],
    }
    head = {"name": f"{NAMESPACE}.{MODEL}", "namespace": names.site_namespace(site), "uid": site}
    return {"metadata": head, "spec": spec, "status": status}


def alone(view: SiteView, found: Attempts, admitted: bool) -> Choice:
    """What the rules say of one site."""
    order = view.running
    target = targets.target(view, found, admitted or targets.member(view, found.running))
    return Choice(
        target,
        leaves=order is not None and going_back.must_leave(view, order, found),
        follows=target.rollout is not None and targets.member(view, target.rollout),
    )


@pytest.mark.parametrize("held", [0, 1, 3])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_site_gets_what_it_would_get_alone(held: int, seed: int) -> None:
    dice = random.Random(seed)
    hub = a_fleet(dice, held)
    seen = hub.seen()
    found = attempts.survey(seen.rollouts)
    views = fleet.survey(seen, None, hub.now).views
    admitted = {view.name: "all" for view in views if dice.random() < 0.2}
    chooser = Chooser(found, admitted)
    wrong = {
        view.name: (chosen, expected)
        for view in views
        if (chosen := chooser.choose(view)) != (expected := alone(view, found, view.name in admitted))
    }
    assert not wrong
    kinds = {str(chooser.choose(view)) for view in views}
    assert len(kinds) >= 5, "the fleet is not mixed enough to tell anything"
