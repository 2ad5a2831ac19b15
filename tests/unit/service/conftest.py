"""A platform and an invoker for services that tests define."""

from types import SimpleNamespace

import pytest

from junctor.server.service.base import Service
from junctor.server.service.call import Call
from junctor.server.service.info import describe
from junctor.server.service.invoke import Invoker, InvokerSettings
from junctor.server.service.store import ServiceStore


class Bench:
    """Deploys classes and invokes them; ``finished`` has the name and the outcome of every call."""

    def __init__(self):
        self.finished = []
        self.store = ServiceStore()
        self.platform = SimpleNamespace(out=SimpleNamespace(rest={"CRM": "connection"}))
        self.invoker = self.new_invoker()

    def new_invoker(self, **settings):
        def record(name, seconds, outcome):
            assert seconds >= 0
            self.finished.append((name, outcome))

        return Invoker(self.store, self.platform, InvokerSettings(metrics=record, **settings))

    def deploy(self, *classes: type[Service]):
        for cls in classes:
            self.store.replace(cls.__name__, [describe(cls, file_name=cls.__name__)])

    def call(self, cls: type[Service], payload="", **call):
        return self.invoker.invoke(Call(cls.name, payload, **call))


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.invoker.stop(0)
