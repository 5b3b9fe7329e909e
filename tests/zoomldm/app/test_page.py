"""The page in headless Chromium, clicked through; what `make app` installs, Chromium and playwright must be there."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.helpers.toy_page import make_page_data, page_session
from zoomldm.errors import ConfigError
from zoomldm.sampling.outputs.png import facts_of

pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

PORT, PATIENCE_MS = 7899, 120_000


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Serve the page and open it in a browser; note every address that it asks."""
    from zoomldm.app.serve import serve

    root = make_page_data(tmp_path_factory.mktemp("page"))
    with pytest.MonkeyPatch.context() as patch, page_session(root) as session:
        patch.setattr(os, "environ", os.environ.copy())
        before = files_beside(session.folder, root)
        blocks = serve(session, port=PORT, waits=False)
        with sync_api.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page, asked = browser.new_page(viewport={"width": 1200, "height": 900}), []
            page.set_default_timeout(PATIENCE_MS)
            page.on("request", lambda request: asked.append(request.url))
            page.goto(blocks.local_url)
            page.wait_for_selector("#make")
            yield SimpleNamespace(page=page, asked=asked, session=session, root=root, before=before)
            browser.close()
        blocks.close()


def files_beside(folder: Path, root: Path) -> set[Path]:
    """Return what lies under a root and not in a folder of it."""
    return {path for path in root.rglob("*") if folder not in path.parents}


def message(page) -> str:
    """Return what the page says, and close it."""
    page.wait_for_selector(".toast-body")
    said = page.inner_text(".toast-body")
    page.click(".toast-close")
    page.wait_for_selector(".toast-body", state="detached")
    return said


def test_the_page_is_clicked_through(shown):
    page, session = shown.page, shown.session
    page.fill("#n input", "2")
    page.fill("#steps input", "2")
    page.click("#make")
    page.wait_for_selector("#reference img")
    sync_api.expect(page.locator("#result img")).to_have_count(2, timeout=PATIENCE_MS)
    with page.expect_download() as download:
        page.locator("#files a").first.click()
    facts = facts_of(download.value.path())
    assert (facts["source"], facts["sampling steps"], facts["magnification"]) == ("oracle", 2, 10.0)
    page.click("#make-row")
    page.wait_for_selector("#row img")
    sync_api.expect(page.locator("#files a")).to_have_count(len(session.ladder), timeout=PATIENCE_MS)

    page.get_by_label("a place on a slide").click()
    page.click("#make")
    assert "no place was chosen" in message(page)
    page.click("#slide input")
    page.get_by_role("option", name="a.tif").click()
    page.locator("#overview img").click()
    page.wait_for_timeout(2000)
    page.click("#make")
    sync_api.expect(page.locator("#said")).to_contain_text("of a at x", timeout=PATIENCE_MS)

    assert {urlsplit(url).hostname for url in shown.asked if url.startswith(("http", "ws"))} == {"127.0.0.1"}
    assert shown.before == files_beside(session.folder, shown.root)


def test_mistakes_are_messages(shown):
    page = shown.page
    page.get_by_label("a sample of the data set").click()
    page.fill("#n input", "99")
    page.click("#make")
    assert "n=99: expected a whole number from 1 to 16" in message(page)
    page.fill("#n input", "1")
    page.get_by_label("a picture of mine").click()
    for name, said in (("text.png", "does not decode as a picture"), ("small.png", "40 x 40 px of 0.5 mpp")):
        page.set_input_files("#picture input[type=file]", shown.root / name)
        page.wait_for_selector(f"#picture :text('{name.removesuffix('.png')}')")
        page.click("#make")
        found = message(page)
        assert said in found
        assert "Traceback" not in found
        page.locator("#picture button[aria-label='Clear']").first.click()


def test_what_is_downloaded_is_the_patch_itself(shown):
    found = sorted(shown.session.folder.rglob("oracle-*.png"))
    assert {Image.open(path).size for path in found} == {(32, 32)}


def test_a_port_that_is_taken_is_said(shown):
    from zoomldm.app.serve import serve

    with pytest.raises(ConfigError, match=f"port={PORT}: cannot be served on"):
        serve(shown.session, port=PORT, waits=False)
