"""The site most stories begin with."""

import pytest
from edgefleet.core.order import Mode
from support.site import Behaviour, Site, order


@pytest.fixture
def site() -> Site:
    """A site on which revision aa (version 1) serves."""
    made = Site()
    made.give(order("aa", 1, mode=Mode.DIRECT), Behaviour(version=1))
    made.run()
    assert made.selected == "aa"
    made.stages.clear()
    made.log.clear()
    return made
