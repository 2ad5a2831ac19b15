from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from junctor.cli.chaos.history import INFO, OK, PLAN, PUBLISH, Event, History, Sent, plan_in, read
from junctor.cli.chaos.messages import body_of, received_of, sent_of
from junctor.cli.chaos.plan import (
    BATCH,
    EXCLUSIVE,
    FAULTS,
    LINK_FAULTS,
    PULL,
    REST,
    SUBSCRIBERS,
    Draft,
    describe,
    drafts_of,
    make_plan,
    plan_of,
)
from junctor.sql.errors import InvalidInput


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(5, 120))
def test_a_plan_follows_from_its_seed_and_is_whole(seed, seconds):
    plan = make_plan(seed, seconds)

    assert plan == make_plan(seed, seconds)
    assert plan_of(plan.as_dict()) == plan
    assert {subscriber.kind for subscriber in plan.subscribers} == set(SUBSCRIBERS)
    assert {subscriber.topic for subscriber in plan.subscribers} == set(plan.topics)
    assert {publisher.topic for publisher in plan.publishers} == set(plan.topics)
    assert {publisher.kind for publisher in plan.publishers} == {REST, BATCH}
    assert all(0 < fault.at < seconds and fault.end <= seconds + 0.02 for fault in plan.faults)
    assert [fault.at for fault in plan.faults] == sorted(fault.at for fault in plan.faults)


@settings(max_examples=50)
@given(st.integers(0, 10_000))
def test_what_needs_the_database_to_start_never_overlaps_with_its_absence(seed):
    exclusive = [fault for fault in make_plan(seed, 60).faults if fault.kind in EXCLUSIVE]
    assert all(after.at >= before.end - 0.02 for before, after in pairwise(exclusive))


def test_seeds_differ():
    assert len({str(make_plan(seed, 60)) for seed in range(20)}) == 20


def test_every_kind_of_fault_comes_in_a_run_that_is_long_enough():
    assert {fault.kind for fault in make_plan(3, 200).faults} == set(FAULTS)


def test_faults_and_subscribers_can_be_chosen():
    plan = make_plan(3, 60, faults=LINK_FAULTS, kinds=(PULL,))
    assert {fault.kind for fault in plan.faults} == set(LINK_FAULTS)
    assert {subscriber.kind for subscriber in plan.subscribers} == {PULL}
    assert make_plan(3, 60, faults=()).faults == ()


def test_what_a_publisher_publishes_follows_from_the_seed_and_is_numbered():
    plan = make_plan(5, 20)
    [batch, *_] = [publisher for publisher in plan.publishers if publisher.kind == BATCH]
    calls = [drafts_of(plan, batch), drafts_of(plan, batch)]
    first, second = ([draft for _ in range(20) for draft in call()] for call in calls)
    assert first == second
    assert [draft.number for draft in first] == list(range(1, len(first) + 1))
    assert {draft.priority for draft in first} <= set(range(1, 10))


def test_a_plan_in_words_names_everybody_and_every_fault():
    plan = make_plan(5, 20)
    text = "\n".join(describe(plan))
    assert all(publisher.name in text for publisher in plan.publishers)
    assert all(subscriber.name in text for subscriber in plan.subscribers)
    assert len(describe(plan)) == 1 + len(plan.publishers) + len(plan.subscribers) + len(plan.faults)


def test_a_body_proves_that_it_is_whole():
    sent = sent_of("zpsm1", "publisher1", Draft(3, 100, 7, 0))
    message = {"msg_id": sent.id, "data": body_of(sent, 100), "delivery_count": 2}

    assert received_of(message).is_intact
    assert (received_of(message).id, received_of(message).count) == (sent.id, 2)
    assert not received_of(message | {"data": message["data"][:-1]}).is_intact
    assert not received_of(message | {"msg_id": "another"}).is_intact
    assert not received_of({"data": None}).is_intact


def test_a_history_is_read_as_it_was_written(tmp_path):
    history = History(tmp_path / "history.jsonl")
    plan = make_plan(1, 5)
    history.add(INFO, PLAN, value=plan.as_dict())
    written = history.add(OK, PUBLISH, "p", operation=history.new_operation(), sent=(Sent("m", 1),))
    history.close()
    history.add(OK, PUBLISH, "too late")

    events = list(read(history.path))

    assert events[1] == written
    assert len(events) == 2
    assert plan_of(plan_in(events)) == plan
    assert events[0].time <= events[1].time


def test_a_history_whose_last_line_was_cut_off_is_read_up_to_there(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"time":1,"type":"ok","f":"publish"}\n{"time":2,"ty')
    assert list(read(path)) == [Event(1.0, OK, PUBLISH)]


@pytest.mark.parametrize("text", ["nonsense\n{}\n", '{"time":1}\n'])
def test_a_file_that_is_no_history_is_refused(tmp_path, text):
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidInput, match="line 1"):
        list(read(path))
