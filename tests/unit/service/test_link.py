"""The way of a call over several clusters, which services pass on without knowing."""

from __future__ import annotations

from typing import Any

from junctor.server import http_errors
from junctor.server.service.base import Service
from junctor.server.service.link import LINK, current_link, onward
from junctor.sql.errors import RemoteCallFailed

FROM = {"origin": "first", "hops": 2}


class Onward(Service):
    """Notes what a call to another cluster would say now."""

    name = "t.onward"
    noted: list[dict[str, Any]]

    def handle(self) -> None:
        self.noted.append(onward("ours"))


class Outer(Service):
    """Invokes it in this greenlet and in another one."""

    name = "t.outer"

    def handle(self) -> None:
        self.invoke(Onward)
        self.invoke(Onward, environ={})
        self.invoke_async(Onward.name)


def test_services_that_a_call_from_another_cluster_leads_to_are_one_link_further(bench) -> None:
    Onward.noted = []
    bench.deploy(Onward, Outer)
    bench.call(Outer, environ={LINK: FROM})
    assert bench.invoker.stop(5) == 0
    assert Onward.noted == [{"origin": "first", "hops": 3}] * 3
    assert current_link.get() is None


def test_a_call_of_this_cluster_takes_its_first_link(bench) -> None:
    Onward.noted = []
    bench.deploy(Onward, Outer)
    bench.call(Outer)
    assert bench.invoker.stop(5) == 0
    assert Onward.noted == [{"origin": "ours", "hops": 1}] * 3


def test_what_the_remote_end_refuses_is_no_fault_of_whoever_called_us() -> None:
    error = RemoteCallFailed("The remote end answered 403.", status=403, reason="no", remote_cid="x")
    answer = http_errors.answer(error)
    assert (answer.status, answer.details) == (502, http_errors.DEFAULT_DETAILS)
    assert http_errors.is_fault(error)
