"""The election by conversation: `>>` an event goes in, `<<` commands come out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core.election import (
    CAMPAIGN_AGAIN_SECONDS,
    CERTAIN,
    NEVER,
    REST_SECONDS,
    Campaign,
    Candidate,
    Event,
    Failed,
    Follower,
    KeySeen,
    Leader,
    LeaseEnded,
    Release,
    Renew,
    Renewed,
    Resign,
    State,
    Woken,
    Won,
    deadline,
    leads,
    step,
)

ABSENT = KeySeen("", 0)
OTHER = KeySeen("b.1", 7)
WON = Won("a.1", 9, 55, asked=10.0, ttl_seconds=2.0)


def leader() -> State:
    return step(Candidate(), WON, 10.05).state


def test_nobody_campaigns_before_the_key_was_looked_at() -> None:
    assert deadline(Follower()) is None
    assert step(Follower(), Woken(), 100.0).commands == ()


def test_an_absent_key_begins_a_campaign_and_a_present_one_does_not() -> None:
    assert step(Follower(), OTHER, 0.0) == step(Follower("b.1", True), OTHER, 0.0)
    stepped = step(Follower("b.1", True), ABSENT, 0.0)
    assert (stepped.state, stepped.commands) == (Candidate(), (Campaign(),))


def test_the_lease_counts_from_the_moment_of_asking_and_less_than_whole() -> None:
    state = leader()
    assert leads(state, 10.05) == 9
    assert leads(state, 10.0 + 2.0 * CERTAIN - 0.001) == 9
    assert leads(state, 10.0 + 2.0 * CERTAIN) is None


def test_an_answer_that_took_longer_than_the_lease_is_no_victory() -> None:
    stepped = step(Candidate(), WON, 12.5)
    assert isinstance(stepped.state, Follower)
    assert stepped.commands == (Release(55),)


def test_a_leader_renews_in_thirds_and_stops_by_its_own_clock() -> None:
    state = leader()
    assert deadline(state) == pytest.approx(10.0 + 2 / 3)
    stepped = step(state, Woken(), 10.7)
    assert stepped.commands == (Renew(55),)
    failed = step(stepped.state, Failed(), 11.2)
    assert leads(failed.state, 11.2) == 9
    assert step(failed.state, Woken(), 11.31).commands == (Renew(55),)
    late = step(stepped.state, Renewed(10.7, 2.0), 12.6)  # the answer came after the end
    assert isinstance(late.state, Follower)
    renewed = step(stepped.state, Renewed(10.7, 2.0), 10.8)
    assert leads(renewed.state, 12.5) == 9


def test_a_lost_lease_a_greater_fence_and_resigning_end_it() -> None:
    assert isinstance(step(leader(), LeaseEnded(), 10.5).state, Follower)
    assert step(leader(), KeySeen("b.1", 12), 10.5).state == Follower("b.1", True)
    resigned = step(leader(), Resign(), 10.5)
    assert resigned.commands == (Release(55),)
    assert step(resigned.state, ABSENT, 10.6).commands == ()  # it rests, so that another wins
    assert step(resigned.state, Woken(), 10.5 + REST_SECONDS).commands == (Campaign(),)


def test_old_news_does_not_unseat_a_leader_but_is_remembered() -> None:
    state = step(leader(), ABSENT, 10.1).state
    assert leads(state, 10.2) == 9
    stopped = step(state, Woken(), 12.0).state
    assert step(stopped, Woken(), 12.0 + CAMPAIGN_AGAIN_SECONDS).commands == (Campaign(),)
    assert step(leader(), KeySeen("b.1", 3), 10.1).state == leader()


@pytest.mark.parametrize("state", [Follower("", True), Candidate(), leader()])
def test_who_resigned_for_good_never_campaigns_or_leads_again(state: State) -> None:
    state = step(state, Resign(for_good=True), 10.5).state
    for event in (Won("a.1", 9, 55, 10.4, 2.0), Failed(), ABSENT, Woken()):
        stepped = step(state, event, 10.6)
        state = stepped.state
        assert Campaign() not in stepped.commands
        assert leads(state, 10.6) is None
    assert deadline(state) in (None, NEVER)


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.just(ABSENT),
    st.builds(KeySeen, st.sampled_from(["a.1", "b.1"]), st.integers(1, 20)),
    st.just(Failed()),
    st.just(LeaseEnded()),
    st.just(Woken()),
    st.builds(Resign, st.booleans()),
    st.builds(Renewed, st.floats(0, 30), st.just(2.0)),
    st.builds(Won, st.just("a.1"), st.integers(1, 20), st.just(5), st.floats(0, 30), st.just(2.0)),
)


@given(st.lists(st.tuples(EVENTS, st.floats(0, 1)), max_size=40))
def test_no_conversation_makes_it_lead_beyond_what_was_granted(conversation: list[tuple[Event, float]]) -> None:
    state: State = Follower()
    now, granted = 0.0, 0.0
    for event, seconds in conversation:
        now += seconds
        if isinstance(event, Won | Renewed):
            if event.asked > now:
                continue  # nobody asks in the future
            granted = max(granted, event.asked + event.ttl_seconds * CERTAIN)
        state = step(state, event, now).state
        if leads(state, now) is not None:
            assert isinstance(state, Leader)
            assert now < granted
