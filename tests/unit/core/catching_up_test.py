"""In which order sites catch up."""

from support.fleet import World, served
from support.hubs import bundle

NEW = [f"n{number:02}" for number in range(70)]


def first(of: World) -> list[str]:
    """Sites offered first when more join than may catch up at a time."""
    for name in NEW:
        of.hub.join(name)
    written = [write.site for write in of.hub.look().orders]
    assert len(written) == 50
    return written


def test_who_catches_up_first_differs_from_revision_to_revision_and_not_from_pass_to_pass() -> None:
    one, other = served("a"), served("a")
    other.hub.edit(bundle=bundle(2))
    other.go(12)
    assert [write.site for write in one.hub.decide().orders] == []
    firsts = [set(first(one)), set(first(other))]
    assert firsts[0] != firsts[1]
    assert all(found != set(NEW[:50]) for found in firsts)
    again = served("a")
    assert set(first(again)) == firsts[0]
