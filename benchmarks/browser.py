"""How benchmarks, and tests of the page, look at the viewer: in headless Chromium, through playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING

from zoomldm.viewer.pyramid import Pyramid
from zoomldm.viewer.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An open page of slides, the addresses that it asked for, and the errors that it said."""

    page: Page
    slides: Sequence[Pyramid]
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@contextmanager
def in_browser(slides: Sequence[Pyramid], *, width: int, height: int) -> Iterator[Shown]:
    """Serve slides and open their page in a window of this size (px)."""
    from playwright.sync_api import sync_playwright

    from zoomldm.viewer.page import page_of

    with Server(slides, page_of(slides, patch_px=32), port=0) as server, sync_playwright() as driver:
        Thread(target=server.serve_forever, daemon=True).start()
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        shown = Shown(page=browser.new_page(viewport={"width": width, "height": height}), slides=slides)
        shown.page.set_default_timeout(PATIENCE_MS)
        shown.page.on("request", lambda request: shown.asked.append(request.url))
        shown.page.on("console", lambda one: shown.said.append(one.text) if one.type == "error" else None)
        shown.page.on("pageerror", lambda error: shown.said.append(str(error)))
        shown.page.goto(server.address)
        yield shown
        browser.close()
        server.shutdown()
