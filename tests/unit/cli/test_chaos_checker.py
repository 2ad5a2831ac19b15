"""Synthetic histories, each of which breaks one promise; the checker finds it, and nothing else."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from junctor.cli.chaos.checker import judge
from junctor.cli.chaos.history import (
    ACKNOWLEDGE,
    FAIL,
    FAULTS_OVER,
    INFO,
    INVOKE,
    OK,
    PHASE,
    PUBLISH,
    PULL,
    RECEIVE,
    Event,
    Received,
    Sent,
)
from junctor.cli.chaos.plan import HAND_OVER, NOTIFY, SERVICE, Plan, Publisher, Subscriber

STRICT = Subscriber("strict", NOTIFY, "t1", is_strict=True, batch=5)
LOOSE = Subscriber("loose", SERVICE, "t1", is_strict=False, batch=5)
POLITE = Subscriber("polite", HAND_OVER, "t1", is_strict=False, batch=5)
PLAN = Plan(
    1,
    10,
    ("t1", "t2"),
    (Publisher("p", "rest", "t1", 0.01), Publisher("q", "rest", "t2", 0.01)),
    (STRICT,),
    (),
)
MESSAGES = [Sent(f"m{number}", number) for number in range(1, 6)]


def published(*messages, at=1.0, by="p", topic="t1", type=OK):
    """Each message is published by itself."""
    for number, sent in enumerate(messages):
        time = at + number / 100
        yield Event(time, INVOKE, PUBLISH, by, number + 1, topic, sent=(sent,))
        yield Event(time + 0.005, type, PUBLISH, by, number + 1, topic, sent=(sent,))


def received(*ids, at=2.0, by="strict", count=0):
    """The messages arrive together."""
    items = tuple(Received(item.id if isinstance(item, Sent) else item, count) for item in ids)
    return Event(at, OK, RECEIVE, by, received=items)


def broken(*events, plan=PLAN, bound=60.0):
    """The promises which are broken, by the messages for which they are."""
    ordered = sorted(flat(events), key=lambda event: event.time)
    judgement = judge(plan, ordered, bound)
    return {
        verdict.name: [violation.message for violation in verdict.violations]
        for verdict in judgement.verdicts
        if not verdict.is_kept
    }


def flat(events):
    for event in events:
        if isinstance(event, Event):
            yield event
        else:
            yield from event


def with_subscriber(subscriber):
    return replace(PLAN, subscribers=(subscriber,))


def test_a_run_in_which_everything_arrives_in_order_breaks_nothing():
    assert broken(published(*MESSAGES), received(*MESSAGES)) == {}


def test_an_acknowledged_message_that_never_arrives_is_lost():
    assert broken(published(*MESSAGES), received(*MESSAGES[:4])) == {"No loss": ["m5"]}


def test_a_message_must_arrive_at_every_subscription():
    plan = replace(PLAN, subscribers=(STRICT, LOOSE))
    judgement = judge(plan, [*published(MESSAGES[0]), received("m1")])
    [violation] = judgement.verdicts[0].violations
    assert (violation.subscription, violation.message) == ("loose", "m1")


def test_a_message_that_was_never_acknowledged_may_arrive_or_not():
    assert broken(published(MESSAGES[0], type=INFO)) == {}
    assert broken(published(MESSAGES[0], type=INFO), received("m1")) == {}


def test_a_message_that_expires_may_be_missing():
    assert broken(published(replace_sent(expiration=2))) == {}


def replace_sent(**more):
    return Sent("m1", 1, **more)


def test_a_message_of_another_topic_is_not_expected_and_must_not_arrive():
    other = list(published(MESSAGES[0], by="q", topic="t2"))
    assert broken(other) == {}
    assert broken(other, received("m1")) == {"No invention": ["m1"]}


def test_a_message_that_nobody_published_is_invented():
    assert broken(received("x")) == {"No invention": ["x"]}


def test_a_message_with_another_content_is_found():
    event = Event(2.0, OK, RECEIVE, "strict", received=(Received("m1", is_intact=False),))
    assert broken(published(MESSAGES[0]), event) == {"No invention": ["m1"]}


def test_a_duplicate_must_say_that_it_is_one():
    again = received("m1", at=3.0)
    assert broken(published(MESSAGES[0]), received("m1"), again) == {"No unmarked duplicate": ["m1"]}
    assert broken(published(MESSAGES[0]), received("m1"), received("m1", at=3.0, count=1)) == {}


def test_what_was_confirmed_to_be_acknowledged_must_not_come_again():
    confirmed = Event(2.5, OK, ACKNOWLEDGE, "strict", received=(Received("m1"),))
    events = [*published(MESSAGES[0]), received("m1"), confirmed]
    assert broken(events) == {}
    assert broken(events, received("m1", at=3.0, count=1)) == {"No return": ["m1"]}
    lost = Event(2.5, INFO, ACKNOWLEDGE, "strict")
    assert broken(published(MESSAGES[0]), received("m1"), lost, received("m1", at=3.0, count=1)) == {}


def test_messages_of_a_publisher_must_arrive_in_their_order():
    assert broken(published(*MESSAGES[:2]), received("m2", "m1")) == {"Order": ["m1"]}


def test_messages_of_different_publishers_and_priorities_may_overtake_each_other():
    first, second = Sent("a", 1), Sent("b", 2, priority=9)
    assert broken(published(first, second), received("b", "a")) == {}
    assert broken(published(first), published(Sent("c", 2), by="other"), received("c", "a")) == {}


def test_only_the_first_reception_counts_for_the_order():
    again = received("m1", "m2", at=3.0, count=1)
    assert broken(published(*MESSAGES[:2]), received("m1", "m2"), again) == {}


def test_where_errors_do_not_block_a_message_that_comes_again_may_be_late():
    events = [
        *published(*MESSAGES[:2]),
        received("m2", by="loose"),
        received("m1", at=3.0, by="loose", count=1),
    ]
    assert broken(events, plan=with_subscriber(LOOSE)) == {}
    strict = [*published(*MESSAGES[:2]), received("m2"), received("m1", at=3.0, count=1)]
    assert broken(strict) == {"Order": ["m1"]}


def test_what_arrives_long_after_the_last_fault_was_at_a_standstill():
    over = Event(5.0, INFO, PHASE, value=FAULTS_OVER)
    assert broken(published(MESSAGES[0]), over, received("m1", at=14.0), bound=10) == {}
    assert broken(published(MESSAGES[0]), over, received("m1", at=16.0), bound=10) == {
        "No standstill": ["m1"]
    }


def pulled(*ids, at=2.0, operation=7, type=OK):
    yield Event(at, INVOKE, PULL, "polite", operation, 2)
    yield Event(at + 0.1, type, PULL, "polite", operation)
    if ids:
        yield received(*ids, at=at + 0.1, by="polite")


def test_what_is_handed_over_may_be_lost_with_an_answer_but_no_more():
    plan = with_subscriber(POLITE)
    events = [*published(*MESSAGES[:3]), *pulled("m3")]
    assert broken(events, plan=plan) == {"Hand-over": ["m1"]}
    assert broken(events, pulled(at=3.0, operation=8, type=INFO), plan=plan) == {}


def test_a_pull_that_has_no_end_counts_as_one_whose_answer_was_lost():
    unanswered = Event(3.0, INVOKE, PULL, "polite", 9, 2)
    assert broken(published(*MESSAGES[:2]), unanswered, plan=with_subscriber(POLITE)) == {}


def test_what_is_handed_over_never_comes_again():
    events = [
        *published(MESSAGES[0]),
        received("m1", by="polite"),
        received("m1", by="polite", at=3.0, count=1),
    ]
    assert broken(events, plan=with_subscriber(POLITE)) == {"No unmarked duplicate": ["m1"]}


def test_a_call_that_is_refused_for_good_is_told():
    refusal = Event(1.0, FAIL, PUBLISH, "p", 1, "t1", text="404 No such topic")
    assert broken(refusal) == {"No refusal": [""]}


def test_the_numbers_are_those_of_the_history():
    judgement = judge(PLAN, [*published(*MESSAGES), received(*MESSAGES), received("m1", at=3.0, count=1)])
    [tally] = judgement.tallies
    assert (tally.expected, tally.received, tally.repeated, tally.receptions) == (5, 5, 1, 6)
    assert (judgement.attempted, judgement.acknowledged) == (5, 5)


@settings(max_examples=60)
@given(
    drop=st.sets(st.integers(1, 30), max_size=3),
    again=st.sets(st.integers(1, 30), max_size=3),
    cuts=st.sets(st.integers(2, 29), max_size=6),
)
def test_exactly_the_messages_that_are_missing_or_repeated_are_named(drop, again, cuts):
    messages = [Sent(f"m{number}", number) for number in range(1, 31)]
    arrived = [sent for sent in messages if sent.number not in drop]
    edges = [0, *sorted(cuts), len(arrived)]
    events = [received(*arrived[low:high], at=2 + low / 100) for low, high in pairwise(edges)]
    events += [received(f"m{number}", at=5.0) for number in sorted(again - drop)]
    found = broken(published(*messages), events)
    expected = {}
    if drop:
        expected["No loss"] = sorted((f"m{n}" for n in drop), key=lambda name: int(name[1:]))
    assert {name: sorted(ids, key=lambda i: int(i[1:])) for name, ids in found.items()} == (
        expected
        | ({"No unmarked duplicate": [f"m{n}" for n in sorted(again - drop)]} if again - drop else {})
    )


@pytest.mark.parametrize("subscriber", [STRICT, LOOSE, POLITE])
def test_an_empty_history_breaks_nothing(subscriber):
    assert judge(with_subscriber(subscriber), []).is_kept
