"""The load of pubsub_load.py for RabbitMQ, through kombu: publishers that wait for confirms, and a consumer that acknowledges.

    python tests/bench/rabbitmq_load.py publish URL QUEUE --connections 16 --seconds 5 [--rate 300]
    python tests/bench/rabbitmq_load.py subscribe URL QUEUE

The queue is a quorum queue, and messages are persistent.  It prints what pubsub_load.py does.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from itertools import count
from time import monotonic, process_time, sleep

from kombu import Connection, Message, Queue
from pubsub_load import Received, payload, summary

PREFETCH = 500  # messages, as many as a batch of Junctor has
END_TIMEOUT = 30.0  # seconds


def main() -> None:
    """Runs the load that the arguments ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("load", choices=("publish", "subscribe"))
    parser.add_argument("url")
    parser.add_argument("queue")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--size", type=int, default=200)
    given = parser.parse_args()
    print(json.dumps(publish(given) if given.load == "publish" else subscribe(given)))


def quorum_queue(name: str) -> Queue:
    """A queue whose messages survive."""
    return Queue(name, routing_key=name, durable=True, queue_arguments={"x-queue-type": "quorum"})


def publish(given: argparse.Namespace) -> dict[str, float]:
    """What publishers measured, each on a connection and in a thread of its own, with one message on its way."""
    numbers, waits = count(), []
    begin = threading.Barrier(given.connections + 1)

    def run() -> None:
        with Connection(given.url, transport_options={"confirm_publish": True}) as connection:
            producer = connection.Producer()
            producer.publish(payload(-1, given.size), routing_key="nobody")  # connects
            begin.wait()
            start = monotonic()
            while (now := monotonic()) < start + given.seconds:
                number = next(numbers)
                if given.rate and (early := number / given.rate - (now - start)) > 0:
                    sleep(early)
                sent = monotonic()
                producer.publish(
                    payload(number, given.size), routing_key=given.queue, delivery_mode=2, serializer=None
                )
                waits.append(monotonic() - sent)

    threads = [threading.Thread(target=run) for _ in range(given.connections)]
    for thread in threads:
        thread.start()
    begin.wait()
    began, cpu = monotonic(), process_time()
    for thread in threads:
        thread.join()
    took = monotonic() - began
    if next(numbers) != len(waits):
        raise ConnectionError("a publisher failed")
    busy = (process_time() - cpu) / took
    return {"published": len(waits), "rate": len(waits) / took, "busy": busy} | summary(waits)


def subscribe(given: argparse.Namespace) -> dict[str, float]:
    """What a consumer measured until it had as many messages as its standard input said."""
    received, wanted, until = Received(), 0, float("inf")

    def read_count() -> None:
        nonlocal wanted, until
        wanted = int(sys.stdin.readline() or "0")
        until = monotonic() + END_TIMEOUT

    def take(body: str, message: Message) -> None:
        received.take([{"data": body, "delivery_count": int(message.delivery_info.get("redelivered", 0))}])
        message.ack()

    with Connection(given.url) as connection:
        queue = quorum_queue(given.queue)
        queue(connection.default_channel).declare()
        with connection.Consumer(queue, on_message=lambda message: take(message.body, message)) as consumer:
            consumer.qos(prefetch_count=PREFETCH)
            print(json.dumps({"sub_key": given.queue}), flush=True)
            threading.Thread(target=read_count, daemon=True).start()
            cpu, began = process_time(), monotonic()
            while not (wanted and len(received.seen) >= wanted) and monotonic() < until:
                try:
                    connection.drain_events(timeout=1)
                except TimeoutError:
                    continue
            busy = (process_time() - cpu) / (monotonic() - began)
    return received.result() | {"busy": busy}


if __name__ == "__main__":
    main()
