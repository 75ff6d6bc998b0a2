"""The page as a person meets it: a real Chromium, a running site, the demo's face."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin

import cv2
import pytest

from model.demo import demo_frame
from model.emotions import EMOTIONS
from tests.conftest import eventually
from tests.fake_embed import SONG, FakeEmbed
from tests.fake_spotify import FakeSpotify, error
from tests.test_site import Site, running

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def embed() -> Iterator[FakeEmbed]:
    with FakeEmbed().serving() as made:
        yield made


@pytest.fixture(scope="module")
def site(embed: FakeEmbed) -> Iterator[Site]:
    with running(VISAGE_SOURCE="demo", VISAGE_DWELL="2", VISAGE_EMBED=embed.address) as made:
        yield made


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
    begin(page, "happy")
    page.locator("#chips [data-emotion=disgust]").click()
    assert shows(page, "disgust")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/songs" in request.url else None)
    sees(page, "surprise")
    for _ in range(2):
        with page.expect_response("**/state"):
            pass
    assert shows(page, "disgust")
    assert asked == []
    page.locator("#follow").click()
    assert shows(page, "surprise")


def test_the_list_stays_while_a_hand_is_at_it(page: Any) -> None:
    """Who moves the pointer over the songs, or scrolls, presses what they saw: another mood's songs wait."""
    begin(page, "happy")
    for way, mood in ((lambda n: page.mouse.move(900, 500 + n), "surprise"), (lambda n: page.mouse.wheel(0, 9), "sad")):
        way(0)
        before = page.locator("#songs .list").get_attribute("data-emotion")
        sees(page, mood)
        for n in range(20):
            page.wait_for_timeout(100)
            way(n)
        page.wait_for_timeout(1000)
        assert page.locator("#songs .list").get_attribute("data-emotion") == before
        assert shows(page, mood)


def test_songs_that_come_while_a_hand_is_at_the_list_wait(page: Any) -> None:
    """Also those that were asked for before."""
    begin(page, "happy")
    songs = Held(page, "**/songs?*")
    sees(page, "surprise")
    answer = songs.next()
    page.mouse.move(900, 500)
    page.mouse.move(900, 501)
    answer.continue_()
    songs.open()
    page.wait_for_timeout(1000)
    assert page.locator("#songs .list").get_attribute("data-emotion") == "happy"
    assert shows(page, "surprise")


def test_a_click_on_a_mood_shows_at_once(page: Any) -> None:
    """Until the songs come, or cannot, the list is busy and the mood's name says that it was pressed."""
    songs = Held(page, "**/songs?*")

    def busy() -> tuple[str | None, list[str | None]]:
        pressed = "[...document.querySelectorAll('#chips [data-asked]')].map((chip) => chip.dataset.emotion)"
        return page.locator("#songs").get_attribute("aria-busy"), page.evaluate(pressed)

    page.locator("#chips [data-emotion=sad]").click()
    answer = songs.next()
    assert busy() == ("true", ["sad"])
    page.locator("#chips [data-emotion=fear]").click()
    assert eventually(lambda: busy() == ("true", ["fear"]))
    answer.continue_()
    songs.next().abort()
    assert eventually(lambda: busy() == ("false", []))
    page.locator("#lift").check()
    songs.next().continue_()
    assert eventually(lambda: busy() == ("false", []))


def test_a_lift_is_not_lost_to_a_new_mood(page: Any) -> None:
    """A face that changes before the songs that lift are there changes neither what was asked for nor the address."""
    begin(page, "sad")
    songs = Held(page, "**/songs?*")
    page.locator("#lift").check()
    sees(page, "fear")
    for _ in range(3):
        with page.expect_response("**/state"):
            pass
    songs.open()
    page.locator("#songs .list[data-lifted][data-emotion=fear]").wait_for()
    assert tuned_by_hand(page) == (None, "/?lift=1")


def test_another_camera_begins_without_a_mood(page: Any) -> None:
    """What the one before saw is not what the songs follow once the other one was chosen."""
    begin(page, "happy")
    page.locator("#chips [data-emotion=sad]").click()
    assert shows(page, "sad")
    page.locator("#ways [data-way=mine]").click()
    page.locator("#follow").click()
    page.locator("#songs .list[data-emotion='']").wait_for()


def test_what_stays_the_same_is_not_written_anew(page: Any) -> None:
    """While the face and its mood stand still, no text on the page is replaced by the same one."""
    begin(page, "happy")
    page.evaluate(
        """() => {
            window.written = 0;
            const count = (changes) => (written += changes.length);
            new MutationObserver(count).observe(document.querySelector('main'), { childList: true, subtree: true });
        }"""
    )
    for _ in range(3):
        with page.expect_response("**/state"):
            pass
    assert page.evaluate("written") == 0


def test_a_page_of_somebody_elses_is_no_song_list(page: Any) -> None:
    """A login page of a network's, in place of the songs, is said; the songs follow the face again once it is gone."""
    gate = {"content_type": "text/html", "body": "<p>Welcome to our Wi-Fi</p>"}
    page.route("**/songs?*", lambda route: route.fulfill(**gate))
    sees(page, "happy")
    page.locator("#start").click()
    assert eventually(lambda: "could not be fetched" in page.locator("#notice").inner_text())
    page.unroute("**/songs?*")
    assert shows(page, "happy")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"content_type": "text/html", "body": "<p>Log in, please</p>"}, "does not answer"),
        ({"content_type": "text/plain", "body": ""}, "does not answer"),
        ({"status": 502, "json": {"message": "Bad gateway"}}, "The site answers 502."),
    ],
    ids=["a page", "nothing", "a gateway"],
)
def test_a_page_of_somebody_elses_is_no_state(page: Any, answer: dict[str, Any], says: str) -> None:
    """The same in place of what the camera sees: the page says so, and asks on."""
    page.locator("#start").click()
    assert eventually(lambda: mood(page) in set(EMOTIONS), 20)
    page.route("**/state", lambda route: route.fulfill(**answer))
    assert eventually(lambda: says in page.locator("#notice").inner_text())
    page.unroute("**/state")
    assert eventually(lambda: mood(page) in set(EMOTIONS), 20)
    assert page.locator("#notice").inner_text() == ""


def test_names_keep_their_own_direction(page: Any) -> None:
    """Hebrew or Arabic beside Latin letters: each title, artist and album is isolated from what stands around it."""
    page.goto(f"{page.url}?emotion=happy")
    for column in ("title", "artist", "album"):
        assert page.locator(f"#songs tbody .{column} > bdi").count() >= 40
    assert page.locator("#playing").get_attribute("dir") == "auto"


def test_back_leads_through_the_moods_that_were_chosen(page: Any) -> None:
    """Back and forward show the moods chosen one after the other, and in the end the page that follows the face."""

    def tuned(emotion: str) -> bool:
        return bool(eventually(lambda: page.locator(f"#songs .list[data-emotion='{emotion}']").count() == 1))

    for emotion in ("sad", "fear"):
        page.locator(f"#chips [data-emotion={emotion}]").click()
        assert tuned(emotion)
    page.go_back()
    assert tuned("sad")
    assert page.locator("#chips [data-emotion=sad]").get_attribute("aria-current") == "true"
    page.go_back()
    assert tuned("")
    assert page.locator("#follow").get_attribute("aria-current") == "true"
    page.go_forward()
    assert tuned("sad")


def test_a_camera_that_was_chosen_stays_chosen(page: Any) -> None:
    """Beside a mood, when Back leads to an address from before, and in a reload."""

    def chosen() -> str:
        return str(page.locator("#ways [aria-current]").get_attribute("data-way"))

    def at(address: str) -> bool:
        return bool(eventually(lambda: page.evaluate("location.search") == address))

    other = "server" if chosen() == "mine" else "mine"
    page.locator("#chips [data-emotion=sad]").click()
    assert at("?emotion=sad")
    page.locator(f"#ways [data-way={other}]").click()
    assert at(f"?emotion=sad&way={other}")
    page.locator("#follow").click()
    assert at(f"?way={other}")
    page.go_back()
    assert at(f"?emotion=sad&way={other}")
    page.go_back()
    assert at(f"?way={other}")
    page.reload()
    assert chosen() == other


class Held:
    """Requests of a page's that wait until the test answers them, or lets all go on."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.waiting, self.closed = page, [], True
        page.route(address, lambda route: self.waiting.append(route) if self.closed else route.continue_())

    def next(self) -> Any:
        assert eventually(lambda: self.page.wait_for_timeout(20) or self.waiting)
        return self.waiting.pop(0)

    def open(self) -> None:
        self.closed = False
        for route in self.waiting:
            route.continue_()


def tuned_by_hand(page: Any) -> tuple[str | None, str]:
    """The mood that the dial says was chosen, and what the address says."""
    current = page.locator("#chips [aria-current]")
    assert current.count() == 1
    return current.get_attribute("data-emotion"), page.evaluate("location.pathname + location.search")


def sees(page: Any, emotion: str) -> None:
    """From now on the site's camera sees this mood, as far as this page hears."""
    reading = {"emotion": emotion, "confidence": 0.9, "probabilities": dict.fromkeys(EMOTIONS, 0.1)}
    camera = {"source": "fake", "status": "live", "message": "", "fps": 30}
    state = {"reading": reading, "faces": [], "camera": camera, "sequence": 1, "songs": emotion}
    page.route("**/state", lambda route: route.fulfill(json=state))


def shows(page: Any, emotion: str) -> bool:
    return bool(eventually(lambda: page.locator(f"#songs .list[data-emotion={emotion}]").count() == 1))


def begin(page: Any, emotion: str) -> None:
    """Start the site's camera, which sees this mood, and wait for its songs."""
    sees(page, emotion)
    page.locator("#start").click()
    assert shows(page, emotion)


def test_moods_that_could_not_be_fetched_leave_the_page_as_it_was(page: Any) -> None:
    """Two clicks without an answer pin nothing: dial and address say what is shown, and the songs follow the face."""
    begin(page, "happy")
    songs = Held(page, "**/songs?*")
    for emotion in ("sad", "fear"):
        page.locator(f"#chips [data-emotion={emotion}]").click()
    for _ in range(2):
        songs.next().abort()
    assert eventually(lambda: "could not be fetched" in page.locator("#notice").inner_text())
    assert tuned_by_hand(page) == (None, "/")
    songs.open()
    sees(page, "surprise")
    assert shows(page, "surprise")
    assert eventually(lambda: page.locator("#notice").inner_text() == "")


def test_a_photo_is_described_again_once_songs_come(page: Any, site: Site) -> None:
    """That they could not be fetched is said no longer then."""
    page.goto(f"{site.address}/photo")
    jpeg = cv2.imencode(".jpg", demo_frame(0))[1].tobytes()
    with page.expect_response("**/songs*"):
        page.locator("#picture").set_input_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": jpeg})
    described = page.locator("#notice").inner_text()
    assert "One face" in described
    page.route("**/songs*", lambda route: route.abort())
    page.locator("#chips [data-emotion=sad]").click()
    assert eventually(lambda: "could not be fetched" in page.locator("#notice").inner_text())
    page.unroute("**/songs*")
    page.locator("#chips [data-emotion=fear]").click()
    assert shows(page, "fear")
    assert page.locator("#notice").inner_text() == described


def test_a_switch_that_could_not_lift_goes_back_with_what_was_chosen_meanwhile(page: Any) -> None:
    """What fails takes back all that was asked for since the list came; what succeeds puts all into the address."""
    page.locator("#chips [data-emotion=sad]").click()
    assert shows(page, "sad")
    songs = Held(page, "**/songs?*")
    page.locator("#lift").check()
    page.locator("#chips [data-emotion=fear]").click()
    for _ in range(2):
        songs.next().abort()
    assert eventually(lambda: not page.locator("#lift").is_checked())
    assert tuned_by_hand(page) == ("sad", "/?emotion=sad")
    page.locator("#chips [data-emotion=fear]").click()
    page.locator("#lift").check()
    songs.open()
    page.locator("#songs .list[data-lifted][data-emotion=fear]").wait_for()
    assert eventually(lambda: tuned_by_hand(page) == ("fear", "/?emotion=fear&lift=1"))


def test_a_back_that_could_not_be_shown_pins_nothing(page: Any) -> None:
    """The address goes back to what is shown, the songs go on following the face, and Back can be tried again."""
    sees(page, "happy")
    page.locator("#start").click()
    page.locator("#chips [data-emotion=sad]").click()
    assert shows(page, "sad")
    page.locator("#follow").click()
    assert shows(page, "happy")
    songs = Held(page, "**/songs?*")
    page.evaluate("history.back()")
    songs.next().abort()
    assert eventually(lambda: tuned_by_hand(page) == (None, "/"))
    songs.open()
    sees(page, "surprise")
    assert shows(page, "surprise")
    page.evaluate("history.back()")
    assert shows(page, "sad")
    assert tuned_by_hand(page) == ("sad", "/?emotion=sad")


def test_a_page_shows_no_mood_of_somebody_before(browser: Any, page: Any, site: Site) -> None:
    """While another page watches, or just did, a fresh one has no mood and no songs until it is started."""
    page.locator("#start").click()
    assert eventually(lambda: site.state()["songs"], 20)
    fresh = browser.new_page()
    fresh.goto(site.address)
    assert fresh.locator("#songs .list").get_attribute("data-emotion") == ""
    assert fresh.locator("body").get_attribute("data-mood") == ""
    fresh.close()


def test_pause_releases_the_camera_and_resume_brings_it_back(page: Any, site: Site) -> None:
    """Pause empties the picture and puts the camera to sleep; resume wakes it."""
    page.locator("#start").click()
    assert eventually(lambda: site.state()["camera"]["status"] == "live", 20)  # type: ignore[index]
    with page.expect_request("**/pause"):
        page.locator("#pause").click()
    assert not page.locator("#video").get_attribute("src")
    assert eventually(lambda: site.state()["camera"]["status"] == "idle", 10)  # type: ignore[index]
    page.locator("#pause").click()
    assert eventually(lambda: site.state()["camera"]["status"] == "live", 20)  # type: ignore[index]


def test_the_ways_to_be_seen_stay_in_their_frame(page: Any) -> None:
    """On a phone and in the narrow column of a low window no label crosses the edge, none is cut off."""
    for width, height in ((360, 640), (420, 800), (1280, 720), (1280, 800)):
        page.set_viewport_size({"width": width, "height": height})
        frame = page.locator("#ways").bounding_box()
        ways = page.locator("#ways a").all()
        assert len(ways) == 3
        for way in ways:
            box = way.bounding_box()
            assert frame["x"] <= box["x"], width
            assert box["x"] + box["width"] <= frame["x"] + frame["width"], width
            assert way.evaluate("e => e.scrollWidth <= e.clientWidth"), width


@pytest.mark.parametrize("size", [(1280, 590), (1024, 480)])
def test_a_low_window_hides_nothing_for_good(browser: Any, site: Site, size: tuple[int, int]) -> None:
    """Where the camera's column is taller than the window, scrolling brings its end, and the Tab key its beginning."""
    context = browser.new_context(viewport=dict(zip(("width", "height"), size, strict=True)))
    page = context.new_page()
    page.goto(f"{site.address}/?emotion=happy")

    def scrolled_to(end: str) -> bool:
        page.evaluate("scrollTo(0, 600)")
        box = page.locator(end).bounding_box()
        return bool(box["y"] > 0 and box["y"] + box["height"] <= size[1])

    assert eventually(lambda: scrolled_to("#start"))
    page.locator("#start").click()
    assert eventually(lambda: scrolled_to("#bars li:last-child"))
    page.locator("#pause").focus()
    page.keyboard.press("Shift+Tab")
    assert eventually(lambda: page.locator("#ways a:focus").bounding_box()["y"] > 0)
    context.close()


def test_the_title_has_the_most_room(page: Any) -> None:
    """Of the columns with words the title's is the widest, and each column has a head and a cell or neither."""
    page.goto(f"{page.url}?emotion=happy")
    script = "(row) => Object.fromEntries([...row.cells].map(cell => [cell.className, cell.offsetWidth]))"
    for width in (640, 768, 1024, 1280, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        heads, cells = (page.locator(f"#songs {part} tr").first.evaluate(script) for part in ("thead", "tbody"))
        assert heads["title"] > max(heads["artist"], heads["album"]), width
        assert heads == cells, width


def test_a_phone_has_no_sideways_scroll(browser: Any, site: Site) -> None:
    """On 360 pixels everything fits the width, with songs on the page."""
    context = browser.new_context(viewport={"width": 360, "height": 640}, is_mobile=True)
    page = context.new_page()
    page.goto(f"{site.address}/?emotion=happy")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert len(links(page)) >= 40
    context.close()


def test_songs_without_javascript(browser: Any, site: Site) -> None:
    """With JavaScript off, a chip is a link to a page with its songs; no button is there that would do nothing."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.address)
    page.locator("#chips [data-emotion=sad]").click()
    assert page.url.endswith("/?emotion=sad")
    assert len(links(page)) >= 40
    for width, parts in ((1280, ".list > :is(h2, p), caption"), (360, ".list > :is(h2, p), caption, tbody .title")):
        page.set_viewport_size({"width": width, "height": 640})
        assert page.locator(".begin:visible, .play:visible").count() == 0
        assert len({part.bounding_box()["x"] for part in page.locator(parts).all()}) == 1, width
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


def test_a_camera_that_may_not_be_watched_is_said(page: Any) -> None:
    """What the site says when it refuses its camera stands on the page, in the site's words; the moods still work."""
    for route in ("**/state", "**/video_feed*"):
        page.route(route, lambda route: route.fulfill(status=403, json={"error": "This camera needs a token."}))
    page.locator("#start").click()
    assert eventually(lambda: page.locator("#notice").inner_text() == "This camera needs a token.")
    page.locator("#chips [data-emotion=sad]").click()
    assert eventually(lambda: len(links(page)) >= 40)


WALL = {"source": "wall", "status": "live", "message": "", "fps": 30}
NOBODY: dict[str, Any] = {"reading": None, "faces": [], "camera": WALL, "sequence": 1, "songs": None}


def test_a_full_site_is_said_once(page: Any) -> None:
    """While as many watch as it serves, the page tries again by itself, and neither sentence nor focus moves."""
    tried: list[str] = []

    def refuse(route: Any) -> None:
        tried.append(route.request.url)
        route.fulfill(status=503, json={"error": "As many watch as can."})

    def tried_often() -> bool:
        page.clock.run_for(1000)
        return len([url for url in tried if "?n=" in url]) >= 3

    page.route("**/video_feed*", refuse)
    page.route("**/state", lambda route: route.fulfill(json=NOBODY))
    page.clock.install()
    page.locator("#start").click()
    assert eventually(lambda: page.locator("#notice").inner_text() == "As many watch as can.")
    page.locator("#retry").focus()
    watch = "window.said = []; new MutationObserver(() => said.push(1)).observe(notice, { childList: true })"
    page.evaluate(f"{{ const notice = document.getElementById('notice'); {watch} }}")
    assert eventually(tried_often, 60)
    assert page.evaluate("[said.length, document.activeElement.id]") == [0, "retry"]
    page.unroute("**/video_feed*")
    page.route("**/video_feed*", lambda route: route.fulfill(**still_stream()))
    assert eventually(lambda: tried_often() and page.locator("#notice").inner_text() == "", 30)


@pytest.mark.parametrize(
    "message", ["", "no picture from rtsp://192.168.1.20:554/Streaming/Channels/101 for 9 seconds"]
)
def test_the_name_of_a_camera_stays_in_its_column(browser: Any, site: Site, message: str) -> None:
    """An address or a path as long as they come makes no page scroll sideways, and says how often it is read."""
    source = f"/home/somebody/{'a-folder-of-films/' * 6}film.mp4"
    context = browser.new_context(viewport={"width": 320, "height": 700})
    page = context.new_page()
    state = NOBODY | {"camera": WALL | {"source": source, "message": message, "fps": 0.9}}
    page.route("**/state", lambda route: route.fulfill(json=state))
    page.route("**/video_feed*", lambda route: route.fulfill(**still_stream()))
    page.goto(site.address)
    page.locator("#start").click()
    shown = page.locator("#notice" if message else "#pace")
    assert eventually(lambda: shown.inner_text()[1:].endswith(message[1:] or "film.mp4, 1 picture a second"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    context.close()


def test_songs_that_take_long_are_waited_for(browser: Any, site: Site) -> None:
    """A lift may look through a table of a million songs first: that takes longer than any other answer may."""
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("const real = AbortSignal.timeout; AbortSignal.timeout = (time) => real(time / 5);")
    page.goto(f"{site.address}/?emotion=sad")

    def take_long(route: Any) -> None:
        time.sleep(2)  # a fifth of ten seconds
        route.continue_()

    page.route("**/songs*", take_long)
    page.locator("#lift").check()
    assert eventually(lambda: page.locator("#songs .list[data-lifted]").count() == 1)
    assert page.locator("#lift").is_checked()
    context.close()


def still_stream() -> dict[str, Any]:
    """An answer that begins a stream, shows one picture and ends."""
    jpeg = cv2.imencode(".jpg", demo_frame(0))[1].tobytes()
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n--frame\r\n" % (len(jpeg), jpeg)
    return {"content_type": "multipart/x-mixed-replace; boundary=frame", "body": part}


def test_a_picture_that_was_lost_comes_back_while_others_watch(page: Any, site: Site) -> None:
    """A page whose stream ends is not told, and the camera stays awake for the others: it moves again all the same."""
    page.locator("#start").click()
    assert eventually(lambda: site.state()["camera"]["status"] == "live", 20)  # type: ignore[index]
    other = page.context.new_page()
    other.goto(site.address)
    other.route("**/video_feed*", lambda route: route.fulfill(**still_stream()), times=1)
    other.locator("#start").click()
    assert eventually(lambda: has_picture(other), 20)
    lost = pixels(other)
    assert lost
    assert eventually(lambda: pixels(other) not in ("", lost), 30)


def test_what_stands_still_is_opened_ever_more_seldom(page: Any) -> None:
    """A picture in which nothing moves may be lost or show a wall: in a minute of polls it is opened a few times."""
    opened: list[str] = []
    asked: list[str] = []

    def show_wall(route: Any) -> None:
        opened.append(route.request.url)
        route.fulfill(**still_stream())

    def say_live(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(json=NOBODY)

    def a_minute_has_passed() -> bool:
        page.clock.run_for(200)
        return len(asked) > 150

    page.route("**/video_feed*", show_wall)
    page.route("**/state", say_live)
    page.clock.install()
    page.locator("#start").click()
    assert eventually(lambda: has_picture(page), 20)
    assert eventually(a_minute_has_passed, 60)
    assert 3 <= len(opened) <= 8


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


# -- the player


class Listener:
    """Somebody with the happy list open, and what they can hear."""

    def __init__(self, page: Any, embed: FakeEmbed) -> None:
        self.page, self.embed = page, embed

    def list(self) -> list[str]:
        rows = self.page.locator("#songs tbody tr")
        return list(rows.evaluate_all("all => all.map(row => row.dataset.track)"))

    def press(self, row: int) -> None:
        self.page.locator("#songs .play").nth(row).click()

    def hears(self) -> str | None:
        """The song that sounds, as the list shows it."""
        rows = self.page.locator("#songs tr[aria-current]:has([data-playing])")
        return rows.nth(0).get_attribute("data-track") if rows.count() else None

    def sounds(self) -> bool:
        return str(self.page.locator("#toggle").get_attribute("aria-label")).startswith("Pause ")

    def frame(self) -> Any:
        return next(f for f in self.page.frames if f.url.startswith(self.embed.address))

    def commands(self) -> list[str]:
        return list(self.frame().evaluate("commands"))

    def at(self, position: int, paused: bool = False) -> None:
        """Move the song on to a position in milliseconds."""
        self.frame().evaluate(f"set({{position: {position}, isPaused: {str(paused).lower()}}})")

    def tune(self, emotion: str) -> None:
        self.page.locator(f"#chips [data-emotion={emotion}]").click()
        assert eventually(lambda: self.page.locator(f"#songs .list[data-emotion={emotion}]").count() == 1)

    def focus(self) -> str | None:
        script = "document.activeElement.closest('tr')?.dataset.track ?? null"
        return self.page.evaluate(script)  # type: ignore[no-any-return]

    def says(self) -> str:
        return str(self.page.locator("#sound").inner_text())

    def hurry(self, times: int = 5) -> None:
        """From now on the page waits for a fifth of the time, or less, wherever it waits."""
        script = "const real = setTimeout; window.setTimeout = (job, time, ...given) => real(job, time / %d, ...given);"
        self.page.add_init_script(script % times)
        self.page.reload()


@pytest.fixture
def listener(browser: Any, site: Site, embed: FakeEmbed) -> Iterator[Listener]:
    embed.asked, embed.down, embed.shy, embed.slow, embed.broken, embed.delay = [], False, False, False, set(), 0
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.goto(f"{site.address}/?emotion=happy")
    yield Listener(opened, embed)
    context.close()
    assert wrong == []


def test_play_puts_one_player_on_the_page(listener: Listener) -> None:
    """Nothing of Spotify's loads before the click; then one frame does, and another song goes into the same one."""
    assert listener.embed.asked == []
    assert listener.page.locator("iframe").count() == 0
    songs = listener.list()
    listener.press(2)
    assert eventually(lambda: listener.hears() == songs[2])
    listener.press(5)
    assert eventually(lambda: listener.hears() == songs[5])
    assert listener.embed.songs() == [songs[2], songs[5]]
    assert listener.page.locator("iframe").count() == 1
    assert listener.page.evaluate("history.length") <= 2


def test_thirty_seconds_are_said_once(listener: Listener) -> None:
    """With the first song the page says what a logged-out listener hears, and not again with the second."""
    listener.press(0)
    assert eventually(lambda: "30 seconds" in listener.says())
    listener.press(1)
    assert eventually(lambda: listener.hears() == listener.list()[1])
    assert listener.says() == ""


def test_a_song_outlasts_its_list(listener: Listener) -> None:
    """The song plays on while another mood's list is on the page, and is marked when its own comes back."""
    song = listener.list()[3]
    listener.press(3)
    assert eventually(lambda: listener.hears() == song)
    listener.tune("sad")
    assert listener.sounds()
    assert listener.hears() is None
    listener.tune("happy")
    assert eventually(lambda: listener.hears() == song)
    assert listener.embed.songs() == [song]


def test_next_is_the_following_song_of_the_list_on_the_page(listener: Listener) -> None:
    """Next goes down the list, starts another mood's at its top, and goes on where a list was left."""
    happy = listener.list()
    listener.press(4)
    assert eventually(lambda: listener.hears() == happy[4])
    listener.page.locator("#next").click()
    assert eventually(lambda: listener.hears() == happy[5])
    listener.tune("sad")
    sad = listener.list()
    listener.page.locator("#next").click()
    assert eventually(lambda: listener.hears() == sad[0])
    listener.tune("happy")
    listener.page.locator("#next").click()
    assert eventually(lambda: listener.hears() == happy[6])
    listener.press(len(happy) - 1)
    listener.page.locator("#next").click()
    assert eventually(lambda: listener.hears() == happy[0])


def test_a_lift_has_a_place_of_its_own(listener: Listener) -> None:
    """The plain list of the mood goes on where it was left, and so does the lift."""
    page, switch = listener.page, listener.page.locator("#lift")
    page.goto(f"{page.url.partition('?')[0]}?emotion=sad")
    plain = listener.list()
    listener.press(20)
    switch.check()
    assert eventually(lambda: page.locator(".list[data-lifted]").count() == 1)
    lifted = listener.list()
    listener.press(1)
    switch.uncheck()
    assert eventually(lambda: page.locator(".list[data-lifted]").count() == 0)
    assert next_songs(page, 1) == [plain[21]]
    switch.check()
    assert eventually(lambda: page.locator(".list[data-lifted]").count() == 1)
    assert next_songs(page, 1) == [lifted[2]]


def test_the_list_by_keyboard(listener: Listener) -> None:
    """Arrows walk through the list, Enter and space press what they stand on, space elsewhere pauses and resumes.

    None of it scrolls or presses twice.
    """
    songs, keyboard = listener.list(), listener.page.keyboard
    listener.page.locator("#songs .play").nth(0).focus()
    for key in ("ArrowUp", "ArrowDown", "ArrowDown"):
        keyboard.press(key)
    assert listener.focus() == songs[2]
    keyboard.press("Enter")
    assert eventually(lambda: listener.hears() == songs[2])
    keyboard.press("Space")
    assert eventually(lambda: not listener.sounds())
    keyboard.press("ArrowRight")
    keyboard.press("Space")
    assert eventually(lambda: listener.hears() == songs[2])
    assert listener.commands() == ["load_complete_ack", "play", "toggle", "toggle"]
    keyboard.press("ArrowLeft")
    keyboard.press("ArrowDown")
    keyboard.press("Space")
    assert eventually(lambda: listener.hears() == songs[3])
    keyboard.press("ArrowRight")
    assert listener.page.evaluate("document.activeElement.href").endswith(songs[3])
    keyboard.press("ArrowUp")
    assert listener.page.evaluate("document.activeElement.href").endswith(songs[2])


def test_the_button_of_the_whole_list(listener: Listener) -> None:
    """It begins the list, pauses and resumes a song of it, and begins another mood's; with Shuffle with any song."""
    page, button = listener.page, listener.page.locator("#songs .begin")
    happy = listener.list()
    button.click()
    assert eventually(lambda: listener.hears() == happy[0])
    assert button.get_attribute("aria-label") == "Pause these songs"
    button.click()
    assert eventually(lambda: not listener.sounds())
    button.click()
    assert eventually(lambda: listener.hears() == happy[0])
    listener.tune("sad")
    assert eventually(lambda: button.get_attribute("aria-label") == "Play these songs")
    assert listener.sounds()
    sad = listener.list()
    button.focus()
    page.keyboard.press("Space")
    assert eventually(lambda: listener.hears() == sad[0])
    assert listener.embed.songs() == [happy[0], sad[0]]
    switch(page, "#player").check()
    first = set()
    for _ in range(4):
        page.reload()
        button.click()
        assert eventually(listener.hears)
        first.add(listener.hears())
    assert len(first) > 1


def test_a_list_begins_anew_with_its_button_once_it_is_over(listener: Listener) -> None:
    """Without auto play the song that is over is not resumed: the following one begins."""
    songs = listener.list()
    listener.press(0)
    assert eventually(listener.sounds)
    listener.at(SONG, paused=True)
    assert eventually(lambda: not listener.sounds())
    listener.page.locator("#songs .begin").click()
    assert eventually(lambda: listener.hears() == songs[1])


def test_a_list_begun_with_its_button_goes_on(listener: Listener) -> None:
    """Who asks for these songs wants more than one: auto play is on then, and can be switched off."""
    songs, auto = listener.list(), listener.page.locator("#auto")
    listener.page.locator("#songs .begin").click()
    assert eventually(lambda: listener.hears() == songs[0])
    assert auto.is_checked()
    listener.at(SONG, paused=True)
    assert eventually(lambda: listener.hears() == songs[1])
    auto.uncheck()
    listener.page.locator("#songs .begin").click()  # a pause, which asks for nothing
    assert eventually(lambda: not listener.sounds())
    assert not auto.is_checked()


def test_the_song_before(listener: Listener) -> None:
    """Back through what was in the player, of other lists too; then Next goes on from there. At first there is none."""
    happy, previous = listener.list(), listener.page.locator("#previous")
    listener.press(4)
    assert eventually(lambda: listener.hears() == happy[4])
    assert previous.get_attribute("aria-disabled") == "true"
    listener.press(7)
    assert eventually(lambda: listener.hears() == happy[7])
    listener.tune("sad")
    listener.press(0)
    assert eventually(lambda: listener.hears() == listener.list()[0])
    assert previous.get_attribute("aria-disabled") == "false"
    previous.click()
    assert eventually(lambda: listener.embed.songs()[-1] == happy[7])
    assert listener.hears() is None
    listener.tune("happy")
    assert eventually(lambda: listener.hears() == happy[7])
    previous.click()
    assert eventually(lambda: listener.hears() == happy[4])
    assert previous.get_attribute("aria-disabled") == "true"
    previous.evaluate("button => button.click()")
    assert listener.page.evaluate("document.activeElement.id") == "previous"
    assert next_songs(listener.page, 1) == [happy[5]]


def test_the_list_is_one_stop_of_the_tab_key(listener: Listener) -> None:
    """Tab comes to one row's two things and leaves the list, which says that the arrows go on; so after a song too."""
    keyboard, songs = listener.page.keyboard, listener.list()
    listener.page.locator("#songs .begin").focus()
    keyboard.press("Tab")
    assert listener.focus() == songs[0]
    assert listener.page.locator(".keys").is_visible()
    keyboard.press("ArrowDown")
    keyboard.press("ArrowDown")
    keyboard.press("Enter")
    assert eventually(lambda: listener.hears() == songs[2])
    keyboard.press("Tab")
    assert listener.focus() == songs[2]
    keyboard.press("Tab")
    assert listener.page.evaluate("document.activeElement.closest('#player') !== null")
    assert not listener.page.locator(".keys").is_visible()
    listener.tune("sad")
    assert listener.page.locator("#songs tbody :is(.play, a):not([tabindex='-1'])").count() == 2


def test_a_browser_that_lets_tabs_say_nothing_plays(listener: Listener) -> None:
    """Firefox without cookies has no channel between tabs; songs play, each tab by itself."""
    refuse = "window.BroadcastChannel = class { constructor() { throw new DOMException('', 'SecurityError'); } }"
    listener.page.add_init_script(refuse)
    listener.page.reload()
    listener.press(0)
    assert eventually(lambda: listener.hears() == listener.list()[0])


def test_a_page_without_songs_has_nothing_to_begin(listener: Listener) -> None:
    """While it knows no mood there is no list, and no button for it."""
    listener.page.goto(listener.page.url.partition("?")[0])
    assert listener.page.locator(".begin").count() == 0


def test_the_focus_stays_when_the_list_changes(listener: Listener) -> None:
    """Somebody on a row's play button is on the same row's play button when the mood's list gives way to another."""
    listener.page.locator("#songs .play").nth(6).focus()
    listener.page.evaluate("document.querySelector('#chips [data-emotion=sad]').click()")
    assert eventually(lambda: listener.page.locator("#songs .list[data-emotion=sad]").count() == 1)
    assert eventually(lambda: listener.focus() == listener.list()[6])
    assert listener.page.evaluate("document.activeElement.className").startswith("play")
    listener.page.locator("#songs .begin").focus()
    listener.page.evaluate("document.querySelector('#chips [data-emotion=fear]').click()")
    assert eventually(lambda: listener.page.locator("#songs .list[data-emotion=fear]").count() == 1)
    assert eventually(lambda: listener.page.evaluate("document.activeElement.matches('.begin')"))


def test_without_auto_play_a_song_is_the_last(listener: Listener) -> None:
    """At its end, with the switch as it was found, nothing else begins."""
    assert not listener.page.locator("#auto").is_checked()
    listener.press(0)
    assert eventually(listener.sounds)
    listener.at(SONG, paused=True)
    assert eventually(lambda: not listener.sounds())
    current = "document.querySelector('#songs tr[data-current]').dataset.track"
    assert listener.page.evaluate(f"new Promise(done => setTimeout(() => done({current})))") == listener.list()[0]
    assert listener.embed.songs() == listener.list()[:1]


def test_auto_play_is_off_again_with_every_visit(listener: Listener) -> None:
    """Somebody who comes back to the page finds the switch off, whatever the browser remembers of forms."""
    listener.press(0)
    listener.page.locator("#auto").check()
    listener.page.goto(f"{listener.page.url.partition('?')[0]}split")
    listener.page.go_back()
    assert not listener.page.locator("#auto").is_checked()


def next_songs(page: Any, times: int) -> list[str]:
    """What the list marks as playing after each of so many clicks on Next."""
    script = """times => Array.from({ length: times }, () => {
        document.getElementById('next').click();
        return document.querySelector('#songs tr[data-current]').dataset.track;
    })"""
    return list(page.evaluate(script, times))


def switch(page: Any, place: str) -> Any:
    """The switch for shuffling, as a screen reader finds it."""
    return page.locator(place).get_by_role("switch", name="Shuffle")


def test_shuffled_songs_come_in_an_order_of_their_own_and_once_each(listener: Listener) -> None:
    """The list stays as it is; none is heard again before all were, one chosen by hand neither; then in a new order."""
    songs = listener.list()
    listener.press(0)
    switch(listener.page, "#player").check()
    begun = [songs[0], *next_songs(listener.page, 5)]
    chosen = next(song for song in songs[1:] if song not in begun)
    listener.press(songs.index(chosen))
    rest = next_songs(listener.page, len(songs) - 7)
    order = [*begun, chosen, *rest]
    assert sorted(order) == sorted(songs)
    assert order != songs
    assert listener.list() == songs
    again = next_songs(listener.page, len(songs))
    assert sorted(again) == sorted(songs)
    assert again[0] != order[-1]
    assert again not in (order, songs)
    switch(listener.page, "#player").uncheck()
    assert next_songs(listener.page, 1) == [(songs * 2)[songs.index(again[-1]) + 1]]


def test_shuffled_auto_play_follows_the_mood(listener: Listener) -> None:
    """At a song's end comes one of the new mood's list, not always its first, and going back repeats none."""
    happy = listener.list()
    listener.press(0)
    switch(listener.page, "#player").check()
    listener.page.locator("#auto").check()
    assert eventually(lambda: listener.hears() == happy[0])
    listener.tune("sad")
    sad = listener.list()
    listener.at(SONG, paused=True)
    assert eventually(lambda: listener.hears() in sad)
    begun = [listener.hears(), *next_songs(listener.page, 9)]
    assert begun != sad[:10]
    listener.tune("happy")
    assert happy[0] not in next_songs(listener.page, len(happy) - 1)
    listener.tune("sad")
    assert not set(begun) & set(next_songs(listener.page, len(sad) - 10))


def test_a_lift_is_not_shuffled(listener: Listener) -> None:
    """Its order is what it is for, and the page says so."""
    listener.page.goto(f"{listener.page.url.partition('?')[0]}?emotion=sad&lift=1")
    songs = listener.list()
    listener.press(0)
    switch(listener.page, "#player").check()
    assert next_songs(listener.page, 15) == [*songs[1:], songs[10]]
    assert "in this order" in listener.page.locator(".list > p").inner_text()


def test_shuffling_is_remembered(listener: Listener) -> None:
    """By this browser, from one visit to the next, until it is switched off; with the keyboard too."""
    context, address = listener.page.context, listener.page.url
    for shuffled in (True, False):
        listener.press(0)
        switch(listener.page, "#player").press("Space")
        assert switch(listener.page, "#player").is_checked() == shuffled
        listener.page.close()
        listener.page = context.new_page()
        listener.page.goto(address)
        listener.press(0)
        assert switch(listener.page, "#player").is_checked() == shuffled


def test_a_browser_that_keeps_nothing_shuffles_too(listener: Listener) -> None:
    """Until the page is left; nothing else fails for it."""
    refusal = "{ get() { throw new DOMException('', 'SecurityError'); } }"
    listener.page.add_init_script(f"Object.defineProperty(window, 'localStorage', {refusal})")
    listener.page.reload()
    songs = listener.list()
    listener.press(0)
    switch(listener.page, "#player").check()
    assert next_songs(listener.page, 9) != songs[1:10]


def test_a_link_to_another_page_leaves_the_song(listener: Listener) -> None:
    """While a song plays, a link that would end it opens a tab; a camera and a mood are chosen here as ever."""
    page, pages = listener.page, listener.page.context.pages
    page.get_by_role("link", name="A photo").click()
    page.wait_for_url("**/photo")
    page.go_back()
    listener.press(0)
    assert eventually(listener.sounds)
    for name, path in (("A photo", "/photo"), ("Split a playlist", "/split"), ("Visage FM", "/")):
        with page.expect_popup() as opened:
            page.get_by_role("link", name=name).click()
        opened.value.wait_for_url(f"**{path}")
        opened.value.close()
    page.get_by_role("link", name="My camera").click()
    listener.tune("sad")
    page.locator(".skip").press("Enter")
    assert listener.sounds()
    assert page.context.pages == pages
    page.locator("#toggle").click()
    assert eventually(lambda: not listener.sounds())
    page.get_by_role("link", name="A photo").click()
    page.wait_for_url("**/photo")


def test_a_link_leaves_no_song_that_cannot_be_played(listener: Listener) -> None:
    """Another page then opens in this tab, unless auto play is about to go on."""
    page, pages = listener.page, listener.page.context.pages
    listener.embed.broken = set(listener.list())
    listener.press(0)
    page.locator("#auto").check()
    assert eventually(lambda: "cannot play this song" in listener.says())
    with page.expect_popup() as opened:
        page.get_by_role("link", name="A photo").click()
    opened.value.close()
    page.locator("#auto").uncheck()
    listener.press(1)
    assert eventually(lambda: "cannot play this song" in listener.says())
    page.get_by_role("link", name="A photo").click()
    page.wait_for_url("**/photo")
    assert page.context.pages == pages


def test_of_two_tabs_one_sounds(listener: Listener) -> None:
    """A song that begins in another tab of the site pauses the one here, and resumed here pauses that one."""
    listener.press(0)
    assert eventually(listener.sounds)
    other = Listener(listener.page.context.new_page(), listener.embed)
    other.page.goto(listener.page.url)
    assert listener.sounds()
    other.press(1)
    assert eventually(other.sounds)
    assert eventually(lambda: not listener.sounds())
    listener.page.locator("#toggle").click()
    assert eventually(listener.sounds)
    assert eventually(lambda: not other.sounds())
    assert listener.sounds()


@pytest.mark.parametrize("rest", [SONG, 0], ids=["rests at the end", "goes back to the start"])
def test_auto_play_follows_the_mood_at_the_end_of_a_song(listener: Listener, rest: int) -> None:
    """With auto play, another mood waits until the song is over; then its list's song begins."""
    happy = listener.list()
    listener.press(0)
    assert eventually(lambda: listener.hears() == happy[0])
    listener.page.locator("#auto").check()
    listener.tune("fear")
    listener.at(SONG - 9000)
    listener.at(SONG - 9000, paused=True)
    listener.at(SONG - 9000)
    assert listener.embed.songs() == [happy[0]]
    listener.at(rest, paused=True)
    assert eventually(lambda: listener.hears() == listener.list()[0])
    assert listener.embed.songs() == [happy[0], listener.list()[0]]
    listener.at(SONG, paused=True)
    assert eventually(lambda: listener.hears() == listener.list()[1])


def test_the_last_words_of_a_song_skip_no_other(listener: Listener) -> None:
    """A frame that goes on about the song that is over, while the next one loads, does not end that one too."""
    listener.press(0)
    assert eventually(listener.sounds)
    listener.page.locator("#auto").check()
    listener.embed.delay = 0.5
    words = f"set({{isPaused: false, position: 9000}}); set({{isPaused: true, position: {SONG}}})"
    listener.frame().evaluate(f"void setInterval(() => {{ {words} }}, 20)")
    assert eventually(lambda: listener.hears() == listener.list()[1])
    assert listener.embed.songs() == listener.list()[:2]


def test_auto_play_is_off_again_on_the_next_visit(listener: Listener) -> None:
    """The switch is remembered by nothing."""
    listener.press(0)
    listener.page.locator("#auto").check()
    listener.page.reload()
    listener.press(0)
    assert not listener.page.locator("#auto").is_checked()
    assert listener.page.evaluate("localStorage.length + document.cookie.length") == 0


def test_closing_the_player_ends_it(listener: Listener) -> None:
    """The cross takes the frame away, and with it the sound; a song opens it again."""
    listener.press(1)
    assert eventually(listener.sounds)
    assert listener.page.title() != "Visage FM"
    listener.page.locator("#close").click()
    assert listener.page.title() == "Visage FM"
    assert listener.focus() == listener.list()[1]
    assert listener.page.locator("iframe").count() == 0
    assert not listener.page.locator("#player").is_visible()
    assert listener.hears() is None
    listener.press(1)
    assert eventually(lambda: listener.hears() == listener.list()[1])


def test_what_plays_is_named(listener: Listener) -> None:
    """In the window's title, and on the button that pauses it: the camera's is called Pause too."""
    listener.press(2)
    assert eventually(listener.sounds)
    song = listener.page.locator("#songs th.title").nth(3).inner_text()
    assert listener.page.title() == f"{song} \N{EN DASH} Visage FM"
    assert listener.page.locator("#toggle").get_attribute("aria-label") == f"Pause {song}"
    listener.page.locator("#toggle").click()
    assert eventually(lambda: listener.page.locator("#toggle").get_attribute("aria-label") == f"Play {song}")


def test_after_the_last_song_a_lift_stays_up(listener: Listener) -> None:
    """It does not end with the saddest song: the songs of its last step go round."""
    listener.page.goto(f"{listener.page.url.partition('?')[0]}?emotion=sad&lift=1")
    songs = listener.list()
    assert len(songs) == 15
    listener.press(14)
    assert eventually(lambda: listener.hears() == songs[14])
    listener.page.locator("#next").click()
    assert eventually(lambda: listener.hears() == songs[10])


def test_a_song_that_loads_slowly_wants_no_click(listener: Listener) -> None:
    """While Spotify's player says that it loads, the page waits; a click is wanted when it then does not begin."""
    listener.hurry()
    listener.embed.slow = True
    listener.press(0)
    assert eventually(lambda: listener.embed.asked)
    listener.page.wait_for_timeout(2000)
    assert "press play" not in listener.says()
    listener.frame().evaluate("set({isBuffering: false})")
    assert eventually(lambda: "press play" in listener.says())


def test_a_song_that_loads_is_not_loaded_anew(listener: Listener) -> None:
    """A second, impatient click on it waits; also where the song before could not be played."""
    songs = listener.list()
    listener.embed.broken = {songs[0]}
    listener.press(0)
    assert eventually(lambda: "cannot play this song" in listener.says())
    listener.embed.delay = 1
    for button in (listener.page.locator("#songs .play").nth(1), listener.page.locator("#songs .begin")):
        listener.press(1)
        button.click()
    assert eventually(lambda: listener.hears() == songs[1])
    assert listener.embed.songs() == songs[:2]


def test_a_song_that_could_not_be_played_can_be_tried_again(listener: Listener) -> None:
    """Its own button, and the player's, load it anew."""
    song = listener.list()[0]
    for button in ("#songs .play", "#toggle"):
        listener.embed.broken = {song}
        listener.press(0)
        assert eventually(lambda: "cannot play this song" in listener.says())
        listener.embed.broken = set()
        listener.page.locator(button).first.click()
        assert eventually(lambda: listener.hears() == song)
        listener.page.locator("#close").click()


def test_auto_play_outlasts_a_network_that_is_gone_for_a_while(listener: Listener) -> None:
    """It tries the next song again after some time, and says nothing new until it is heard."""
    listener.hurry(20)
    songs = listener.list()
    listener.press(0)
    assert eventually(listener.sounds)
    listener.page.locator("#auto").check()
    listener.embed.down = True
    listener.at(SONG, paused=True)
    assert eventually(lambda: "does not answer" in listener.says())
    script = "new MutationObserver(() => said.push(1)).observe(document.getElementById('sound'), { childList: true })"
    listener.page.evaluate(f"window.said = []; {script}")
    assert eventually(lambda: len(listener.embed.songs()) > 4, 20)  # the browser itself asks twice each time
    assert set(listener.embed.songs()[1:]) == {songs[1]}
    assert listener.page.evaluate("said") == []
    listener.embed.down = False
    assert eventually(lambda: listener.hears() == songs[1], 20)


def test_auto_play_goes_on_once_the_network_is_back(listener: Listener) -> None:
    """When the browser says so, at once; without auto play only at a click."""
    listener.hurry()
    songs = listener.list()
    listener.embed.down = True
    listener.press(0)
    assert eventually(lambda: "does not answer" in listener.says())
    listener.embed.down = False
    asked = len(listener.embed.asked)
    listener.page.evaluate("dispatchEvent(new Event('online'))")
    listener.page.wait_for_timeout(300)
    assert len(listener.embed.asked) == asked
    listener.page.locator("#auto").check()
    listener.page.evaluate("dispatchEvent(new Event('online'))")
    assert eventually(lambda: listener.hears() == songs[0], 3)


def test_a_browser_that_wants_a_click_is_said(listener: Listener) -> None:
    """Where the browser lets nothing sound by itself, the page says where to click, and no more once it plays."""
    listener.embed.shy = True
    listener.press(0)
    assert eventually(lambda: "press play in Spotify's player" in listener.says())
    listener.at(1000)
    assert eventually(lambda: "press play" not in listener.says())
    assert listener.sounds()


def test_a_song_that_cannot_be_played_is_said(listener: Listener) -> None:
    """The page goes on saying so, asks for no click, and stays with the song; another one plays."""
    listener.hurry()
    songs = listener.list()
    listener.embed.broken = {songs[0]}
    listener.press(0)
    assert eventually(lambda: "cannot play this song" in listener.says())
    listener.page.wait_for_timeout(1000)
    assert "cannot play this song" in listener.says()
    assert listener.embed.songs() == songs[:1]
    listener.press(1)
    assert eventually(lambda: listener.hears() == songs[1])
    assert "cannot play" not in listener.says()


def test_auto_play_passes_over_what_cannot_be_played(listener: Listener) -> None:
    """It goes on with the next song, but not for ever through a list of which none can be played."""
    listener.hurry()
    songs = listener.list()
    listener.embed.broken = {songs[0]}
    listener.press(0)
    listener.page.locator("#auto").check()
    assert eventually(lambda: listener.hears() == songs[1])
    listener.embed.broken = set(songs)
    listener.at(SONG, paused=True)
    assert eventually(lambda: listener.embed.songs() == songs[:7], 30)
    listener.page.wait_for_timeout(800)
    assert listener.embed.songs() == songs[:7]
    assert "cannot play this song" in listener.says()


def test_without_spotify_the_page_is_the_same_without_sound(listener: Listener) -> None:
    """A host that does not answer is said once, in one place; the songs, links and moods are as before."""
    listener.hurry()
    listener.embed.down = True
    listener.press(0)
    assert eventually(lambda: "has not answered yet" in listener.says(), 8)
    assert eventually(lambda: "Spotify does not answer" in listener.says(), 20)
    listener.tune("sad")
    assert len(links(listener.page)) >= 40
    listener.embed.down = False
    listener.page.locator("#toggle").click()
    assert eventually(listener.sounds)
    listener.press(1)
    assert eventually(lambda: listener.hears() == listener.list()[1])
    assert "does not answer" not in listener.says()


def test_only_the_player_may_be_framed(listener: Listener, site: Site) -> None:
    """The policy lets no script of another host in, not even the player's, and no frame but the player's."""
    script = """address => new Promise(done => {
        const made = document.createElement('script');
        made.onload = () => done('ran');
        made.onerror = () => done('refused');
        made.src = address;
        document.head.append(made);
    })"""
    assert listener.page.evaluate(script, f"{listener.embed.address}/script.js") == "refused"
    assert listener.embed.asked == []
    script = """address => new Promise(done => {
        document.addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective));
        const made = document.createElement('iframe');
        made.onload = () => setTimeout(() => done('framed'), 1000);
        made.src = address;
        document.body.append(made);
    })"""
    other = listener.embed.address.replace("127.0.0.1", "localhost")
    assert listener.page.evaluate(script, f"{other}/embed") == "frame-src"
    assert listener.embed.asked == []


def test_messages_from_elsewhere_are_not_heard(listener: Listener) -> None:
    """What another window posts moves nothing, whatever it says."""
    listener.press(0)
    assert eventually(listener.sounds)
    for told in ("{type: 'playback_update', payload: {isPaused: true, position: 0, duration: 9}}", "null", "'ready'"):
        listener.page.evaluate(f"window.postMessage({told}, '*')")
    listener.page.wait_for_timeout(200)
    assert listener.sounds()


@pytest.mark.parametrize(("width", "height"), [(360, 640), (844, 340)], ids=["upright", "on its side"])
def test_the_player_on_a_phone_leaves_the_list_in_sight(browser: Any, site: Site, width: int, height: int) -> None:
    """Of the player a row stays that names the song; Spotify's frame comes when it is asked for, and goes again."""
    context = browser.new_context(viewport={"width": width, "height": height}, is_mobile=True)
    page = context.new_page()
    page.goto(f"{site.address}/?emotion=happy")
    row = page.locator("#songs tbody tr").nth(3)
    row.locator(".play").click()
    assert eventually(lambda: "30 seconds" in page.locator("#sound").inner_text())
    assert page.locator("#playing").inner_text() == row.locator(".title").inner_text()
    assert page.locator("#player").bounding_box()["y"] > height - 128
    page.locator("#unfold").click()
    frame = page.locator("iframe").bounding_box()
    assert frame["y"] + frame["height"] <= height
    assert page.locator("#previous").is_visible()
    page.locator("#unfold").click()
    assert page.locator("iframe").bounding_box()["y"] >= height - 8
    context.close()


def test_the_player_on_a_phone_unfolds_for_the_keyboard(browser: Any, site: Site) -> None:
    """A switch that the keyboard comes to is in sight; one that was pressed lets the player fold, and buttons stay."""
    context = browser.new_context(viewport={"width": 360, "height": 640})
    page = context.new_page()
    page.goto(f"{site.address}/?emotion=happy")

    def folded() -> bool:
        return bool(page.locator("#player .shuffle").bounding_box()["y"] > 640)

    page.locator("#songs .play").nth(0).click()
    page.locator("iframe").wait_for()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator("#player .shuffle").click()
    page.evaluate("scrollTo({ top: 900, behavior: 'instant' })")
    assert eventually(folded)
    page.locator("#auto").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('.shuffle')")
    page.evaluate("scrollTo({ top: 900, behavior: 'instant' })")
    assert not folded()
    context.close()


@pytest.mark.parametrize("width", [360, 390])
def test_the_player_on_a_phone_hides_no_song(browser: Any, site: Site, embed: FakeEmbed, width: int) -> None:
    """On a phone the page fits its width, the player ends below the last song, and its buttons are 44 pixels."""
    context = browser.new_context(viewport={"width": width, "height": 640}, is_mobile=True)
    page = context.new_page()
    page.goto(f"{site.address}/?emotion=happy")
    page.locator("#songs .play").nth(0).click()
    assert eventually(lambda: page.locator("iframe").count() == 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    last, player = page.locator("#songs tbody tr").last.bounding_box(), page.locator("#player").bounding_box()
    assert last["y"] + last["height"] <= player["y"]
    buttons = page.locator("#player button:visible, .begin, tbody tr:first-child .play").all()
    assert len(buttons) == 6
    for button in buttons:
        box = button.bounding_box()
        assert min(box["width"], box["height"]) >= 44
    context.close()


# -- people's own Spotify


@pytest.fixture(scope="module")
def spotify() -> FakeSpotify:
    return FakeSpotify()


@pytest.fixture(scope="module")
def own(spotify: FakeSpotify, embed: FakeEmbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with an app at Spotify."""
    with (
        spotify.serving() as base,
        running(
            VISAGE_SOURCE="demo",
            VISAGE_EMBED=embed.address,
            VISAGE_TOKEN_CACHE=str(tmp_path_factory.mktemp("own") / "token.json"),
            SPOTIPY_CLIENT_ID="app",
            SPOTIFY_API_BASE=f"{base}/v1",
            SPOTIFY_ACCOUNTS_BASE=base,
        ) as made,
    ):
        yield made


@pytest.fixture
def somebody(browser: Any, own: Site, spotify: FakeSpotify, embed: FakeEmbed) -> Iterator[Any]:
    """A browser in which nobody is logged in to Spotify yet, at the happy list; there is a device in the kitchen."""
    embed.asked, spotify.played, spotify.lists, spotify.on, spotify.paused = [], [], {}, None, False
    spotify.devices = [{"id": "kitchen1", "name": "Kitchen", "is_active": False, "is_restricted": False}]
    context = browser.new_context()
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{own.address}/?emotion=happy")
    yield page
    context.close()
    assert wrong == []


def log_in(page: Any) -> None:
    page.locator("#stranger a").click()
    page.locator("#known").wait_for()


def come_back(page: Any) -> None:
    """As after a while in another window."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def choose_device(page: Any, name: str) -> None:
    page.locator("#known").wait_for()
    page.locator("#device").focus()  # then the page asks Spotify which there are
    page.locator("#device").select_option(label=name)


def later(page: Any) -> None:
    """From now on it is some time later for the page."""
    page.evaluate("{ const now = performance.now() + 60000; performance.now = () => now; }")


def seconds_pass(page: Any, seconds: float) -> None:
    """So many have passed for the page, and more do."""
    shift = "(time) => { const now = performance.now.bind(performance); performance.now = () => now() + time; }"
    page.evaluate(shift, 1000 * seconds)


def told(page: Any, place: str = "#told") -> str:
    said = str(page.locator(place).inner_text()) if page.locator(place).is_visible() else ""
    return re.sub("[\u2068\u2069]", "", said)  # they keep the direction of a name to itself


def test_somebody_with_spotify_of_their_own(somebody: Any, spotify: FakeSpotify, embed: FakeEmbed) -> None:
    """Log in, hear a song on a device instead of the page, be told why not, save the mood, log out."""
    page = somebody
    log_in(page)
    page.locator("#chips [data-emotion=happy]").click()
    assert eventually(lambda: len(links(page)) >= 40)
    listener = Listener(page, embed)
    songs = listener.list()

    choose_device(page, "Kitchen")
    listener.press(2)
    assert eventually(lambda: "plays on Kitchen" in told(page, "#sent"))
    page.locator("#further").click()
    assert eventually(lambda: len(spotify.played) == 2)
    assert spotify.played == [("kitchen1", [f"spotify:track:{song}" for song in songs[n:]]) for n in (2, 3)]
    assert embed.asked == []

    page.locator("#device").select_option(label="my active device")
    listener.press(0)
    assert eventually(lambda: "No Spotify of yours is active" in told(page, "#sent"))

    page.locator("#device").select_option(label="this page")
    listener.press(1)
    assert eventually(lambda: listener.hears() == songs[1])

    page.locator("#save").click()
    assert eventually(lambda: page.locator("#told a[href*='/playlist/']").count() == 1)
    [saved] = spotify.lists.values()
    assert [entry["item"]["id"] for entry in saved.entries if entry] == songs

    assert page.evaluate("document.cookie") == ""
    page.locator("#leave").click()
    assert eventually(lambda: page.locator("#stranger").is_visible())
    assert not page.locator("#known").is_visible()
    assert eventually(lambda: page.evaluate("document.activeElement.matches('#stranger a')"))


def test_a_song_on_a_device_shows_where_it_was_pressed(somebody: Any, spotify: FakeSpotify) -> None:
    """Its row is marked, and the window's foot names it; both no more when the device does not take it."""
    log_in(somebody)
    somebody.goto(urljoin(somebody.url, "/?emotion=happy"))
    choose_device(somebody, "Kitchen")
    row = somebody.locator("#songs tbody tr").nth(30)
    row.locator(".play").click()
    assert eventually(lambda: told(somebody, "#sent").startswith(row.locator(".title").inner_text()))
    assert row.get_attribute("aria-current") == "true"
    assert somebody.locator("tr [data-playing]").count() == 0, "pressed again it would begin anew"
    box = somebody.locator("#sent").bounding_box()
    assert box["y"] + box["height"] <= somebody.viewport_size["height"]
    assert somebody.evaluate("scrollY") > 0
    kitchen, spotify.devices, spotify.on = spotify.devices, [], None
    somebody.locator("#songs .play").nth(33).click()
    assert eventually(lambda: "That device is gone" in told(somebody, "#sent"))
    assert somebody.locator("#songs tr[aria-current]").count() == 0
    spotify.devices = kitchen  # and the list goes on after the last one that it took
    somebody.locator("#songs .begin").click()
    following = somebody.locator("#songs tbody tr").nth(31).get_attribute("data-track")
    assert eventually(lambda: spotify.on == following)


CURRENT = "document.querySelector('#songs tr[aria-current]')?.dataset.track ?? null"


def test_a_device_that_names_no_song_for_a_while(somebody: Any, spotify: FakeSpotify, embed: FakeEmbed) -> None:
    """Its song is marked again once it names one."""
    log_in(somebody)
    somebody.goto(urljoin(somebody.url, "/?emotion=happy"))
    choose_device(somebody, "Kitchen")
    listener = Listener(somebody, embed)
    listener.press(0)
    assert eventually(lambda: "plays on Kitchen" in told(somebody, "#sent"))
    for on in (None, listener.list()[2]):
        seconds_pass(somebody, 6)
        spotify.on = on
        come_back(somebody)
        assert eventually(lambda on=on: somebody.evaluate(CURRENT) == on)


def test_the_button_of_the_whole_list_and_a_device(somebody: Any, spotify: FakeSpotify, embed: FakeEmbed) -> None:
    """A song of the list pauses and goes on there, however far it has come; else the list's following song begins."""
    log_in(somebody)
    somebody.goto(urljoin(somebody.url, "/?emotion=happy"))
    choose_device(somebody, "Kitchen")
    listener, begin = Listener(somebody, embed), somebody.locator("#songs .begin")
    happy = listener.list()

    def offers(what: str) -> bool:
        return eventually(lambda: begin.get_attribute("aria-label") == f"{what} these songs")

    begin.dblclick()
    assert offers("Pause")
    assert (spotify.on, spotify.paused) == (happy[0], False)
    seconds_pass(somebody, 6)
    spotify.on = happy[4]
    come_back(somebody)
    assert eventually(lambda: somebody.evaluate(CURRENT) == happy[4])
    begin.click()
    assert offers("Play")
    assert spotify.paused
    begin.click()
    assert offers("Pause")
    assert not spotify.paused
    somebody.locator("#halt").click()
    assert offers("Play")
    somebody.locator("#halt").click()
    assert offers("Pause")
    listener.tune("sad")
    assert offers("Play")
    begin.click()
    assert eventually(lambda: spotify.on == listener.list()[0])
    assert eventually(lambda: "plays on Kitchen" in told(somebody, "#sent"))
    listener.tune("happy")
    assert offers("Play")
    begin.click()
    assert eventually(lambda: spotify.on == happy[5])
    assert len(spotify.played) == 3
    somebody.reload()
    assert offers("Pause")
    somebody.locator("#device").select_option(label="this page")
    assert offers("Play")
    assert embed.asked == []


def test_names_turn_no_sentence_around(somebody: Any, spotify: FakeSpotify) -> None:
    """What is said of a Hebrew song on a device of that name stays English: the song stands first, at the left."""
    spotify.devices[0]["name"] = "\N{HEBREW LETTER SAMEKH}\N{HEBREW LETTER LAMED}!"
    log_in(somebody)
    somebody.goto(urljoin(somebody.url, "/?emotion=happy"))
    choose_device(somebody, spotify.devices[0]["name"])
    title = "\N{HEBREW LETTER SHIN}\N{HEBREW LETTER SHIN} (live)"
    somebody.evaluate("title => document.querySelector('tbody .title bdi').textContent = title", title)
    somebody.locator("#songs .play").nth(0).click()
    assert eventually(lambda: "plays on" in told(somebody, "#sent"))
    script = """() => {
        const [text, range] = [document.getElementById('sent').firstChild, document.createRange()];
        const at = (part) => {
            const start = text.data.indexOf(part);
            range.setStart(text, start);
            range.setEnd(text, start + part.length);
            return range.getBoundingClientRect().left;
        };
        return [at('live'), at('\\u05e9'), at('plays'), at('!'), at('\\u05e1'), at(', then')];
    }"""
    places = somebody.evaluate(script)
    assert places == sorted(places)


def test_a_device_goes_on_and_pauses(somebody: Any, spotify: FakeSpotify, embed: FakeEmbed) -> None:
    """It has the rest of the list; Next is the song after the one that it has come to, and it can be silenced."""
    log_in(somebody)
    somebody.goto(urljoin(somebody.url, "/?emotion=happy"))
    choose_device(somebody, "Kitchen")
    listener = Listener(somebody, embed)
    songs, halt = listener.list(), somebody.locator("#halt")
    listener.press(0)
    assert eventually(lambda: [len(uris) for _, uris in spotify.played] == [len(songs)])
    somebody.locator("#further").click()
    somebody.locator("#further").click()  # at once: Spotify may still name the song before
    assert eventually(lambda: spotify.on == songs[2])
    seconds_pass(somebody, 6)
    spotify.on = songs[4]
    somebody.locator("#further").click()
    assert eventually(lambda: spotify.on == songs[5])
    current = somebody.locator("#songs tr[aria-current]")
    assert eventually(lambda: current.get_attribute("data-track") == songs[5])
    seconds_pass(somebody, 6)
    spotify.on = songs[8]
    come_back(somebody)
    assert eventually(lambda: current.get_attribute("data-track") == songs[8])
    somebody.locator("#songs h2").focus()
    somebody.keyboard.press("Space")
    assert eventually(lambda: halt.get_attribute("aria-label") == "Resume your device")
    assert spotify.paused
    halt.click()
    assert eventually(lambda: halt.get_attribute("aria-label") == "Pause your device")
    assert not spotify.paused
    spotify.paused = True  # on the device itself
    halt.click()
    assert eventually(lambda: "cannot do this now" in told(somebody, "#sent"))
    assert eventually(lambda: halt.get_attribute("aria-label") == "Resume your device")
    halt.click()
    assert eventually(lambda: halt.get_attribute("aria-label") == "Pause your device")
    seconds_pass(somebody, 6)
    spotify.fail("/me/player", error(503, "Oh no"))
    somebody.locator("#further").click()
    assert eventually(lambda: spotify.on == songs[9])


def test_a_device_gets_shuffled_songs(somebody: Any, spotify: FakeSpotify, embed: FakeEmbed) -> None:
    """The one that was pressed, then the others by chance; Next repeats none that the device has played by itself."""
    log_in(somebody)
    somebody.goto(urljoin(somebody.url, "/?emotion=happy"))
    choose_device(somebody, "Kitchen")
    listener = Listener(somebody, embed)
    songs = listener.list()
    switch(somebody, "#remote").check()
    listener.press(2)
    assert eventually(lambda: spotify.played)
    given = [uri.removeprefix("spotify:track:") for uri in spotify.played[0][1]]
    assert given[0] == songs[2]
    assert sorted(given) == sorted(songs)
    assert given[1:] not in (songs[3:] + songs[:2], songs[:2] + songs[3:])
    assert eventually(lambda: "then others of its list" in told(somebody, "#sent"))
    seconds_pass(somebody, 6)
    spotify.on = given[-2]
    somebody.locator("#further").click()
    assert eventually(lambda: spotify.on == given[-1])
    somebody.locator("#device").select_option(label="this page")
    listener.press(0)
    assert switch(somebody, "#player").is_checked()


def test_a_device_of_before_is_waited_for(somebody: Any, spotify: FakeSpotify, embed: FakeEmbed) -> None:
    """A song that is pressed before it is known who is logged in sounds there and not on the page."""
    log_in(somebody)
    choose_device(somebody, "Kitchen")
    answers = Held(somebody, "**/spotify*")
    somebody.goto(urljoin(somebody.url, "/?emotion=happy"))
    answer = answers.next()
    somebody.locator("#songs .play").nth(0).click()
    somebody.wait_for_timeout(300)
    assert (embed.asked, spotify.played) == ([], [])
    answers.open()
    answer.continue_()
    assert eventually(lambda: "plays on Kitchen" in told(somebody, "#sent"))
    assert [device for device, _ in spotify.played] == ["kitchen1"]
    assert embed.asked == []


@pytest.mark.parametrize("button", [".play", ".begin"])
def test_a_device_of_before_without_a_login(somebody: Any, spotify: FakeSpotify, embed: FakeEmbed, button: str) -> None:
    """While nobody can say who is logged in, a song sounds nowhere, and the page says why; without a login, there."""
    log_in(somebody)
    choose_device(somebody, "Kitchen")
    answers = Held(somebody, "**/spotify*")
    somebody.route("**/spotify/playing", lambda route: route.fulfill(status=401, json={"error": "Log in."}))
    somebody.goto(urljoin(somebody.url, "/?emotion=happy"))
    answers.next().fulfill(status=503, json={"error": "Spotify takes long to answer."})
    assert eventually(lambda: "takes long" in told(somebody))
    somebody.locator(button).nth(0).click()
    answers.next().fulfill(status=503, json={"error": "Spotify takes long to answer."})
    assert eventually(lambda: "takes long" in told(somebody, "#sent"))
    assert embed.asked == []
    assert somebody.locator("#songs tr[aria-current]").count() == 0
    somebody.locator(button).nth(0).click()
    answers.next().fulfill(json={"logged_in": False, "devices": [], "told": ""})
    assert eventually(lambda: embed.asked)
    assert not somebody.locator("#remote").is_visible()
    assert spotify.played == []


def test_spotify_hears_of_nobody_who_wants_no_device(somebody: Any, spotify: FakeSpotify) -> None:
    """Logged in, a visit says nothing to Spotify until somebody turns to the menu; what stands there stays."""
    log_in(somebody)
    spotify.asked.clear()
    with somebody.expect_response("**/spotify*"):
        somebody.goto(urljoin(somebody.url, "/?emotion=happy"))
    somebody.locator("#known").wait_for()
    with somebody.expect_response("**/spotify*"):
        come_back(somebody)
    assert spotify.asked == []
    choose_device(somebody, "Kitchen")
    assert [asked.path for asked in spotify.asked] == ["/v1/me/player/devices"]
    somebody.evaluate("window.kitchen = document.getElementById('device').selectedOptions[0]")
    with somebody.expect_response("**/spotify*"):
        come_back(somebody)
    somebody.wait_for_timeout(200)
    assert somebody.evaluate("kitchen.isConnected")


def test_a_device_and_a_login_that_come_while_the_page_is_in_sight(somebody: Any, spotify: FakeSpotify) -> None:
    """The page looks again when its window or the menu gets the focus, not more than every ten seconds."""
    somebody.locator("#stranger").wait_for()
    newer = somebody.context.new_page()
    newer.goto(somebody.url)
    log_in(newer)
    newer.close()
    later(somebody)
    somebody.evaluate("dispatchEvent(new Event('focus'))")
    somebody.locator("#known").wait_for()
    choose_device(somebody, "Kitchen")
    spotify.devices.append({"id": "bath1", "name": "Bathroom", "is_active": False, "is_restricted": False})
    somebody.locator("#save").focus()
    asked = len(spotify.asked)
    somebody.locator("#device").focus()
    somebody.wait_for_timeout(300)
    assert len(spotify.asked) == asked
    somebody.locator("#save").focus()
    later(somebody)
    choose_device(somebody, "Bathroom")


def test_an_older_tab_hears_of_a_login_and_of_a_logout(somebody: Any) -> None:
    """At each return a tab sees how things stand, and offers no login to somebody who is logged in."""
    somebody.locator("#stranger").wait_for()
    newer = somebody.context.new_page()
    newer.goto(somebody.url)
    log_in(newer)
    come_back(somebody)
    somebody.locator("#known").wait_for()
    assert not somebody.locator("#stranger").is_visible()
    newer.locator("#leave").click()
    newer.locator("#stranger").wait_for()
    come_back(somebody)
    somebody.locator("#stranger").wait_for()


def test_no_login_is_offered_until_it_is_known_who_is_logged_in(somebody: Any) -> None:
    """While the site cannot say, the page says why and offers nothing; the next return finds out."""
    log_in(somebody)
    answers = Held(somebody, "**/spotify*")
    somebody.reload()
    answer = answers.next()
    assert not somebody.locator("#stranger").is_visible()
    answer.fulfill(status=503, json={"error": "Spotify takes long to answer."})
    assert eventually(lambda: told(somebody) == "Spotify takes long to answer.")
    assert not somebody.locator("#stranger").is_visible()
    answers.open()
    come_back(somebody)
    somebody.locator("#known").wait_for()
    assert told(somebody) == ""


def test_a_device_stays_chosen_while_it_sleeps(somebody: Any, spotify: FakeSpotify, embed: FakeEmbed) -> None:
    """A song for a device that is gone sounds nowhere else: the page says that it is gone, and keeps the choice."""
    log_in(somebody)
    somebody.goto(urljoin(somebody.url, "/?emotion=happy"))
    somebody.locator("#known").wait_for()
    choose_device(somebody, "Kitchen")
    kitchen, spotify.devices = spotify.devices, []
    for _ in range(2):
        with somebody.expect_response("**/spotify*"):
            come_back(somebody)
    somebody.locator("#songs .play").nth(0).click()
    assert eventually(lambda: "That device is gone" in told(somebody, "#sent"))
    assert embed.asked == []
    spotify.devices = kitchen
    with somebody.expect_response("**/spotify*"):
        come_back(somebody)
    assert eventually(lambda: somebody.locator("#device option").count() == 3)
    somebody.locator("#songs .play").nth(0).click()
    assert eventually(lambda: "plays on Kitchen" in told(somebody, "#sent"))


def test_a_device_stays_chosen_on_another_page(somebody: Any) -> None:
    """After a reload, and where songs are found for a photo; who logs out takes the choice along."""
    log_in(somebody)
    choose_device(somebody, "Kitchen")
    for address in ("/", "/photo"):
        somebody.goto(urljoin(somebody.url, address))
        somebody.locator("#known").wait_for()
        assert somebody.locator("#device").input_value() == "kitchen1"
        assert somebody.locator("#further").is_visible()
    somebody.locator("#leave").click()
    log_in(somebody)
    assert somebody.locator("#device").input_value() == ""


def test_a_login_that_ended_elsewhere_is_offered_again(somebody: Any, embed: FakeEmbed) -> None:
    """A click on a song says so; then the login is there, and songs sound on the page until it is used."""
    log_in(somebody)
    somebody.goto(urljoin(somebody.url, "/?emotion=happy"))
    somebody.locator("#known").wait_for()
    choose_device(somebody, "Kitchen")
    newer = somebody.context.new_page()
    newer.goto(somebody.url)
    newer.locator("#leave").click()
    newer.locator("#stranger").wait_for()
    somebody.locator("#songs .play").nth(0).click()
    somebody.locator("#stranger").wait_for()
    assert not somebody.locator("#known").is_visible()
    assert eventually(lambda: "not logged in to Spotify here" in told(somebody))
    somebody.locator("#songs .play").nth(0).click()
    assert eventually(lambda: embed.asked)
    log_in(newer)
    come_back(somebody)
    somebody.locator("#known").wait_for()
    assert eventually(lambda: told(somebody) == "")


def test_trouble_that_is_over_is_said_no_more(somebody: Any, spotify: FakeSpotify) -> None:
    """What keeps devices away is said until a return finds them; what a click led to stays."""
    log_in(somebody)
    somebody.goto(urljoin(somebody.url, "/"))
    somebody.locator("#known").wait_for()
    spotify.fail("/me/player/devices", error(503, "Oh no"), for_ever=True)
    somebody.locator("#device").focus()
    assert eventually(lambda: told(somebody) != "")
    with somebody.expect_response("**/spotify*"):
        come_back(somebody)
    somebody.wait_for_timeout(200)
    assert told(somebody) != ""
    spotify.faults.clear()
    somebody.locator("#device").select_option(label="my active device")
    come_back(somebody)
    assert eventually(lambda: told(somebody) == "")
    somebody.locator("#save").click()
    assert eventually(lambda: told(somebody) == "There is no mood yet.")
    with somebody.expect_response("**/spotify*"):
        come_back(somebody)
    somebody.wait_for_timeout(200)
    assert told(somebody) == "There is no mood yet."


def test_a_refused_login_is_no_place_to_come_back_to(somebody: Any) -> None:
    """The page says what went wrong, and its address is that of the page, also once a mood is chosen."""
    base = urljoin(somebody.url, "/")
    somebody.goto(f"{base}spotify/callback?error=access_denied&state=x")
    assert "Please log in again" in told(somebody)
    assert eventually(lambda: somebody.evaluate("location.href") == base)
    somebody.locator("#chips [data-emotion=happy]").click()
    assert eventually(lambda: somebody.evaluate("location.href") == f"{base}?emotion=happy")


def test_a_login_comes_back_to_where_it_began(somebody: Any) -> None:
    """With the mood, the camera and the switch as they were; from the page for photos to that page."""
    base = urljoin(somebody.url, "/")
    for place in ("?emotion=sad&way=server&lift=1", "photo"):
        somebody.goto(base + place)
        if somebody.locator("#known").is_visible() or eventually(somebody.locator("#known").is_visible, 1):
            somebody.locator("#leave").click()
        log_in(somebody)
        assert somebody.url == base + place


def test_two_clicks_save_one_playlist(somebody: Any, spotify: FakeSpotify) -> None:
    """While a mood is being saved a second click does nothing and takes no focus; later it can be saved again."""
    log_in(somebody)
    somebody.goto(urljoin(somebody.url, "/?emotion=happy"))
    somebody.locator("#known").wait_for()
    saves = Held(somebody, "**/spotify/save")
    somebody.locator("#save").dblclick()
    saves.next().continue_()
    assert somebody.evaluate("document.activeElement.id") == "save"
    somebody.locator("#told a[href*='/playlist/']").wait_for()
    assert (saves.waiting, len(spotify.lists)) == ([], 1)
    saves.open()
    somebody.locator("#save").click()
    assert eventually(lambda: len(spotify.lists) == 2)
