"""The journal: after any crash there is the old one or the new one, and a broken one harms nothing that serves."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgefleet.agent.journal import Journal, JournalError, Policy
from edgefleet.core.local_record import Record
from edgefleet.core.order import OrderIdentity

RECORD = Record(
    spec={"orderVersion": 1, "a field of tomorrow": [1]}, identity=OrderIdentity(uid="u", generation=3)
)


async def test_what_was_written_is_read_again_word_for_word(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    await journal.update("team.digits", lambda _: RECORD)
    await journal.set_policy(Policy(spec={"heartbeatInterval": "7s"}, generation=2))
    again = Journal(tmp_path)
    assert again.models == {"team.digits": RECORD}
    assert again.policy.spec == {"heartbeatInterval": "7s"}
    assert not again.fresh


async def test_a_forgotten_model_is_gone(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    await journal.update("team.digits", lambda _: RECORD)
    assert await journal.leave("team.digits", RECORD, None)
    assert Journal(tmp_path).models == {}


async def test_a_model_that_was_ordered_again_meanwhile_is_not_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    await journal.update("team.digits", lambda _: RECORD)
    assert not await journal.leave("team.digits", msgspec.structs.replace(RECORD, finished="Removed"), None)
    assert Journal(tmp_path).models == {"team.digits": RECORD}


@pytest.mark.parametrize("point", ["fsync", "replace"])
async def test_power_lost_before_the_move_leaves_the_old_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    journal = Journal(tmp_path)
    await journal.update("team.digits", lambda _: RECORD)

    def lost(*_: Any) -> None:
        raise OSError(5, "power lost")

    with monkeypatch.context() as patched:
        patched.setattr(os, point, lost)
        with pytest.raises(JournalError, match=r"journal\.json: power lost"):
            await journal.update("team.digits", lambda was: msgspec.structs.replace(was, name="later"))
    assert journal.models["team.digits"] == RECORD
    assert Journal(tmp_path).models == {"team.digits": RECORD}
    assert not (tmp_path / "journal.new").exists()


async def test_the_file_is_on_the_disk_before_it_is_moved_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        fsync(descriptor)

    def moved(source: Path, target: Path) -> None:
        done.append("move")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", moved)
    await journal.update("team.digits", lambda _: RECORD)
    assert done == ["file", "move", "folder"]


BROKEN = [
    ("empty", b""),
    ("cut off", b'{"format": 1, "models": {"team.dig'),
    ("another format", b'{"format": 2}'),
    ("no journal at all", b'["what?"]'),
    ("a record of another shape", b'{"format": 1, "models": {"team.digits": {"refused": 7}}}'),
    ("not text", b"\xff\xfe\x00"),
]


@pytest.mark.parametrize("content", [row[1] for row in BROKEN], ids=[row[0] for row in BROKEN])
async def test_a_broken_journal_is_set_aside_and_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.json").write_bytes(content)
    journal = Journal(tmp_path)
    assert (journal.models, journal.fresh) == ({}, True)
    assert "journal.json could not be read" in journal.lost
    assert (tmp_path / "journal.broken").read_bytes() == content
    await journal.update("team.digits", lambda _: RECORD)
    assert Journal(tmp_path).models == {"team.digits": RECORD}


async def test_fields_of_a_newer_agent_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "journal.json").write_bytes(
        b'{"format": 1, "later": 1, "models": {"a.b": {"more": 2, "name": "x"}}}'
    )
    assert Journal(tmp_path).models["a.b"].name == "x"


async def test_writing_what_is_there_writes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    await journal.update("team.digits", lambda _: RECORD)
    before = (tmp_path / "journal.json").stat().st_ino
    await journal.update("team.digits", lambda _: RECORD)
    assert (tmp_path / "journal.json").stat().st_ino == before
