"""The configuration of the load balancer as it is generated: the template ``haproxy.cfg`` and what depends on the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from string import Template
from typing import Final

from junctor.cli.accounts import Account
from junctor.cli.embedded.routing import HTTP_BACKEND, Backend, Routing, Rule
from junctor.cli.environment_file import LoadBalancerAddress, ServerAddress

MOST_CONNECTIONS: Final = 10_000  # 2 file descriptors and 35 KB each
SPARE_DESCRIPTORS: Final = 200

# What HAProxy answers itself, in the form of the servers' errors.  What it cannot even parse, HAProxy answers with a page of its own
# (haproxy#3032; fixed in later series).
ERRORS: Final = {
    400: "The request is malformed",
    408: "The request did not arrive in time",
    500: "The load balancer failed",
    502: "The server's answer is malformed or incomplete",
    503: "No server is available",
    504: "The server did not answer in time",
}
# Its servers are well while their HTTP ports say so: one that is stopping gets no more WebSockets.
WEBSOCKETS: Final = """
backend {name}
    balance leastconn
    option http-server-close
    retry-on conn-failure empty-response
    http-request disable-l7-retry if !{{ method GET HEAD OPTIONS }}
    default-server init-addr last,libc,none{tls}
{servers}
"""
# Certificates of channels are for their clients' eyes: they name neither the server nor its address.
TLS: Final = " ssl verify none"


@dataclass(frozen=True, slots=True)
class Resources:
    """What HAProxy may use: file descriptors, and the account of its workers if that is not ours."""

    descriptors: int
    account: Account | None = None


def render(routing: Routing, bind: LoadBalancerAddress, resources: Resources) -> str:
    """The configuration of a load balancer at ``bind`` that sends requests where ``routing`` says."""
    from importlib.resources import files  # not for every command

    template = Template(files("junctor.cli.embedded").joinpath("haproxy.cfg").read_text(encoding="utf-8"))
    account = resources.account
    text = template.substitute(
        maxconn=max(100, min(MOST_CONNECTIONS, (resources.descriptors - SPARE_DESCRIPTORS) // 2)),
        privileges=f"    uid {account.uid}\n    gid {account.gid}\n" if account else "",
        errors="\n".join(_error_line(status, details) for status, details in ERRORS.items()),
        bind=_socket_address(bind.host or "*", bind.port),
        rules="\n".join(_rules(routing.rules)),
        servers="\n".join(_server(server) for server in routing.servers),
        websockets="".join(_backend(backend) for backend in routing.backends),
    )
    return text.rstrip() + "\n"


def _rules(rules: tuple[Rule, ...]) -> Iterator[str]:
    """Two conditions each: two lines of one condition would mean that either is enough."""
    if rules:
        yield "    acl is_upgrade hdr(Upgrade) -i websocket"
    for number, rule in enumerate(rules, 1):
        yield f"    acl is_websocket_{number} path,url_dec -m str {_quoted(rule.path)}"
        yield f"    acl is_websocket_{number} path,url_dec -m beg {_quoted(rule.below)}"
    for number, rule in enumerate(rules, 1):
        yield f"    use_backend {rule.backend} if is_upgrade is_websocket_{number}"


def _backend(backend: Backend) -> str:
    return WEBSOCKETS.format(
        name=backend.name,
        tls=TLS if backend.is_secure else "",
        servers="\n".join(f"{_server(s)} track {HTTP_BACKEND}/http_plain--{s.name}" for s in backend.servers),
    )


def _server(server: ServerAddress) -> str:
    return f"    server http_plain--{server.name} {_socket_address(server.host, server.port)}"


def _error_line(status: int, details: str) -> str:
    body = f'{{"result":"Error","cid":"%[unique-id]","details":"{details}"}}'
    return (
        f"    http-error status {status} content-type application/json hdr X-Zato-CID %[unique-id] "
        f"lf-string {_quoted(body)}"
    )


def _socket_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _quoted(value: str) -> str:
    """``value`` as one word of HAProxy's configuration, in which nothing is special within single quotes."""
    return "'" + value.replace("'", "'\\''") + "'"
