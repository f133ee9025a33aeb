"""The door of the hub's decisions about one EdgeModel."""

from datetime import datetime

from edgefleet.core.types import ModelDecision, ModelSeen


def decide_model(seen: ModelSeen, now: datetime) -> ModelDecision:
    """What to do about an EdgeModel, its rollouts and its orders. `now` is the hub's clock, with its zone."""
    raise NotImplementedError
