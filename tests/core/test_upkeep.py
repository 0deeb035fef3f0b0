"""When history is forgotten, when a member may be silent, and what an operator is told."""

import pytest

from meridian.core.upkeep import (
    MemberHealth,
    Window,
    in_turn,
    may_disarm,
    needs_room,
    sampled,
    to_compact,
    warnings,
    why_not_defragment,
)

MIB = 1024 * 1024
QUOTA = 1000 * MIB


def member(name: str, *, reachable: bool = True, leads: bool = False, db: int = 10, used: int = 10,
           alarms: tuple[str, ...] = ()) -> MemberHealth:  # fmt: skip
    """`db` and `used` in MiB."""
    return MemberHealth(name, reachable, "said", reachable, leads, db * MIB, used * MIB, 0, alarms)


def test_history_is_kept_for_the_whole_window_and_forgotten_once() -> None:
    window = Window()
    compacted = []
    for minute in range(30):
        now = 60.0 * minute
        window = sampled(window, 100 * minute, now, 600.0)
        if (revision := to_compact(window, now, 600.0)) is not None:
            assert revision <= 100 * (minute - 10)  # what a watch of ten minutes ago needs is there
            window = Window(window.samples, revision)
            compacted.append(revision)
        assert len(window.samples) <= 12
    assert compacted == [100 * minute for minute in range(1, 20)]
    assert to_compact(window, 60.0 * 29, 600.0) is None


def test_a_store_put_in_the_place_of_another_is_not_compacted_by_the_revisions_of_that() -> None:
    window = sampled(sampled(Window(), 5000, 0.0), 6000, 700.0)
    assert to_compact(window, 700.0) == 5000
    window = sampled(window, 12, 760.0)
    assert to_compact(window, 760.0) is None
    assert window == Window(((760.0, 12),))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (member("m1", reachable=False), "start this member again"),
        (member("m1", alarms=("NOSPACE",)), "meridian store defrag"),
        (member("m1", alarms=("CORRUPT",)), "add it anew"),
        (member("m1", db=700, used=100), "70 % of its quota is taken, 10 % is in use; run: meridian store defrag"),
        (member("m1", db=700, used=700), "raise its --quota-backend-bytes"),
    ],
)
def test_every_warning_names_the_member_and_the_remedy(bad: MemberHealth, words: str) -> None:
    (warning,) = warnings([member("m0"), bad, member("m2", db=699)], QUOTA)
    assert warning.startswith("m1: ")
    assert words in warning


def test_a_member_s_own_quota_counts_before_the_one_configured() -> None:
    told = MemberHealth("m0", True, "", True, False, 70, 70, 100)
    assert warnings([told], QUOTA)
    assert not warnings([told, member("m1", db=600)], QUOTA)[1:]


def test_no_member_is_made_silent_while_another_is_not_well() -> None:
    well = [member("m0", leads=True), member("m1"), member("m2")]
    assert why_not_defragment(well) is None
    assert in_turn(well) == ("m1", "m2", "m0")
    assert "m1" in (why_not_defragment([well[0], member("m1", reachable=False), well[2]]) or "")
    assert why_not_defragment([]) is not None


def test_room_is_made_by_itself_only_where_it_is_safe_and_helps() -> None:
    full = [member(f"m{n}", db=800, used=100) for n in range(3)]
    assert needs_room(full, QUOTA)
    assert not needs_room(full[:2], QUOTA)  # of two members one alone is no majority
    assert not needs_room([*full[:2], member("m2", reachable=False)], QUOTA)
    assert not needs_room([member(f"m{n}", db=800, used=700) for n in range(3)], QUOTA)
    assert not needs_room([member(f"m{n}", db=600, used=10) for n in range(3)], QUOTA)


def test_the_alarm_is_taken_back_only_when_every_member_has_room() -> None:
    raised = member("m0", alarms=("NOSPACE",))
    assert may_disarm([raised, member("m1")], QUOTA)
    assert not may_disarm([raised, member("m1", db=900)], QUOTA)
    assert not may_disarm([raised, member("m1", reachable=False)], QUOTA)
    assert not may_disarm([member("m0"), member("m1")], QUOTA)
