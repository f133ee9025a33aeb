"""The brake on removals counts sites, not passes."""

import pytest
from support.fleet import World, served


def leave(of: World, *sites: str) -> None:
    """Let sites leave the placement, one pass each."""
    for site in sites:
        of.hub.sites[site]["metadata"]["labels"] = {}
        of.hub.look()
        of.hub.look()


def removing(of: World) -> set[str]:
    """Sites told to remove the model."""
    return {site for site, raw in of.hub.orders.items() if raw["spec"]["state"] == "Remove"}


@pytest.mark.parametrize(
    ("placed", "gone", "told"), [(4, 3, {"s00"}), (20, 2, {"s00", "s01"}), (20, 5, {"s00", "s01"})]
)
def test_sites_that_leave_one_by_one_are_held_back_like_those_that_leave_at_once(
    placed: int, gone: int, told: set[str]
) -> None:
    names = [f"s{number:02}" for number in range(placed)]
    fleet = served(
        {name: {"here": "yes"} for name in names},
        placement={"siteSelector": {"matchLabels": {"here": "yes"}}},
    )
    leave(fleet, *names[:gone])
    assert removing(fleet) == told
    braked = fleet.hub.condition("Stalled") == ("True", "RemovalNeedsApproval")
    assert braked == (len(told) < gone)


def test_a_removal_that_is_done_counts_no_more() -> None:
    names = [f"s{number:02}" for number in range(4)]
    fleet = served(
        {name: {"here": "yes"} for name in names},
        placement={"siteSelector": {"matchLabels": {"here": "yes"}}},
    )
    leave(fleet, "s00")
    fleet.go(4)
    assert "s00" not in fleet.hub.orders
    leave(fleet, "s01")
    assert removing(fleet) == {"s01"}
