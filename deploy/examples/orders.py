"""Example services: orders."""

from zato.server.service import Float, Int, Service


class PriceOrder(Service):
    """What an order costs: a declared input and output, checked and converted."""

    name = "orders.price"
    input = "customer", Int("quantity"), Float("unit_price"), "-coupon"
    output = "customer", Float("total"), "discount"

    def handle(self):
        order = self.request.input
        discount = 10 if order.coupon == "WELCOME" else 0
        self.response.payload.customer = order.customer
        self.response.payload.total = round(order.quantity * order.unit_price * (100 - discount) / 100, 2)
        self.response.payload.discount = f"{discount} %"


class GetOrder(Service):
    """One service, several HTTP methods; {order_id} comes from the path."""

    name = "orders.get"

    def handle_GET(self):
        self.response.payload = {
            "order_id": self.request.input.order_id,
            "status": "shipped",
            "cid": self.cid,
        }

    def handle_DELETE(self):
        self.logger.info("Order %s cancelled", self.request.input.order_id)
        self.response.status_code = 204
