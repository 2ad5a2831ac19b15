"""Serves the page, and forwards /zato/sso/ to the cluster, so that both are of one origin: browsers demand it, and so do passkeys.

    python deploy/examples/sso_spa/serve.py --port 5001 --cluster http://127.0.0.1:11223

In production this is the business of a load balancer: HAProxy, nginx or the like, with TLS.
"""

from __future__ import annotations

import argparse
import http.client
import json
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

FILES = Path(__file__).parent
API = "/zato/sso/"
MAX_BODY = 100_000  # bytes
TIMEOUT = 30  # seconds
PASSED_ON = ("Authorization", "Content-Type", "User-Agent", "Accept")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Handler(SimpleHTTPRequestHandler):
    """Three files, and the API."""

    cluster = app = ""
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT

    def __init__(self, *arguments):
        super().__init__(*arguments, directory=str(FILES))

    def do_GET(self):
        if self.path.startswith(API):
            self.forward()
        elif urlsplit(self.path).path == "/config.json":
            self.answer(200, "application/json", json.dumps({"app": self.app}).encode())
        elif urlsplit(self.path).path in ("/", "/index.html", "/app.js", "/style.css"):
            super().do_GET()
        else:
            self.send_error(404)

    def forward(self):
        """The cluster's answer."""
        length = self.headers.get("Content-Length", "0")
        if not self.path.startswith(API) or not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True
            self.send_error(400)
            return
        body = self.rfile.read(int(length))
        address = urlsplit(self.cluster)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        upstream = kind(address.netloc, timeout=TIMEOUT)
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        headers["X-Forwarded-For"] = self.client_address[0]
        try:
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.send_error(502, "The cluster cannot be reached")
            return
        finally:
            upstream.close()
        self.answer(answer.status, answer.headers.get("Content-Type", "application/json"), content)

    def answer(self, status, content_type, content):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self):
        self.forward()

    def do_PATCH(self):
        self.forward()

    def do_DELETE(self):
        self.forward()

    def end_headers(self):
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()


def main():
    parser = argparse.ArgumentParser(description="Serves the single-page example.")
    parser.add_argument("--port", type=int, default=5001)
    parser.add_argument("--cluster", default="http://127.0.0.1:11223", help="Where its load balancer is.")
    parser.add_argument("--app", default="CRM", help="The application that the page is, in the cluster.")
    given = parser.parse_args()
    Handler.cluster, Handler.app = given.cluster, given.app
    server = ThreadingHTTPServer(("127.0.0.1", given.port), Handler)
    print(f"http://localhost:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
