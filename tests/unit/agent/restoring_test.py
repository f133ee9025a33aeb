"""A lost journal is read back from the mirrors: all of them, whenever the power goes."""

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from edgefleet.agent.journal import Journal, JournalError
from edgefleet.agent.mirror import Mirrors
from edgefleet.core import names
from edgefleet.kube import kinds
from support.little_api import LittleApi, little_api

NAMES = ["team.cats", "team.digits", "team.dogs"]


def mirror(server: LittleApi, name: str) -> None:
    meta = {
        "name": name,
        "labels": {names.ORIGIN: names.ORIGIN_HUB},
        "annotations": {names.HUB_ORDER: "u1/3"},
    }
    server.put(kinds.EDGE_DEPLOYMENT, "models", {"metadata": meta, "spec": {"revision": "aa"}})


@pytest.mark.parametrize("survives", [0, 1])
async def test_power_lost_while_a_journal_is_restored_loses_no_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survives: int
) -> None:
    replace, moves = os.replace, iter(range(100))

    def until_the_power_goes(*paths: Any) -> None:
        if next(moves) >= survives:
            raise OSError(5, "power lost")
        replace(*paths)

    async with little_api() as (server, api):
        for name in NAMES:
            mirror(server, name)
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", until_the_power_goes)
            with contextlib.suppress(JournalError):
                await Mirrors(api, "models", Journal(tmp_path)).restore()
        journal = Journal(tmp_path)
        if journal.fresh:
            await Mirrors(api, "models", journal).restore()
        assert sorted(journal.models) == NAMES
        assert sorted(Journal(tmp_path).models) == NAMES
