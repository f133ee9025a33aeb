"""What an event asks for: a pass over the model only if something a decision rests on has changed."""

from pathlib import Path
from typing import Any, cast

import pytest
from edgefleet.bundle import RegistryOptions, Trust
from edgefleet.core import names
from edgefleet.handlers.hub import Hub
from edgefleet.handlers.settings import Settings
from support.fleet import served
from support.hubs import MODEL, NAMESPACE, Raw


@pytest.fixture
def asked() -> list[Any]:
    return []


@pytest.fixture
def hub(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub that hears, and only notes which models it would look at."""
    settings = Settings(Path("none"), "image", cast(Trust, None), cast(RegistryOptions, None), 0)
    made = Hub(cast(Any, None), settings)
    monkeypatch.setattr(made.models_queue, "add", lambda key, after=0.0: asked.append(key))
    monkeypatch.setattr(made.sites_queue, "add", lambda key, after=0.0: None)
    return made


@pytest.fixture
def order() -> Raw:
    """An order that its site serves by."""
    return served("a").hub.orders["a"]


def again(raw: Raw, version: str, **status: Any) -> Raw:
    """The same order after its site wrote its status once more."""
    fields = [{"manager": names.AGENT_MANAGER, "time": "2026-02-01T09:00:00Z"}]
    head = raw["metadata"] | {"resourceVersion": version, "managedFields": fields}
    return {**raw, "metadata": head, "status": raw["status"] | status}


def test_a_report_that_says_the_same_again_starts_no_pass(hub: Hub, asked: list[Any], order: Raw) -> None:
    hub.seen.orders.put(order)
    assert asked == [(NAMESPACE, MODEL)]
    hub.seen.orders.put(again(order, "900", traffic={"requests": 7}, reportedAt="2026-02-01T09:00:00Z"))
    assert asked == [(NAMESPACE, MODEL)]
    told = hub.seen.orders_of_model(NAMESPACE, MODEL)[0]
    assert told.reported is not None and told.reported.month == 2, "it was heard all the same"


def test_a_report_that_says_something_else_starts_one(hub: Hub, asked: list[Any], order: Raw) -> None:
    hub.seen.orders.put(order)
    hub.seen.orders.put(again(order, "900", stage="Blocked", reason="InsufficientDisk"))
    assert asked == [(NAMESPACE, MODEL)] * 2
