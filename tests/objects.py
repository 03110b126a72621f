"""What the tests of object stores share: servers on loopback, and a proxy that is as bad as networks and servers are."""

from __future__ import annotations

import http.client
import http.server
import os
import socket
import threading
import time
from collections.abc import Callable

from benchmarks.servers import free_port, server
from vpngen.store.places import place_of

__all__ = ["SECRET", "Proxy", "environment", "free_port", "options", "place_of", "server"]
SECRET = "q7-not-for-anyones-eyes"


def options(port: int, **more: str) -> dict[str, str]:
    """Storage options of a server."""
    return {
        "endpoint": f"http://127.0.0.1:{port}",
        "allow_http": "true",
        "region": "us-east-1",
        "access_key_id": "x",
        "secret_access_key": SECRET,
        **more,
    }


def environment(port: int) -> dict[str, str]:
    """The same as variables."""
    mine = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    return {**os.environ, **mine}


Answer = int | str | None
"""What a proxy does with a request: a status that it answers itself, `cut` for the connection, None to ask the server."""


class Proxy(http.server.ThreadingHTTPServer):
    """Between a client and a server. `rule` is asked with the method and path of each request, and their number."""

    daemon_threads = True

    def __init__(self, server_port: int, rule: Callable[[str, str, int], Answer], delay: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.to, self.rule, self.delay, self.count, self.lock = server_port, rule, delay, 0, threading.Lock()
        self.port: int = self.server_address[1]

    def __enter__(self) -> Proxy:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # of clients that go


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass(self) -> None:
        proxy = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with proxy.lock:
            proxy.count += 1
            answer = proxy.rule(self.command, self.path, proxy.count)
        time.sleep(proxy.delay)
        if answer == "cut":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if isinstance(answer, int):
            said = f"<Error><Code>Status{answer}</Code><Message>the rule says so</Message></Error>".encode()
            self._answer(answer, {}, said)
            return
        connection = http.client.HTTPConnection("127.0.0.1", proxy.to, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            found = connection.getresponse()
            self._answer(found.status, dict(found.getheaders()), found.read())
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = next((v for n, v in headers.items() if n.lower() == "content-length"), None)
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

    def log_message(self, format: str, *args: object) -> None:
        pass
