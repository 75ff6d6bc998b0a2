"""The visitor's own camera, and photos, in a real Chromium whose camera plays a clip of the demo's face."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from model.demo import ORDER, SECONDS_EACH, demo_frame
from model.emotions import EMOTIONS, Emotion
from tests.conftest import eventually, launch_chromium
from tests.test_site import Site, running

ASKED = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")  # and allowed without a person
MOMENT = 5.0  # seconds into an emotion of the demo, well clear of the blends

pytestmark = pytest.mark.browser


def looking(emotion: Emotion, offset: float = 0.0) -> np.ndarray:
    """The demo's face with an expression, `offset` seconds before or after the middle of it."""
    return demo_frame(ORDER.index(emotion) * SECONDS_EACH + MOMENT + offset)


def clip_of(path: Path, *emotions: Emotion) -> Path:
    """Motion JPEG that a fake camera plays: two seconds an emotion, the face left of the middle and on the move."""
    with path.open("wb") as clip:
        for emotion in emotions:
            for step in range(20):
                frame = cv2.resize(looking(emotion, step / 10 - 1), (320, 240), interpolation=cv2.INTER_AREA)
                shift = np.array([[1, 0, -50 + step], [0, 1, 0]], np.float32)
                frame = cv2.warpAffine(frame, shift, (320, 240), borderMode=cv2.BORDER_REPLICATE)
                clip.write(cv2.imencode(".jpg", frame)[1].tobytes() * 3)  # played at 30 a second
    return path


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running(VISAGE_SOURCE="demo", VISAGE_DWELL="1", VISAGE_HOLD="0.5", VISAGE_TIME_CONSTANT="0.5") as made:
        yield made


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Chromium with a camera that plays emotions; with other arguments alone, without one."""
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("clips")
    with sync_playwright() as playwright, ExitStack() as open_browsers:

        @cache
        def launched(*emotions: Emotion, args: tuple[str, ...] = ASKED) -> Any:
            if emotions:
                clip = clip_of(folder / f"{'-'.join(emotions)}.mjpeg", *emotions)
                args = (*args, f"--use-file-for-fake-video-capture={clip}")
            browser = launch_chromium(playwright, *args)
            open_browsers.callback(browser.close)
            return browser

        yield launched


@pytest.fixture(scope="module")
def happy(launch: Callable[..., Any]) -> Any:
    return launch(Emotion.HAPPY)


class Visitor:
    """Somebody with the page open, and what they see."""

    def __init__(self, page: Any) -> None:
        self.page = page

    @property
    def sent(self) -> list[float]:
        """When the page sent pictures, milliseconds."""
        return list(self.page.evaluate("sent"))

    def start(self) -> None:
        self.page.locator("#start").click()

    def mood(self) -> str:
        return str(self.page.locator("#mood").inner_text()).strip().lower()

    def tuned(self) -> str:
        return str(self.page.locator("#songs .list").get_attribute("data-emotion"))

    def box(self) -> list[float] | None:
        """Where the first face's box is on the stage: its left edge and its middle, as shares of the width."""
        script = """() => {
            const mark = document.querySelector('#faces .mark')?.getBoundingClientRect();
            const stage = document.getElementById('stage').getBoundingClientRect();
            return mark && [mark.left, mark.left + mark.width / 2].map(x => (x - stage.left) / stage.width);
        }"""
        return self.page.evaluate(script)  # type: ignore[no-any-return]

    def says(self) -> str:
        return str(self.page.locator("#notice").inner_text())

    def lit(self) -> bool:
        """Whether a camera of this page is open: the light of it is on."""
        return bool(self.page.evaluate("opened.some(track => track.readyState === 'live')"))


WATCHED = """
    window.opened = [];
    const open = navigator.mediaDevices?.getUserMedia.bind(navigator.mediaDevices);
    if (open) navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await open(wanted);
        opened.push(...stream.getTracks());
        return stream;
    };
    window.sent = [];
    const ask = window.fetch.bind(window);
    window.fetch = (address, options) => {
        if (address === '/recognize') sent.push(performance.now());
        return ask(address, options);
    };
"""
HIDDEN = """hidden => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
}"""
LISTENING = """() => {
    window.heard = [];
    const notice = document.getElementById('notice');
    new MutationObserver(() => heard.push(notice.textContent)).observe(notice, { childList: true });
}"""


@contextmanager
def visiting(browser: Any, address: str, *scripts: str, **options: Any) -> Iterator[Visitor]:
    """A fresh window; a script error fails the test."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    for script in (WATCHED, *scripts):
        page.add_init_script(script)
    page.goto(address)
    yield Visitor(page)
    context.close()
    assert wrong == []


# -- the visitor's own camera


def test_the_mood_comes_and_the_songs_follow(launch: Callable[..., Any], site: Site) -> None:
    """After the button: a box that moves, a mood, its songs; others when the face changes. The site's camera sleeps."""
    with visiting(launch(Emotion.HAPPY, Emotion.SAD), f"{site.address}/?way=mine") as visitor:
        visitor.page.locator("#follow").click()
        assert not visitor.lit()
        assert visitor.tuned() == ""
        visitor.start()
        assert eventually(lambda: visitor.mood() in set(EMOTIONS), 20)
        first = visitor.box()
        assert eventually(lambda: visitor.box() not in (None, first))
        assert eventually(lambda: visitor.tuned() == "happy", 20)
        assert visitor.page.locator("#songs tbody tr").count() >= 40
        assert eventually(lambda: visitor.tuned() == "sad", 20)
        assert "%" in visitor.page.locator("#bars [data-emotion=sad]").inner_text()
        assert site.state()["camera"]["status"] == "idle"  # type: ignore[index]


def test_the_picture_is_a_mirror(happy: Any, site: Site) -> None:
    """A face left of the middle, as the camera sees it, is shown and boxed right of it, its label to be read."""
    with visiting(happy, f"{site.address}/?way=mine") as visitor:
        visitor.start()
        assert eventually(visitor.box, 20)
        assert (visitor.box() or [0, 0])[1] > 0.5
        shown = visitor.page.evaluate("getComputedStyle(document.getElementById('mirror')).transform")
        assert shown.startswith("matrix(-1,")
        assert eventually(lambda: "happy" in visitor.page.locator("#faces").inner_text())


def test_two_visitors_keep_their_own_moods(happy: Any, launch: Callable[..., Any], site: Site) -> None:
    """Two browsers with different faces see each their own mood and songs, at the same time."""
    address = f"{site.address}/?way=mine"
    with visiting(happy, address) as one, visiting(launch(Emotion.SAD), address) as other:
        one.start()
        other.start()
        assert eventually(lambda: (one.tuned(), other.tuned()) == ("happy", "sad"), 20)
        for _ in range(10):
            one.page.wait_for_timeout(100)
            assert (one.mood(), other.mood()) == ("happy", "sad")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--use-fake-device-for-media-stream", "--deny-permission-prompts"), "Allow it in the browser's settings"),
        (("--use-fake-ui-for-media-stream",), "no camera on this device"),
    ],
    ids=["denied", "absent"],
)
def test_a_camera_that_may_not_or_cannot_open(
    launch: Callable[..., Any], site: Site, args: tuple[str, ...], says: str
) -> None:
    """The page says why there is no picture and what to do; the moods work all the same."""
    with visiting(launch(args=args), f"{site.address}/?way=mine") as visitor:
        visitor.start()
        assert eventually(lambda: says in visitor.says())
        assert visitor.page.locator("#retry").is_visible()
        visitor.page.locator("#chips [data-emotion=sad]").click()
        assert eventually(lambda: visitor.tuned() == "sad")
        assert visitor.sent == []


def test_a_camera_in_use_can_be_tried_again(happy: Any, site: Site) -> None:
    """A camera that another program holds is said; once it is free, the button opens it."""
    busy = """
        window.busy = true;
        const free = navigator.mediaDevices.getUserMedia;
        navigator.mediaDevices.getUserMedia = (wanted) =>
            busy ? Promise.reject(new DOMException('', 'NotReadableError')) : free(wanted);
    """
    with visiting(happy, f"{site.address}/?way=mine", busy) as visitor:
        visitor.start()
        assert eventually(lambda: "in use by another program" in visitor.says())
        visitor.page.evaluate("busy = false")
        visitor.page.locator("#retry").click()
        assert visitor.page.evaluate("document.activeElement.id") == "pause"
        assert eventually(lambda: visitor.mood() == "happy", 20)
        assert visitor.says() == ""


def test_a_question_of_the_browsers_is_pointed_out(happy: Any, site: Site) -> None:
    """While it waits for an answer the page does not seem to hang: it says where to look, and no more afterwards."""
    asking = """
        const real = navigator.mediaDevices.getUserMedia;
        navigator.mediaDevices.getUserMedia = async (wanted) => {
            await new Promise((resolve) => { window.allow = resolve; });
            return real(wanted);
        };
    """
    with visiting(happy, f"{site.address}/?way=mine", asking) as visitor:
        visitor.start()
        assert eventually(lambda: "look beside the address" in visitor.says())
        visitor.page.evaluate("allow()")
        assert eventually(lambda: visitor.says() == "")
        visitor.page.locator("#pause").click()
        visitor.page.locator("#pause").click()
        visitor.page.locator("#pause").click()
        visitor.page.wait_for_timeout(3500)
        assert visitor.says() == ""


def test_a_camera_that_was_denied_is_asked_for_by_a_click_alone(happy: Any, site: Site) -> None:
    """Coming back to the page asks nobody again, and it still says why there is no picture; its buttons do ask."""
    denied = """
        window.asked = 0;
        navigator.mediaDevices.getUserMedia = () => {
            asked += 1;
            return Promise.reject(new DOMException('', 'NotAllowedError'));
        };
    """
    with visiting(happy, f"{site.address}/?way=mine", denied) as visitor:

        def is_told(times: int) -> bool:
            return eventually(lambda: "Allow it" in visitor.says() and visitor.page.evaluate("asked") == times)

        visitor.start()
        assert is_told(1)
        visitor.page.evaluate(HIDDEN, True)
        visitor.page.evaluate(HIDDEN, False)
        visitor.page.wait_for_timeout(300)
        assert is_told(1)
        visitor.page.locator("#retry").click()
        assert is_told(2)
        visitor.page.locator("#pause").click()
        visitor.page.locator("#pause").click()
        assert is_told(3)


def test_an_insecure_origin_is_said_before_anything_is_asked(happy: Any, site: Site) -> None:
    """Where browsers keep cameras from a page, it says so at once and offers no button that cannot work."""
    plain = """
        Object.defineProperty(navigator, 'mediaDevices', { value: undefined });
        Object.defineProperty(window, 'isSecureContext', { value: false });
    """
    with visiting(happy, f"{site.address}/?way=mine", plain) as visitor:
        assert "https" in visitor.says()
        assert not visitor.page.locator("#start").is_visible()
        visitor.page.locator("#ways [data-way=server]").click()
        assert visitor.says() == ""
        assert visitor.page.locator("#start").is_visible()


def test_a_hidden_page_and_a_pause_release_the_camera(happy: Any, site: Site) -> None:
    """Hidden or paused, the page sends nothing and the light is out; shown or resumed, it goes on."""
    with visiting(happy, f"{site.address}/?way=mine") as visitor:
        visitor.start()
        assert eventually(lambda: visitor.mood() == "happy", 20)
        pause = visitor.page.locator("#pause")
        for off, on in (
            (lambda: visitor.page.evaluate(HIDDEN, True), lambda: visitor.page.evaluate(HIDDEN, False)),
            (pause.click, pause.click),
        ):
            off()
            assert not visitor.lit()
            assert visitor.page.evaluate("document.getElementById('mirror').srcObject") is None
            visitor.page.wait_for_timeout(300)  # an answer that was on its way
            sent = len(visitor.sent)
            visitor.page.wait_for_timeout(500)
            assert len(visitor.sent) == sent
            assert visitor.box() is None
            on()
            assert eventually(lambda: visitor.lit() and visitor.mood() == "happy", 20)


def test_a_camera_that_was_unplugged_is_used_again(happy: Any, site: Site) -> None:
    """The page says that the camera has gone, and takes it again without a click."""
    with visiting(happy, f"{site.address}/?way=mine") as visitor:
        visitor.start()
        assert eventually(lambda: visitor.mood() == "happy", 20)
        visitor.page.evaluate("opened.forEach(track => track.stop())")
        assert eventually(lambda: "camera has gone" in visitor.says())
        assert eventually(lambda: visitor.mood() == "happy" and visitor.says() == "", 20)


def test_a_camera_without_a_picture(happy: Any, site: Site) -> None:
    """One that opens and sends nothing, or falls silent, is said, and no mood stands beside it; both can end."""
    silent = """
        const loud = navigator.mediaDevices.getUserMedia;
        navigator.mediaDevices.getUserMedia = async (wanted) => {
            const [track] = (await loud(wanted)).getTracks();
            window.shown = new MediaStreamTrackGenerator({ kind: 'video' });
            const pictures = new MediaStreamTrackProcessor({ track }).readable;
            window.speak = () => void pictures.pipeTo(shown.writable).catch(() => {});
            return new MediaStream([shown]);
        };
    """
    mute = "(muted) => Object.defineProperty(shown, 'muted', { value: muted, configurable: true })"
    with visiting(happy, f"{site.address}/?way=mine", silent) as visitor:

        def is_dark() -> bool:
            return eventually(lambda: "sends no picture" in visitor.says() and visitor.mood() == "no picture", 20)

        def sees() -> bool:
            return eventually(lambda: visitor.says() == "" and visitor.mood() == "happy", 20)

        visitor.start()
        assert is_dark()
        assert visitor.sent == []
        visitor.page.evaluate("speak()")
        assert sees()
        visitor.page.evaluate(mute, True)
        assert is_dark()
        assert visitor.box() is None
        assert "%" not in visitor.page.locator("#reading").inner_text()
        visitor.page.evaluate(mute, False)
        assert sees()
        visitor.page.evaluate(mute, True)
        assert is_dark()
        visitor.page.locator("#pause").click()
        assert (visitor.says(), visitor.mood()) == ("", "paused")


def test_a_site_that_is_full_is_asked_less(happy: Any, site: Site) -> None:
    """After a 429 the page waits as long as it was told and goes on; of two in a row it makes no words."""
    refusals = [1, 1]

    def refuse(route: Any) -> None:
        if refusals:
            refusals.pop()
            route.fulfill(status=429, headers={"Retry-After": "1"}, json={"error": "too many at once"})
        else:
            route.continue_()

    with visiting(happy, f"{site.address}/?way=mine") as visitor:
        visitor.page.route("**/recognize", refuse)
        visitor.page.evaluate(LISTENING)
        visitor.start()
        assert eventually(lambda: visitor.mood() == "happy", 20)
        first, second, third = visitor.sent[:3]
        assert second - first >= 999
        assert third - second >= 999
        assert visitor.page.evaluate("heard") == []


def test_a_site_without_a_camera_and_its_end(happy: Any) -> None:
    """Such a site begins with the visitor's camera. When it goes away the page says so, and no box is left."""
    with running(VISAGE_SOURCE="none") as short, visiting(happy, short.address) as visitor:
        assert visitor.page.locator("#ways a").all_inner_texts() == ["My camera", "A photo"]
        visitor.start()
        assert eventually(lambda: visitor.mood() == "happy", 20)
        short.process.kill()
        assert eventually(lambda: "does not answer" in visitor.says(), 20)
        assert visitor.box() is None
        assert visitor.lit()


def test_a_page_of_somebody_elses_is_no_reading(happy: Any, site: Site) -> None:
    """A login page in place of what the site reads is no answer: the page says so, and goes on once there are some."""
    with visiting(happy, f"{site.address}/?way=mine") as visitor:
        visitor.start()
        assert eventually(lambda: visitor.mood() == "happy", 20)
        gate = {"content_type": "text/html", "body": "<p>Log in, please</p>"}
        visitor.page.route("**/recognize", lambda route: route.fulfill(**gate))
        assert eventually(lambda: "does not answer" in visitor.says(), 20)
        assert visitor.box() is None
        visitor.page.unroute("**/recognize")
        assert eventually(lambda: visitor.mood() == "happy" and visitor.says() == "", 20)


def test_a_device_without_a_camera_is_led_to_the_demo(launch: Callable[..., Any]) -> None:
    """Where the computer has none, the other camera is a built-in face; a site that shows no camera offers a photo."""
    none = launch(args=("--use-fake-ui-for-media-stream",))
    for source, ends in (
        ("auto", r"above; or look at the demo: This computer\Ws camera\."),
        ("none", r"a photo above\."),
    ):
        with running(VISAGE_SOURCE=source) as short, visiting(none, f"{short.address}/?way=mine") as visitor:
            visitor.start()
            assert eventually(lambda: "no camera on this device" in visitor.says(), 10)
            assert re.search(f"{ends}$", visitor.says())


def test_a_browser_that_keeps_no_cookies_is_told(happy: Any, site: Site) -> None:
    """The mood cannot be steadied then, and songs that change with every picture are none: a mood is chosen by hand."""
    forgetful = "Object.defineProperty(Navigator.prototype, 'cookieEnabled', { get: () => false });"
    with visiting(happy, f"{site.address}/?way=mine", forgetful) as visitor:
        visitor.start()
        assert eventually(lambda: "keeps no cookies" in visitor.says(), 20)
        assert eventually(lambda: visitor.mood() == "happy", 20)
        for _ in range(20):
            visitor.page.wait_for_timeout(100)
            assert visitor.tuned() == ""
        visitor.page.locator("#chips [data-emotion=sad]").click()
        assert eventually(lambda: visitor.tuned() == "sad")


def test_a_phone(happy: Any, site: Site) -> None:
    """On 360 x 640 the mirror, its pause and the mood are in sight, nothing scrolls sideways, and targets are large."""
    small = {"viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True}
    with visiting(happy, f"{site.address}/?way=mine", **small) as visitor:
        visitor.start()
        assert eventually(lambda: visitor.mood() == "happy", 20)
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 360
        for name in ("#mirror", "#pause", "#mood"):
            box = visitor.page.locator(name).bounding_box()
            assert box["y"] > -60
            assert box["y"] + box["height"] <= 640
        for target in visitor.page.locator("#ways a, .controls button:visible, #chips a").all():
            assert target.bounding_box()["height"] >= 24


def test_the_ways_say_what_they_are(happy: Any, site: Site) -> None:
    """Each camera says whose it is and where its picture goes, before its button; changing over stops the other."""
    with visiting(happy, f"{site.address}/?way=mine") as visitor:
        words = visitor.page.locator(".welcome")
        assert "in front of you" in words.inner_text()
        assert "Nothing is stored" in words.inner_text()
        visitor.start()
        assert eventually(visitor.lit)
        visitor.page.locator("#ways [data-way=server]").click()
        assert not visitor.lit()
        assert "all who watch this page" in words.inner_text()
        assert site.state()["camera"]["status"] == "idle"  # type: ignore[index]
        visitor.start()
        assert eventually(lambda: site.state()["camera"]["status"] == "live", 20)  # type: ignore[index]


# -- a photo


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one.jpg (happy), two.jpg (happy, and sad: larger), edge.jpg (one at the right) and words.txt."""
    folder = tmp_path_factory.mktemp("photos")
    one, other = looking(Emotion.HAPPY), looking(Emotion.SAD)
    small = cv2.resize(one, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    wall = cv2.copyMakeBorder(small, 480 - small.shape[0], 0, 0, 0, cv2.BORDER_REPLICATE)
    cv2.imwrite(str(folder / "one.jpg"), one)
    cv2.imwrite(str(folder / "two.jpg"), np.hstack([wall, other]))
    tiny = cv2.resize(one[:, :460], None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / "edge.jpg"), cv2.copyMakeBorder(tiny, 200, 200, 500, 0, cv2.BORDER_REPLICATE))
    cv2.imwrite(str(folder / "tall.jpg"), cv2.copyMakeBorder(one, 160, 160, 0, 0, cv2.BORDER_REPLICATE))
    (folder / "words.txt").write_text("a face, in words")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing more")
    return folder


def test_all_faces_of_a_photo_can_be_chosen(happy: Any, site: Site, photos: Path) -> None:
    """The largest face's songs come first; another face, by click or by keyboard, and the room bring their own."""
    with visiting(happy, f"{site.address}/photo") as visitor:
        visitor.page.set_input_files("#picture", photos / "two.jpg")
        faces = visitor.page.locator("#faces button")
        assert eventually(lambda: faces.count() == 2)
        assert eventually(lambda: visitor.tuned() == "sad")
        assert [face.get_attribute("aria-pressed") for face in faces.all()] == ["true", "false"]
        assert "Face 2 of 2: happy" in str(faces.nth(1).get_attribute("aria-label"))
        faces.nth(1).click()
        assert eventually(lambda: visitor.tuned() == "happy")
        faces.nth(0).focus()
        visitor.page.keyboard.press("Enter")
        assert eventually(lambda: visitor.tuned() == "sad")
        visitor.page.locator("#room button").click()
        assert "room" in visitor.page.locator("#lead").inner_text()
        assert visitor.mood() in set(EMOTIONS)


def test_a_label_at_the_edge_is_not_cut_off(happy: Any, site: Site, photos: Path) -> None:
    """The mood of a small face at the picture's right edge can be read."""
    with visiting(happy, f"{site.address}/photo", viewport={"width": 360, "height": 640}) as visitor:
        visitor.page.set_input_files("#picture", photos / "edge.jpg")
        label, stage = visitor.page.locator("#faces .mark span"), visitor.page.locator("#stage").bounding_box()
        assert eventually(lambda: label.count() == 1)
        box = label.bounding_box()
        assert box["x"] >= stage["x"]
        assert box["x"] + box["width"] <= stage["x"] + stage["width"]


def test_the_bars_of_a_tall_photo_can_be_seen(happy: Any, site: Site, photos: Path) -> None:
    """Beside an upright picture in a low window, scrolling brings the last bar."""
    with visiting(happy, f"{site.address}/photo", viewport={"width": 1440, "height": 780}) as visitor:
        visitor.page.set_input_files("#picture", photos / "tall.jpg")
        assert eventually(lambda: visitor.tuned() == "happy")

        def is_in_sight() -> bool:
            visitor.page.evaluate("scrollTo(0, 400)")
            box = visitor.page.locator("#bars li:last-child").bounding_box()
            return bool(box["y"] + box["height"] <= 780)

        assert eventually(is_in_sight)


def test_a_photo_is_pasted_or_dropped(happy: Any, site: Site, photos: Path) -> None:
    """A picture in the clipboard is looked at, and then one that is dragged onto the page."""
    script = """async ([type, bytes]) => {
        const given = new DataTransfer();
        given.items.add(new File([new Uint8Array(bytes)], 'photo.jpg', { type: 'image/jpeg' }));
        const event = type === 'paste'
            ? new ClipboardEvent(type, { clipboardData: given, bubbles: true })
            : new DragEvent(type, { dataTransfer: given, bubbles: true, cancelable: true });
        document.body.dispatchEvent(event);
    }"""
    with visiting(happy, f"{site.address}/photo") as visitor:
        for how, name, emotion, faces in (("paste", "one.jpg", "happy", 1), ("drop", "two.jpg", "sad", 2)):
            visitor.page.evaluate(script, [how, list((photos / name).read_bytes())])
            assert eventually(lambda emotion=emotion: visitor.tuned() == emotion)
            assert visitor.page.locator("#faces button").count() == faces
            assert visitor.page.locator("#room").is_visible() == (faces > 1)


@pytest.mark.parametrize("name", ["words.txt", "broken.jpg"])
def test_what_is_no_photo_is_said(happy: Any, site: Site, photos: Path, name: str) -> None:
    """A file that is no picture, or a broken one, gets a sentence; the next photo works."""
    with visiting(happy, f"{site.address}/photo") as visitor:
        visitor.page.set_input_files("#picture", photos / name)
        assert eventually(lambda: "picture" in visitor.says())
        visitor.page.set_input_files("#picture", photos / "one.jpg")
        assert eventually(lambda: visitor.tuned() == "happy")
        assert visitor.says() == "One face: happy."


def test_a_second_photo_of_the_same_mood_is_announced(happy: Any, site: Site, photos: Path) -> None:
    """Its mood is said with its faces, also where the songs stay the same."""
    with visiting(happy, f"{site.address}/photo") as visitor:
        visitor.page.set_input_files("#picture", photos / "one.jpg")
        assert eventually(lambda: visitor.says() == "One face: happy.")
        visitor.page.evaluate(LISTENING)
        visitor.page.set_input_files("#picture", photos / "one.jpg")
        assert eventually(lambda: visitor.page.evaluate("heard") == ["Looking at the photo.", "One face: happy."])
        visitor.page.set_input_files("#picture", photos / "two.jpg")
        assert eventually(lambda: visitor.says() == "2 faces, the first sad: choose one for its songs.")


class Photos:
    """What a page sends of its photos, each as it arrives: its kind and its shape; it is answered as by the site."""

    def __init__(self, visitor: Visitor) -> None:
        self.sent: list[tuple[str, int, int]] = []
        visitor.page.route("**/recognize*", self.take)

    def take(self, route: Any) -> None:
        content = route.request.post_data_buffer
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        self.sent.append((content[:2].hex(), picture.shape[1], picture.shape[0]))
        route.continue_()


def test_a_photo_of_another_kind_is_sent_as_a_copy(happy: Any, site: Site, photos: Path, tmp_path: Path) -> None:
    """One that the browser can read and the site cannot (BMP here, HEIC in Safari) is sent again as JPEG."""
    cv2.imwrite(str(tmp_path / "one.bmp"), cv2.imread(str(photos / "one.jpg"))[:400])
    with visiting(happy, f"{site.address}/photo") as visitor:
        photo = Photos(visitor)
        visitor.page.set_input_files("#picture", tmp_path / "one.bmp")
        assert eventually(lambda: visitor.says() == "One face: happy.")
        assert photo.sent == [("424d", 640, 400), ("ffd8", 640, 400)]


def test_a_large_photo_is_sent_as_a_copy(happy: Any, site: Site, photos: Path, tmp_path: Path) -> None:
    """One of many megabytes, more than the site takes even, goes out with 3200 pixels at most; the boxes fit it."""
    large = cv2.resize(cv2.imread(str(photos / "one.jpg")), (4000, 3000))
    noise = np.random.default_rng(1).integers(0, 60, large.shape, np.uint8)
    cv2.imwrite(str(tmp_path / "large.png"), cv2.add(large, noise))
    assert (tmp_path / "large.png").stat().st_size > 15 * 2**20
    with visiting(happy, f"{site.address}/photo") as visitor:
        photo = Photos(visitor)
        visitor.page.set_input_files("#picture", tmp_path / "large.png")
        assert eventually(lambda: "One face" in visitor.says(), 30)
        assert photo.sent == [("ffd8", 3200, 2400)]
        assert visitor.page.locator("#faces button").count() == 1


def test_a_large_file_that_the_browser_cannot_read_is_said(happy: Any, site: Site, tmp_path: Path) -> None:
    """There is nothing to make a copy of, so it is not sent."""
    (tmp_path / "large.jpg").write_bytes(bytes(15 * 2**20 + 1))
    with visiting(happy, f"{site.address}/photo") as visitor:
        visitor.page.set_input_files("#picture", tmp_path / "large.jpg")
        assert eventually(lambda: "more than 15 MB" in visitor.says())
        assert visitor.sent == []


def test_a_photo_that_is_read_in_one_way_only_is_shown(happy: Any, site: Site, photos: Path) -> None:
    """Where one way of decoding fails the other draws it; where both do, the page says that it cannot be shown."""
    script = "window.createImageBitmap = () => Promise.reject(new Error('not this kind'));"
    drawn = "document.getElementById('photo').getContext('2d').getImageData(320, 240, 1, 1).data[3]"
    with visiting(happy, f"{site.address}/photo", script) as visitor:
        visitor.page.set_input_files("#picture", photos / "one.jpg")
        assert eventually(lambda: visitor.says() == "One face: happy.")
        assert visitor.page.evaluate(drawn) == 255
        visitor.page.evaluate("void (Image.prototype.decode = () => Promise.reject(new Error()))")
        visitor.page.set_input_files("#picture", photos / "one.jpg")
        assert eventually(lambda: visitor.says() == "One face: happy. This browser cannot show the photo.")


def test_a_photo_that_cannot_be_read_or_sent_is_said(happy: Any, site: Site, photos: Path, tmp_path: Path) -> None:
    """One that is gone once it is chosen, and one that a slow line does not get through: the site is not blamed."""
    gone = tmp_path / "gone.jpg"
    shutil.copy(photos / "one.jpg", gone)
    with visiting(happy, f"{site.address}/photo") as visitor:
        page = visitor.page
        page.evaluate("addEventListener('change', (event) => event.stopPropagation(), { capture: true, once: true })")
        page.set_input_files("#picture", gone)
        gone.unlink()
        page.evaluate("document.getElementById('picture').dispatchEvent(new Event('change', { bubbles: true }))")
        assert eventually(lambda: "cannot be read here. Is it a folder" in visitor.says())
        page.clock.install()
        page.route("**/recognize*", lambda route: None)
        with page.expect_request("**/recognize*"):
            page.set_input_files("#picture", photos / "one.jpg")
        page.clock.fast_forward(56_000)
        assert eventually(lambda: "did not get through in a minute" in visitor.says())


def test_a_photo_without_javascript(happy: Any, site: Site, photos: Path) -> None:
    """The form alone: the picture with its faces, each mood in words, the largest face's songs."""
    context = happy.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.address}/photo")
    page.set_input_files("#picture", photos / "two.jpg")
    page.locator("#look").click()
    page.locator("#given").wait_for()
    assert page.locator("#mood").inner_text() == "Sad"
    assert "Face 2: happy" in page.locator("#found").inner_text()
    assert page.locator("#songs a[href*='open.spotify.com/track/']").count() >= 40
    page.set_input_files("#picture", photos / "words.txt")
    page.locator("#look").click()
    assert eventually(lambda: "picture" in page.locator("#notice").inner_text())
    context.close()
