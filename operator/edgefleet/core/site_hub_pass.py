"""The door of the hub's decisions about one EdgeSite."""

from datetime import datetime

from edgefleet.core.types import SiteDecision, SiteSeen


def decide_site(seen: SiteSeen, now: datetime) -> SiteDecision:
    """What to do about an EdgeSite and the objects in its namespace. `now` is the hub's clock, with its zone."""
    raise NotImplementedError
