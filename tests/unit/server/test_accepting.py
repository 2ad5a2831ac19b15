import pytest

from junctor.server.runtime.accepting import Accepting


@pytest.fixture
def workers(tmp_path):
    return [Accepting(tmp_path / "lock") for _ in range(3)]


def accepting(workers):
    return [worker.event.is_set() for worker in workers]


def test_nobody_accepts_before_it_knows_whether_it_can_serve(workers):
    assert accepting(workers) == [False, False, False]


def test_who_has_loaded_accepts(workers):
    workers[0].loaded()
    workers[1].loaded()

    assert accepting(workers) == [True, True, False]


def test_who_cannot_load_leaves_clients_to_one_that_has_loaded(workers):
    workers[0].loaded()
    workers[1].failed()

    assert accepting(workers) == [True, False, False]


def test_when_none_can_load_each_says_why(workers):
    workers[0].failed()
    workers[1].failed()

    assert accepting(workers) == [True, True, False]


def test_who_loads_after_others_have_failed_accepts_and_keeps_newcomers_from_failing_aloud(workers):
    workers[0].failed()
    workers[0].loaded()
    workers[1].failed()

    assert accepting(workers) == [True, False, False]


def test_where_the_lock_cannot_be_made_everybody_accepts(tmp_path):
    workers = [Accepting(tmp_path / "nowhere" / "lock") for _ in range(2)]

    workers[0].loaded()
    workers[1].failed()

    assert accepting(workers) == [True, True]
