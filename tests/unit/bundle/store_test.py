"""A file is in the store whole and right, or it is not there; what was there stays."""

import hashlib
import os
import stat
from pathlib import Path

import pytest
from edgefleet.bundle import DigestMismatch, DiskFull, NotInStore, Store, StoreUnavailable, TooLarge
from edgefleet.bundle.disk import digest_of

DATA = bytes(range(256)) * 5000
DIGEST = digest_of(DATA)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", reserve=0)


def test_bytes_put_in_come_out_under_their_digest(store: Store) -> None:
    assert store.put_bytes(DATA) == DIGEST == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    assert store.path(DIGEST) == store.root / "blobs" / "sha256" / DIGEST.removeprefix("sha256:")
    assert store.read(DIGEST, len(DATA)) == DATA
    assert store.size(DIGEST) == len(DATA)
    assert store.intact(DIGEST)


def test_putting_the_same_twice_keeps_one_copy(store: Store) -> None:
    store.put_bytes(DATA)
    inode = store.path(DIGEST).stat().st_ino
    store.put_bytes(DATA)
    assert store.path(DIGEST).stat().st_ino == inode
    assert store.usage().blobs == 1


def test_another_user_of_the_same_group_can_read_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        store = Store(tmp_path / "store", reserve=0)
        store.put_bytes(DATA)
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path(DIGEST).stat().st_mode) == 0o644
    for folder in (store.path(DIGEST).parent, store.path(DIGEST).parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_a_group_bit_set_by_the_volume_stays(tmp_path: Path) -> None:
    (tmp_path / "store" / "blobs" / "sha256").mkdir(parents=True)
    (tmp_path / "store" / "blobs" / "sha256").chmod(0o2775)
    Store(tmp_path / "store")
    assert stat.S_IMODE((tmp_path / "store" / "blobs" / "sha256").stat().st_mode) == 0o2775


def test_a_part_is_no_file_until_it_is_finished(store: Store) -> None:
    with store.part(DIGEST) as part:
        part.write(DATA)
        assert not store.has(DIGEST)
        part.finish()
    assert store.has(DIGEST)
    assert store.usage().part_bytes == 0


def test_a_part_goes_on_where_it_stopped(store: Store) -> None:
    with store.part(DIGEST) as part:
        part.write(DATA[:70_000])
    with store.part(DIGEST) as part:
        assert part.resume() == 70_000
        part.write(DATA[70_000:])
        part.finish()
    assert store.read(DIGEST, len(DATA)) == DATA


def test_a_part_that_is_not_what_it_should_be_gets_no_name_and_goes(store: Store) -> None:
    with store.part(DIGEST) as part:
        part.write(DATA[:-1] + b"!")
        with pytest.raises(DigestMismatch, match=DIGEST):
            part.finish()
    assert not store.has(DIGEST)
    assert store.usage().part_bytes == 0


def test_a_part_has_one_writer_at_a_time(store: Store) -> None:
    with store.part(DIGEST), pytest.raises(BlockingIOError):
        store.part(DIGEST)
    store.part(DIGEST).__exit__()


def test_bytes_that_somebody_else_is_writing_are_not_written_over(store: Store) -> None:
    with store.part(DIGEST), pytest.raises(StoreUnavailable, match="somebody else"):
        store.put_bytes(DATA)


def test_a_damaged_file_is_found_when_read_and_makes_room_for_a_good_one(store: Store) -> None:
    store.put_bytes(DATA)
    store.path(DIGEST).write_bytes(DATA[:-1] + b"!")
    assert not store.intact(DIGEST)
    with pytest.raises(DigestMismatch):
        store.read(DIGEST, len(DATA))
    store.put_bytes(DATA)
    assert store.intact(DIGEST)


def test_reading_is_bounded_and_says_what_is_missing(store: Store) -> None:
    store.put_bytes(DATA)
    with pytest.raises(TooLarge):
        store.read(DIGEST, 10)
    with pytest.raises(NotInStore, match="not in the store"):
        store.read(digest_of(b"other"), 10)
    assert not store.intact(digest_of(b"other"))


@pytest.mark.parametrize(
    "digest",
    ["", "sha256:../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 32, "sha256:" + "0" * 64 + "\n"],
)
def test_only_a_digest_leads_to_a_path(digest: str, store: Store) -> None:
    with pytest.raises(ValueError, match="no digest"):
        store.path(digest)


def test_eviction_keeps_what_it_is_told_and_frees_the_rest(store: Store) -> None:
    kept, gone = store.put_bytes(DATA), store.put_bytes(b"old" * 1000)
    with store.part(digest_of(b"never finished")) as part:
        part.write(b"x" * 500)
    assert store.evict(keep=[kept]) == 3500
    assert store.has(kept)
    assert not store.has(gone)
    assert store.usage().part_bytes == 0


def test_eviction_leaves_alone_what_is_being_fetched_and_what_is_pinned(store: Store) -> None:
    pinned = store.put_bytes(b"golden")
    with store.pin([pinned]), store.part(DIGEST) as part:
        part.write(DATA)
        assert store.evict(keep=[]) == 0
        part.finish()
        assert store.has(pinned)
    assert store.has(DIGEST)
    assert store.evict(keep=[]) == len(DATA) + len(b"golden")


def test_a_pin_holds_until_the_last_one_lets_go(store: Store) -> None:
    digest = store.put_bytes(DATA)
    with store.pin([digest]):
        with store.pin([digest]):
            pass
        assert store.evict(keep=[]) == 0


def test_downloads_leave_the_reserve_free(tmp_path: Path) -> None:
    store = Store(tmp_path, reserve=1 << 60)
    with store.part(DIGEST) as part, pytest.raises(DiskFull, match="do not fit"):
        part.room_for(1)


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        Store(tmp_path / "file")


def test_discarding_removes_a_file_and_its_part_and_does_not_mind_when_there_is_none(store: Store) -> None:
    store.put_bytes(DATA)
    store.discard(DIGEST)
    store.discard(DIGEST)
    assert not store.has(DIGEST)
