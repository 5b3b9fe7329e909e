"""The page in headless Chromium; what `make view` installs, Chromium and playwright must be there."""

import re
from urllib.parse import urlsplit

import pytest

from benchmarks.browser import CHROMIUM, PATIENCE_MS, in_browser
from tests.helpers.tiny_slides import tissue_pixels, write_slide
from zoomldm.viewer.pyramid import Pyramid

pytest.importorskip("bokeh")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Show two slides, the second at half the first one's scale."""
    folder = tmp_path_factory.mktemp("page")
    levels = (1, 2, 4, 8)
    slides = [
        Pyramid(write_slide(folder / "a.tif", tissue_pixels(2048, 2048), downsamples=levels)),
        Pyramid(write_slide(folder / "b.tif", tissue_pixels(1024, 1536, 1), mpp=1.0, downsamples=levels)),
    ]
    with in_browser(slides, width=900, height=700) as shown:
        yield shown


def text(page, pane: int, kind: str = "seen"):
    return page.locator(f".{kind} .bk-clearfix").nth(pane)


def expect_text(page, pane: int, pattern: str, kind: str = "seen") -> None:
    sync_api.expect(text(page, pane, kind)).to_have_text(re.compile(pattern), timeout=PATIENCE_MS)


def figures(page, code: str) -> list:
    """Return a figure's expression in JavaScript, of all that are shown, as they were made."""
    shown = "[...Bokeh.documents[0].all_models].filter((one) => one.type === 'Figure' && one.visible)"
    return page.evaluate(f"() => {shown}.map((one) => {code})")


def ranges(page) -> list[tuple[float, ...]]:
    """Return where each pane begins, in µm from the left and from above, and µm a pixel across and down."""
    code = """{const {x_range: x, y_range: y, inner_width, inner_height} = one;
        return [x.start, -y.end, (x.end - x.start) / inner_width, (y.end - y.start) / inner_height]}"""
    return [tuple(one) for one in figures(page, code)]


def spacing(page, pane: int) -> float:
    """Return how far apart the borders lie that a pane shows, in µm."""
    lines = figures(page, "one.renderers.at(-1).data_source.data.x0")[pane]
    return round(lines[1] - lines[0], 6)


def levels_asked(shown, slide: int) -> set[int]:
    return {int(url.split("/")[-3]) for url in shown.asked if f"/tiles/{shown.slides[slide].key}/" in url}


def test_one_zooms_from_the_overview_to_nuclei_and_the_other_slide_follows(shown):
    page, finest = shown.page, shown.slides[0].finest
    expect_text(page, 0, r"^a\.tif at 3[\d.]+x, drawn from 5x, ")
    expect_text(page, 1, r"^b\.tif at 3[\d.]+x, drawn from 5x, ")
    page.wait_for_timeout(1500)  # what is fetched beforehand as well
    assert levels_asked(shown, 0) < set(range(finest))

    page.mouse.move(200, 300)
    while "drawn from 20x" not in (seen := text(page, 0).inner_text()):
        page.mouse.wheel(0, -120)
        sync_api.expect(text(page, 0)).not_to_have_text(seen)
    expect_text(page, 1, r"^b\.tif at 1[\d.]+x, drawn from 10x, ")  # the finest that it has
    left, right = ranges(page)
    assert left[2:4] == pytest.approx(right[2:4])

    page.get_by_role("button", name="20x", exact=True).click()
    expect_text(page, 0, r"^a\.tif at 20x, 0\.5 µm a pixel$")
    expect_text(page, 1, r"^b\.tif at 20x, drawn from 10x, 0\.5 µm a pixel$")
    page.wait_for_timeout(1500)
    assert finest in levels_asked(shown, 0)
    assert [one[2:4] for one in ranges(page)] == [pytest.approx((0.5, 0.5), rel=1e-2)] * 2


def drag(page, *expected: tuple[float, float]) -> None:
    """Drag the left slide by 80 px to the left and 60 up, and expect each to have moved by so many µm."""
    before = ranges(page)
    page.mouse.move(200, 400)
    page.mouse.down()
    page.mouse.move(120, 340, steps=4)
    page.mouse.up()
    for _ in range(100):
        moved = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, ranges(page))]
        if moved == [pytest.approx(one, abs=1) for one in expected]:
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"moved by {moved}, expected {expected}")


def test_panning_moves_both_until_they_are_let_go(shown):
    drag(shown.page, (40, 30), (40, 30))
    shown.page.locator(".together input").click()
    drag(shown.page, (40, 30), (0, 0))


def test_borders_and_the_level_above_are_shown_of_the_same_area(shown):
    page = shown.page
    before = ranges(page)
    page.locator(".borders input").click()
    page.locator(".parent input").click()
    expect_text(page, 0, "^the level above: 10x, enlarged$", kind="above")
    expect_text(page, 1, "^the level above: 5x, enlarged$", kind="above")
    expect_text(page, 0, r"^a\.tif at 20x, 0\.5 µm a pixel$")
    page.wait_for_timeout(2000)
    own, above, other, others_above = ranges(page)
    assert (own[0], own[2:4]) == (pytest.approx(before[0][0]), pytest.approx(before[0][2:4], rel=1e-2))
    assert (above, others_above) == (pytest.approx(own, rel=1e-2), pytest.approx(other, rel=1e-2))
    assert [spacing(page, pane) for pane in range(4)] == [16, 32, 32, 64]  # 32 px of what each one draws, in µm


def test_the_page_asks_this_server_alone_and_nothing_fails(shown):
    assert {urlsplit(url).hostname for url in shown.asked if not url.startswith("data:")} == {"127.0.0.1"}
    assert shown.said == []
