"""The stages of a rollout, told as stories: who says what, and what follows."""

from dataclasses import replace

from meridian.core.judging import HANDSHAKES, Arms, Sample, Tally
from meridian.core.machine import Step
from meridian.core.rollout import (
    CHECK_SECONDS,
    REGION_SHARE,
    Command,
    Enter,
    Finish,
    NodeTrial,
    Observed,
    Part,
    Rollout,
    Stage,
    Undo,
    deadline,
    first_generation,
    part,
    progress,
    step,
)

NEW = Rollout(candidate=8, base=7)
NODES = {"a1": "asia", "a2": "asia", "e1": "europe", "u1": "usa"}


def nodes(answered: bool = True, **trials: NodeTrial) -> dict[str, NodeTrial]:
    return {name: NodeTrial(region, answered) for name, region in NODES.items()} | trials


def counted(rollout: Rollout, exchanges: int, failed: int = 0) -> dict[str, NodeTrial]:
    """Each node that tries the candidate saw so many exchanges of it, and twenty times as many of the other."""
    found = {}
    for name, region in NODES.items():
        share = part(rollout, name, region).share
        arms = Arms(share, {"r": Tally(20 * exchanges)}, {"r": Tally(exchanges, failed=failed)}) if share else None
        found[name] = NodeTrial(region, True, arms=arms)
    return found


def look(rollout: Rollout, seen: dict[str, NodeTrial], now: float) -> Step[Rollout, Command]:
    return step(rollout, Observed(seen), now)


def canary() -> Rollout:
    return look(NEW, nodes(), 1.0).state


def region() -> Rollout:
    return look(canary(), counted(canary(), 100), 11.0).state


def test_a_good_document_goes_through_all_stages() -> None:
    began = look(NEW, nodes(), 1.0)
    assert began.commands == (Enter(),)
    assert (began.state.stage, began.state.canaries, began.state.generation) == (Stage.CANARY, ("a1", "e1", "u1"), 2)
    waits = look(began.state, counted(began.state, 100), 10.9)
    assert waits.commands == () and waits.state.detail == "no worse in 300 exchanges so far"
    second = look(waits.state, counted(began.state, 100), 11.0)
    assert (second.state.stage, second.state.region, second.commands) == (Stage.REGION, "asia", (Enter(),))
    last = look(second.state, counted(second.state, 150), 21.0)
    assert (last.state.stage, last.commands) == (Stage.DONE, (Finish(),))
    assert look(last.state, counted(second.state, 150), 22.0).commands == ()


def test_nothing_is_tried_before_every_node_has_compiled_it() -> None:
    waits = look(NEW, nodes(u1=NodeTrial("usa")), 1.0)
    assert (waits.state.stage, waits.state.detail) == (Stage.CHECKING, "waiting for u1 to check it")
    refused = look(NEW, nodes(u1=NodeTrial("usa", refused="port 80 is taken")), 1.0)
    assert refused.commands == (Undo("refused by u1: port 80 is taken"),)
    silent = look(NEW, nodes(u1=NodeTrial("usa")), CHECK_SECONDS)
    assert silent.state.stage is Stage.UNDONE and "u1 did not say" in silent.state.detail
    assert look(NEW, {}, 100.0).state is NEW, "a leader that sees no member sees nothing"


def test_a_bad_document_is_undone_at_once_and_says_what_was_seen() -> None:
    for rollout in (canary(), region()):
        undone = look(rollout, counted(rollout, 20, failed=20), rollout.since + 0.5)
        assert undone.state.stage is Stage.UNDONE
        assert isinstance(undone.commands[0], Undo) and "(100.0 %) failed" in undone.state.detail


def test_with_too_little_traffic_it_holds_for_ever() -> None:
    held = look(canary(), counted(canary(), 4), 1e6)
    assert held.commands == () and held.state.detail == "too little traffic to judge: 12 of 200 exchanges"


def test_changed_certificates_want_handshakes_for_as_long_again() -> None:
    def shown(count: int) -> dict[str, NodeTrial]:
        found = counted(canary(), 100)
        sample = Sample(0.05, Tally(20 * count), Tally(count))
        for name in ("a1", "e1"):
            arms = found[name].arms
            assert arms is not None
            found[name] = replace(found[name], arms=replace(arms, samples={HANDSHAKES: sample}))
        return found

    few = look(canary(), shown(4), 11.0)
    assert few.commands == () and few.state.detail.endswith("the changed certificates: 8 of 10")
    assert look(canary(), shown(5), 11.0).commands == (Enter(),)
    assert look(canary(), shown(4), 21.0).commands == (Enter(),), "and no longer"
    assert look(canary(), counted(canary(), 100), 11.0).commands == (Enter(),), "none changed"


def test_a_node_that_leaves_while_it_tries_ends_it() -> None:
    seen = counted(canary(), 100)
    del seen["e1"]
    assert "e1 left or restarted" in look(canary(), seen, 20.0).state.detail
    del seen["a2"], seen["a1"]
    without_a2 = {name: node for name, node in counted(canary(), 100).items() if name != "a2"}
    assert look(canary(), without_a2, 11.0).commands == (Enter(),), "a node that tries nothing may go"


def test_who_takes_how_much() -> None:
    assert part(None, "a1", "asia") == Part()
    assert part(NEW, "a1", "asia") == Part(8, 1, 0.0)
    assert {name: part(canary(), name, at).share for name, at in NODES.items()} == {
        "a1": 0.05, "a2": 0.0, "e1": 0.05, "u1": 0.05
    }  # fmt: skip
    assert {name: part(region(), name, at).share for name, at in NODES.items()} == {
        "a1": REGION_SHARE, "a2": REGION_SHARE, "e1": 0.05, "u1": 0.05
    }  # fmt: skip
    assert part(replace(NEW, stage=Stage.UNDONE), "a1", "asia") == Part()


def test_counts_of_another_share_are_not_mixed_in() -> None:
    stale = counted(canary(), 1_000)  # 5 %, of nodes that have not heard of the region's turn
    assert progress(region(), stale).candidate.exchanges == 0


def test_a_new_leader_waits_a_stage_again_and_goes_on() -> None:
    resumed = replace(canary(), since=500.0)
    assert deadline(resumed) == 510.0
    assert look(resumed, counted(resumed, 100), 505.0).commands == ()
    assert look(resumed, counted(resumed, 100), 510.0).commands == (Enter(),)


def test_generations_of_two_rollouts_never_meet() -> None:
    """Counts that are left of one would be taken for those of the next."""
    assert first_generation(9) > first_generation(8) + len(Stage) - 1


def test_deadlines() -> None:
    assert deadline(NEW) == CHECK_SECONDS
    assert deadline(replace(NEW, stage=Stage.DONE)) is None
