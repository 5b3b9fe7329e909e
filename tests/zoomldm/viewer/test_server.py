"""The server answers with the page and with tiles of the slides that were named, and with nothing else."""

import http.client
from threading import Thread
from types import SimpleNamespace

import pytest

from tests.helpers.tiny_slides import tissue_pixels, write_slide
from zoomldm.errors import ConfigError
from zoomldm.viewer.pyramid import Pyramid
from zoomldm.viewer.server import Server


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    shown, other = (Pyramid(write_slide(folder / f"{name}.tif", tissue_pixels(300, 200, seed)))
                    for seed, name in enumerate("ab"))  # fmt: skip
    with Server([shown], "<p>the page</p>", port=0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield SimpleNamespace(port=server.server_port, shown=shown, other=other, folder=folder)
        server.shutdown()


def ask(port: int, path: str, host: str | None = None) -> tuple[int, bytes, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.getheader("Content-Security-Policy")
    connection.close()
    return found


def test_the_page_and_the_tiles_of_its_slides_are_served(served):
    status, body, policy = ask(served.port, "/")
    assert (status, body) == (200, b"<p>the page</p>")
    assert "default-src 'none'" in policy
    tile = served.shown.tile(served.shown.finest, 1, 0)
    assert ask(served.port, f"/tiles/{served.shown.key}/{served.shown.finest}/1/0.png")[:2] == (200, tile)


def test_nothing_else_is(served):
    key, level = served.shown.key, served.shown.finest
    paths = [f"/tiles/{key}/{level}/-1/0.png", f"/tiles/{key}/0/0/0.svg", f"/tiles/{key}/{'9' * 30}/0/0.png"]
    paths += [f"/tiles/{served.other.key}/0/0/0.png", f"/tiles/{key}/0/0/../../../../a.tif", "/?a", "/a.tif"]
    paths += [f"/{served.folder}/a.tif", "/../../etc/passwd", "//etc/passwd"]
    assert [ask(served.port, path)[0] for path in paths] == [404] * len(paths)
    assert ask(served.port, "/", host="elsewhere.example")[0] == 403
    assert ask(served.port, "/", host="localhost:9000")[0] == 200  # through a tunnel


def test_a_port_that_is_taken_is_said(served):
    with pytest.raises(ConfigError, match=rf"port={served.port}: cannot be served on .*port={served.port + 1}"):
        Server([served.shown], "", port=served.port)
