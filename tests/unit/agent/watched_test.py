"""What storms of real agents look at in the sites' cluster can find something."""

import itertools

import pytest
from edgefleet.core import names
from edgefleet.kube.client import Object
from support.real_sites import Watched

SPACES = {"models-a": "a"}


class Story:
    """Versions of objects, one after the other."""

    def __init__(self) -> None:
        self.watched = Watched()
        self._versions = itertools.count(1)

    def _tell(self, event: str, name: str, **rest: Object) -> None:
        meta = {"namespace": "models-a", "name": name, "resourceVersion": str(next(self._versions))}
        found = rest.pop("metadata", {})
        self.watched.hear(event, {"metadata": {**meta, **found}, **rest})

    def service(self, revision: str, event: str = "MODIFIED") -> None:
        self._tell(event, "team-digits", spec={"selector": {names.REVISION: revision}})

    def pod(self, revision: str, *, ready: bool = True, event: str = "MODIFIED") -> None:
        said = [{"type": "Ready", "status": str(ready)}]
        labels = {"labels": {names.REVISION: revision}}
        self._tell(event, f"pod-{revision}", metadata=labels, spec={}, status={"conditions": said})


def test_callers_who_are_moved_to_what_is_ready_are_counted() -> None:
    story = Story()
    story.service("nothing")
    story.pod("one")
    story.service("one")
    story.pod("two")
    story.service("two")
    story.pod("one", event="DELETED")
    assert story.watched.always_served(SPACES) == 1


@pytest.mark.parametrize("early", ["pod", "service"])
def test_callers_who_are_sent_to_nobody_are_found(early: str) -> None:
    story = Story()
    story.pod("one")
    story.service("one")
    if early == "pod":
        story.pod("one", ready=False)
    else:
        story.service("two")
    with pytest.raises(AssertionError, match="I10: at a callers are sent to"):
        story.watched.always_served(SPACES)


def test_a_service_that_was_taken_away_misses_nobody() -> None:
    story = Story()
    story.pod("one")
    story.service("one")
    story.service("one", event="DELETED")
    story.pod("one", event="DELETED")
    assert story.watched.always_served(SPACES) == 0
