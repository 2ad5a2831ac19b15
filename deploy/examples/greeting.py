"""Example services: one that invokes another."""

from zato.server.service import Service


class Hello(Service):
    """Greets whoever is named."""

    name = "greeting.hello"

    def handle(self):
        name = self.request.input.get("name") or "world"
        self.response.payload = {"greeting": f"Hello, {name}!"}


class Guide(Service):
    """Invokes services as if they were functions."""

    name = "greeting.guide"

    def handle(self):
        greeting = self.invoke("greeting.hello", {"name": "visitor"})
        price = self.invoke("orders.price", {"customer": "visitor", "quantity": 2, "unit_price": 9.5})
        self.response.payload = {"greeting": greeting["greeting"], "price": price["total"]}
