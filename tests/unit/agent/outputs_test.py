"""`minAgreement` between revisions with other outputs: the order asks for the impossible, and the model is not blamed."""

import pytest
from edgefleet.core.local_record import Output
from edgefleet.core.order import Gates, Mode
from support.site import Behaviour, Site, order

AGREE = Gates(min_requests=20, min_agreement="90%")
LABELS = Output(name="labels", datatype="UINT8", shape=(-1, 89, 89))


def site(old: tuple[Output, ...] = (LABELS,)) -> Site:
    """One that serves `aa`."""
    made = Site()
    made.give(order("aa", 1, mode=Mode.DIRECT), Behaviour(outputs=old))
    made.run()
    made.stages.clear()
    return made


@pytest.mark.parametrize(
    "other",
    [
        Output(name="classes", datatype="UINT8", shape=(-1, 89, 89)),
        Output(name="labels", datatype="INT64", shape=(-1, 89, 89)),
        Output(name="labels", datatype="UINT8", shape=(-1, 45, 45)),
        Output(name="labels", datatype="UINT8", shape=(-1, 89, 89, 1)),
    ],
    ids=["name", "type", "size", "rank"],
)
def test_what_can_never_agree_is_rejected_before_anything_is_started(other: Output) -> None:
    here = site()
    here.give(order("bb", 2, gates=AGREE), Behaviour(version=2, outputs=(other,)))
    here.run()
    assert (here.selected, here.stages[-1]) == ("aa", "Rejected/OutputsDiffer")
    assert here.record.refused == ()
    assert not here.live("bb")
    here.give(order("bb", 2))
    here.run()
    assert here.selected == "bb"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((LABELS,), (Output(name="labels", datatype="UINT8", shape=(-1, -1, -1)),)),
        ((), (Output(name="classes", datatype="UINT8", shape=(-1,)),)),
    ],
    ids=["a free dimension fits any", "what an older agent staged is not known"],
)
def test_what_may_agree_is_compared(old: tuple[Output, ...], new: tuple[Output, ...]) -> None:
    here = site(old)
    here.give(order("bb", 2, gates=AGREE), Behaviour(version=2, outputs=new))
    here.run()
    assert here.selected == "bb"


def test_a_hot_fix_compares_nothing() -> None:
    here = site()
    other = Output(name="classes", datatype="UINT8", shape=(-1,))
    here.give(order("bb", 2, gates=AGREE, mode=Mode.DIRECT), Behaviour(version=2, outputs=(other,)))
    here.run()
    assert here.selected == "bb"
