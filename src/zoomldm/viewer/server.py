"""Serving the page and the tiles of its slides on this machine alone, and nothing else of the disk."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from zoomldm.errors import ConfigError, DataError
from zoomldm.viewer.pyramid import Pyramid

ADDRESS = "127.0.0.1"
HOSTS = {ADDRESS, "localhost"}
TILE = re.compile(r"/tiles/([0-9a-f]{16})/(\d{1,2})/(\d{1,7})/(\d{1,7})\.png")
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Bokeh's scripts lie in the page and make functions of text; nothing may come from, or go to, another host."""


class Server(ThreadingHTTPServer):
    """Answers for a page and its slides; ``address`` is where."""

    daemon_threads = True

    def __init__(self, slides: Sequence[Pyramid], page: str, *, port: int) -> None:
        """Take the port.

        Args:
            port: 0 takes a free one.

        Raises:
            ConfigError: the port is taken.
        """
        self.slides = {slide.key: slide for slide in slides}
        self.page = page.encode()
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            raise ConfigError(f"port={port}: cannot be served on ({error}); choose another, port={port + 1}") from error
        self.address = f"http://{ADDRESS}:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that went away while it was answered, as they do at every turn of the wheel."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One request: the page, or a tile of a slide that was named."""

    server: Server
    timeout = 60
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "zoomldm", ""

    def do_GET(self) -> None:
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in HOSTS:
            return self._answer(HTTPStatus.FORBIDDEN, b"this page is for this machine alone")
        if self.path == "/":
            return self._answer(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        found = TILE.fullmatch(self.path)
        if found is None or (slide := self.server.slides.get(found[1])) is None:
            return self._answer(HTTPStatus.NOT_FOUND, b"no such page")
        try:
            tile = slide.tile(*map(int, found.groups()[1:]))
        except DataError as error:
            return self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode())
        return self._answer(HTTPStatus.OK, tile, "image/png", keeps_s=3600)

    def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain", keeps_s: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", f"private, max-age={keeps_s}" if keeps_s else "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a line a tile would hide what matters."""


def serve(slides: Sequence[Pyramid], page: str, *, port: int) -> None:
    """Show a page until Ctrl-C.

    Raises:
        ConfigError: the port is taken.
    """
    with Server(slides, page, port=port) as server:
        print(f"the viewer: {server.address}  (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
