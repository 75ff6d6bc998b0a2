"""The page as a person meets it: a real Chromium, a running site, the demo's face."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from model.emotions import EMOTIONS
from tests.conftest import eventually
from tests.test_site import Site, running

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium"),
]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running(VISAGE_SOURCE="demo", VISAGE_DWELL="2") as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any, site: Site) -> Iterator[Any]:
    """The site in a fresh window; a script error or a request elsewhere fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda r: wrong.append(r.url) if not r.url.startswith((site.address, "data:")) else None)
    opened.goto(site.address)
    yield opened
    context.close()
    assert wrong == []


def pixels(page: Any) -> str:
    """What the picture shows now."""
    script = """() => {
        const video = document.getElementById('video');
        const canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [64, 48];
        canvas.getContext('2d').drawImage(video, 0, 0, 64, 48);
        return canvas.toDataURL();
    }"""
    with suppress(Exception):
        return str(page.evaluate(script))
    return ""


def has_picture(page: Any) -> bool:
    return bool(page.evaluate("document.getElementById('video').naturalWidth > 0"))


def mood(page: Any) -> str:
    return str(page.locator("#mood").inner_text()).strip().lower()


def links(page: Any) -> list[str]:
    return list(page.locator("#songs a[href*='open.spotify.com/track/']").evaluate_all("all => all.map(a => a.href)"))


def test_nothing_starts_before_the_button(page: Any, site: Site) -> None:
    """Before the button, the page says what will happen, and the camera sleeps."""
    assert "stored" in page.locator("body").inner_text()
    assert not page.locator("#video").get_attribute("src")
    assert site.state()["camera"]["status"] == "idle"  # type: ignore[index]


def test_the_picture_moves_a_mood_appears_and_songs_follow(page: Any) -> None:
    """After the button: moving pictures, a mood, songs for it; and another list when the mood changes."""
    page.locator("#start").click()
    assert eventually(lambda: has_picture(page), 20)
    first = pixels(page)
    assert eventually(lambda: pixels(page) != first)
    assert eventually(lambda: mood(page) in set(EMOTIONS), 20)
    assert eventually(lambda: len(links(page)) >= 40, 20)
    before = links(page)
    assert eventually(lambda: links(page) and links(page) != before, 60), "the table never changed"


def test_the_bars_show_seven_probabilities(page: Any) -> None:
    """Each emotion has a bar with its percentage in words."""
    page.locator("#start").click()
    bars = page.locator("#bars [data-emotion]")
    assert bars.count() == len(EMOTIONS)
    assert eventually(lambda: "%" in bars.nth(0).inner_text(), 20)


def test_a_chip_pins_the_table_until_released(page: Any) -> None:
    """A mood chosen by hand stays, whatever the face does, until it is released."""
    page.locator("#start").click()
    page.locator("#chips [data-emotion=disgust]").click()
    assert eventually(lambda: "disgust" in page.locator("#songs").inner_text().lower())
    pinned = links(page)
    page.wait_for_timeout(6000)
    assert links(page) == pinned
    page.locator("#follow").click()
    assert eventually(lambda: links(page) != pinned, 30)


def test_pause_releases_the_camera_and_resume_brings_it_back(page: Any, site: Site) -> None:
    """Pause empties the picture and puts the camera to sleep; resume wakes it."""
    page.locator("#start").click()
    assert eventually(lambda: site.state()["camera"]["status"] == "live", 20)  # type: ignore[index]
    page.locator("#pause").click()
    assert not page.locator("#video").get_attribute("src")
    assert eventually(lambda: site.state()["camera"]["status"] == "idle", 10)  # type: ignore[index]
    page.locator("#pause").click()
    assert eventually(lambda: site.state()["camera"]["status"] == "live", 20)  # type: ignore[index]


def test_a_phone_has_no_sideways_scroll(browser: Any, site: Site) -> None:
    """On 360 pixels everything fits the width, with songs on the page."""
    context = browser.new_context(viewport={"width": 360, "height": 640}, is_mobile=True)
    page = context.new_page()
    page.goto(f"{site.address}/?emotion=happy")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert len(links(page)) >= 40
    context.close()


def test_songs_without_javascript(browser: Any, site: Site) -> None:
    """With JavaScript off, a chip is a link to a page with its songs."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.address)
    page.locator("#chips [data-emotion=sad]").click()
    assert page.url.endswith("/?emotion=sad")
    assert len(links(page)) >= 40
    context.close()


def test_two_tabs_watch_at_once(browser: Any, site: Site) -> None:
    """A second tab gets its picture while the first one plays, and both get moods."""
    context = browser.new_context()
    tabs = [context.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(site.address)
        tab.locator("#start").click()
    for tab in tabs:
        assert eventually(lambda tab=tab: has_picture(tab), 20)
        assert eventually(lambda tab=tab: mood(tab) in set(EMOTIONS), 20)
    context.close()


def test_a_site_that_stops_is_said_on_the_page(browser: Any) -> None:
    """When the server goes away the page says so; nothing on it claims to be live."""
    with running(VISAGE_SOURCE="demo") as short:
        context = browser.new_context()
        page = context.new_page()
        page.goto(short.address)
        page.locator("#start").click()
        assert eventually(lambda: has_picture(page), 20)
    assert eventually(lambda: "does not answer" in page.locator("#notice").inner_text(), 20)
    context.close()
