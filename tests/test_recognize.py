"""Pictures that visitors send: what is found in them, what is refused, and the reading that travels in a cookie."""

from __future__ import annotations

import base64
import io
import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import cv2
import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from app import create_app
from model.demo import demo_frame
from model.emotions import EMOTIONS, Emotion, Prediction, Smoothing, blend
from model.faces import Box, Frame
from model.recognizer import Recognizer
from pictures.following import LOOK_EVERY, Followed, Follower, follow
from pictures.stills import PictureError, decode_image, decode_still, read_header
from songs.catalog import Catalog
from tests.conftest import ROOT, FixedClassifier, FixedDetector, StubRecognizer, eventually, grey_frame, parsed, row_of
from web.lanes import Limits, household
from web.readings import READING, _signer
from web.services import Services
from web.uploads import LARGEST

KEY = "k" * 40


class Memory(FixedDetector):
    """A fixed detector that remembers where it was told to look."""

    def __init__(self, *boxes: Box) -> None:
        super().__init__(*boxes)
        self.near: list[list[Box]] = []

    def detect(self, frame: Frame, near: Sequence[Box] = ()) -> list[Box]:
        self.near.append(list(near))
        return super().detect(frame, near)


class Listed:
    """Reads one emotion after another on the faces of a frame."""

    def __init__(self, *emotions: Emotion) -> None:
        self.emotions = emotions

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        return np.array([row_of(self.emotions[i % len(self.emotions)]) for i in range(len(faces))])


def site(
    *boxes: Box, reads: Callable[[np.ndarray], np.ndarray] | None = None, **config: object
) -> tuple[Flask, Memory, Recognizer]:
    detector = Memory(*(boxes or (Box(100, 60, 80, 80),)))
    recognizer = StubRecognizer(detector, reads or FixedClassifier(Emotion.HAPPY))
    services = Services(recognizer, None, Catalog(ROOT / "songs"))
    app = create_app({"TESTING": True, "SECRET_KEY": KEY, "RATE": 0, **config}, services)
    return app, detector, recognizer


@pytest.fixture
def client() -> FlaskClient:
    return site()[0].test_client()


def picture(frame: Frame | None = None, kind: str = ".jpg") -> bytes:
    content = cv2.imencode(kind, grey_frame(size=(240, 320)) if frame is None else frame)[1].tobytes()
    return bytes(content)


def saved(image: Image.Image, kind: str, **more: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **more)
    return content.getvalue()


def post(client: FlaskClient, content: bytes, kind: str = "image/jpeg", query: str = "", **more: Any) -> TestResponse:
    return client.post(f"/recognize{query}", data=content, content_type=kind, **more)


# -- what is found


def test_the_faces_in_a_picture(client: FlaskClient) -> None:
    """Each face has its box in pixels, its mood, and seven probabilities; the reading has its songs."""
    answer = post(client, picture()).json
    assert answer.keys() == {"faces", "reading", "image"}
    assert answer["image"] == {"width": 320, "height": 240}
    (face,) = answer["faces"]
    assert (face["box"], face["emotion"], face["confidence"]) == ([100, 60, 80, 80], "happy", 0.9)
    assert list(face["probabilities"]) == list(EMOTIONS)
    assert answer["reading"].keys() == {"emotion", "confidence", "probabilities", "songs"}
    assert (answer["reading"]["emotion"], answer["reading"]["songs"]) == ("happy", "happy")


def test_the_demos_face_with_everything_real() -> None:
    """The site as it starts finds a happy face in the demo's picture."""
    app = create_app({"SOURCE": "none", "SECRET_KEY": KEY})
    answer = post(app.test_client(), picture(cv2.resize(demo_frame(3.0), (320, 240)))).json
    assert len(answer["faces"]) == 1
    assert answer["reading"]["emotion"] == answer["faces"][0]["emotion"]
    app.extensions["visage"].close()


def test_a_form_is_as_good_as_a_body(client: FlaskClient) -> None:
    """A form's file called picture gives the same answer."""
    sent = client.post("/recognize?still=1", data={"picture": (io.BytesIO(picture()), "me.jpg")})
    assert sent.json == post(client, picture(), query="?still=1").json


def test_a_picture_without_a_face(client: FlaskClient) -> None:
    """Nobody there: no faces, no reading, no cookie, and no error; so is a picture of one pixel."""
    app, _, recognizer = site()
    recognizer.detector.boxes = []  # type: ignore[attr-defined]
    for content in (picture(), picture(grey_frame(size=(1, 1)), ".png")):
        answer = post(app.test_client(), content, "image/png")
        assert (answer.status_code, answer.json["faces"], answer.json["reading"]) == (200, [], None)
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("size", [(1, 2700), (2700, 1), (5, 13_000)])
def test_a_picture_like_a_thread_is_one(size: tuple[int, int]) -> None:
    """However narrow, it is read and shown, with nobody on it."""
    app = create_app({"SOURCE": "none", "SECRET_KEY": KEY})
    content = saved(Image.new("RGB", size), "PNG")
    assert post(app.test_client(), content).json["image"] == {"width": size[0], "height": size[1]}
    shown = app.test_client().post("/photo", data={"picture": (io.BytesIO(content), "thread.png")})
    assert shown.status_code == 200
    assert "No face was found" in shown.text
    app.extensions["visage"].close()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_turned_picture_is_upright(client: FlaskClient, kind: str, orientation: int) -> None:
    """What a phone held upright sends lies on its side, and says so: the size is that of the picture as seen."""
    turned = Image.Exif()
    turned[0x0112] = orientation
    image = post(client, saved(Image.new("RGB", (320, 240)), kind, exif=turned)).json["image"]
    assert image == ({"width": 240, "height": 320} if orientation > 4 else {"width": 320, "height": 240})


def test_boxes_of_a_large_photo_are_in_its_own_pixels() -> None:
    """A photo is read in a smaller copy; what is said of it is not."""
    turned = Image.Exif()
    turned[0x0112] = 6
    content = saved(Image.new("RGB", (4000, 3000)), "JPEG", exif=turned)
    assert decode_still(content).frame.shape[:2] == (2000, 1500)
    answer = post(site(Box(100, 60, 80, 80))[0].test_client(), content).json
    assert answer["image"] == {"width": 3000, "height": 4000}
    assert answer["faces"][0]["box"] == [200, 120, 160, 160]


def test_a_room_is_everybody_alike() -> None:
    """Two faces or more make a room: the mean of their predictions, however large each face is."""
    boxes = Box(0, 0, 120, 120), Box(200, 60, 40, 40)
    answer = post(site(*boxes, reads=Listed(Emotion.HAPPY, Emotion.SAD))[0].test_client(), picture()).json
    shares = answer["room"]["probabilities"]
    assert shares["happy"] == shares["sad"] == pytest.approx(0.4583, abs=0.001)
    assert answer["room"].keys() == {"emotion", "confidence", "probabilities"}
    assert [face["emotion"] for face in answer["faces"]] == ["happy", "sad"]


def test_a_blend_is_a_prediction() -> None:
    """The mean of predictions sums to one, and of one it is that one."""
    one, other = Prediction.of(row_of(Emotion.FEAR)), Prediction.of(row_of(Emotion.SAD, 0.5))
    assert blend([one]) == one
    assert sum(blend([one, other]).probabilities) == pytest.approx(1)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("CMYK", (32, 24)),
        Image.new("L", (32, 24)),
        Image.new("1", (32, 24)),
        Image.new("P", (32, 24)),
        Image.new("LA", (32, 24)),
        Image.new("RGBA", (32, 24)),
        Image.fromarray(np.full((24, 32), 40_000, np.uint16)),
    ],
    ids=["CMYK", "grey", "one bit", "palette", "grey with alpha", "alpha", "16 bits"],
)
def test_every_kind_of_pixels_is_read(client: FlaskClient, image: Image.Image) -> None:
    """Whatever pixels a JPEG or PNG can have, they are a picture."""
    content = saved(image, "JPEG" if image.mode == "CMYK" else "PNG")
    assert post(client, content).json["image"] == {"width": 32, "height": 24}


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_a_picture_that_moves_the_first_is_read(client: FlaskClient, kind: str) -> None:
    """An animated PNG or WebP is its first picture."""
    first, *others = (Image.new("RGB", (32, 24), (level, level, level)) for level in (10, 200, 250))
    content = saved(first, kind, save_all=True, append_images=others, duration=100)
    assert decode_image(content).mean() < 20
    assert post(client, content).status_code == 200


# -- what is refused


def png_header(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(1000))
    chunks = b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (head, body, b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg_header(width: int, height: int) -> bytes:
    """A picture whose size is a lie: read by a decoder it would be as large as it says."""
    content = bytearray(picture())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def many_scans() -> bytes:
    content = saved(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    scan = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + 200 * scan + content[-2:]


WHOLE = {kind: picture(kind=f".{kind}") for kind in ("jpg", "png", "webp")}


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", 400, "empty"),
        (b"\x00" * 100, 400, "no picture"),
        (b"<html>", 400, "no picture"),
        (b"\xff\xd8\xff", 400, "cut off"),
        (b"\xff\xd8" + b"\xff" * 100_000, 400, "cut off"),
        *((content[: len(content) // 2], 400, "cut off") for content in WHOLE.values()),
        *((content[:30], 400, "cut off") for content in WHOLE.values()),
        (b"RIFF" + struct.pack("<I", 20) + b"WEBPVP9 " + bytes(12), 400, "cut off"),
        (png_header(320, 240), 400, "damaged"),
        (png_header(0, 240), 400, "no pixels"),
        (png_header(1_000_000, 1), 413, "1000000 x 1 pixels"),
        (png_header(50_000, 50_000), 413, "51 million"),
        (jpeg_header(65_000, 65_000), 413, "65000 x 65000"),
        (many_scans(), 413, "scans"),
        (saved(Image.new("RGB", (8, 8)), "GIF"), 415, "GIF: send it as JPEG"),
        (saved(Image.new("RGB", (8, 8)), "TIFF"), 415, "TIFF"),
        (b"\x00\x00\x00\x18ftypheic", 415, "HEIC"),
        (b"  <svg xmlns='http://www.w3.org/2000/svg'/>", 415, "SVG"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(client: FlaskClient, content: bytes, code: int, says: str) -> None:
    """A 4xx with a sentence that says what is wrong, the same for a form; and the next picture is read."""
    for sent in (
        post(client, content),
        client.post("/recognize", data={"picture": (io.BytesIO(content), "x.jpg")}),
    ):
        assert sent.status_code == code
        assert says in sent.json["error"]
        assert sent.json["error"].endswith(".")
    assert post(client, picture()).status_code == 200


def test_a_bomb_is_refused_from_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is decoded of a picture that is too large."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    for content in (png_header(30_000, 30_000), jpeg_header(60_000, 60_000), many_scans()):
        with pytest.raises(PictureError):
            decode_still(content)


@pytest.mark.parametrize("kind", ["image/jpg", "image/heic", "", "application/octet-stream"])
def test_the_bytes_say_what_a_picture_is(client: FlaskClient, kind: str) -> None:
    """Whatever picture it is called, or nothing, a JPEG is read, and a photo of another kind is named."""
    assert post(client, picture(), kind).status_code == 200
    answer = post(client, b"\x00\x00\x00\x18ftypheic", kind)
    assert answer.status_code == 415
    assert "HEIC" in answer.json["error"]


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/x-www-form-urlencoded", "video/mp4"])
def test_other_content_types_are_refused(client: FlaskClient, kind: str) -> None:
    """A 415 that names what is taken."""
    answer = post(client, picture(), kind)
    assert answer.status_code == 415
    assert "image/jpeg, image/png, image/webp" in answer.json["error"]


def test_a_body_without_a_length_or_with_too_much_is_not_read(client: FlaskClient) -> None:
    """411 and 413 come before a byte of the body is taken."""

    class Untouched:
        def __getattr__(self, name: str) -> Any:
            pytest.fail(f"the body was touched: {name}")

    def told(length: int | None, kind: str = "image/jpeg") -> int:
        length_of = {"HTTP_TRANSFER_ENCODING": "chunked"} if length is None else {"CONTENT_LENGTH": str(length)}
        overrides = {"wsgi.input": Untouched(), **length_of}
        return client.post("/recognize", content_type=kind, environ_overrides=overrides).status_code

    assert told(None) == 411
    assert told(LARGEST + 1) == 413
    assert told(200_000_000) == 413
    assert told(200_000_000, "multipart/form-data; boundary=x") == 413


def test_forms_that_are_none(client: FlaskClient) -> None:
    """A form without a file, with a text in its place, or broken, is a 400."""
    assert "no file called picture" in client.post("/recognize", data={"other": (io.BytesIO(b"x"), "x")}).json["error"]
    assert client.post("/recognize", data={"picture": "text"}, content_type="multipart/form-data").status_code == 400
    assert post(client, b"garbage", "multipart/form-data; boundary=x").status_code == 400
    assert post(client, b"garbage", "multipart/form-data").status_code == 400


def test_no_file_of_a_form_is_written_to_disk(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures stay in memory, those of a form as well."""
    monkeypatch.setattr("werkzeug.formparser.SpooledTemporaryFile", lambda *_, **__: pytest.fail("a file was made"))
    large = picture(np.random.default_rng(1).integers(0, 255, (1200, 1600, 3), np.uint8))
    assert len(large) > 600_000
    head = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="me.jpg"\r\n\r\n'
    answer = post(client, head + large + b"\r\n--x--\r\n", "multipart/form-data; boundary=x", "?still=1")
    assert answer.json["image"] == {"width": 1600, "height": 1200}


def test_other_sites_cannot_send_pictures(client: FlaskClient) -> None:
    """A form on another site's page gets a 403; a link to the page for photos works."""
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert post(client, picture(), headers=elsewhere).status_code == 403
    assert client.post("/photo", data={}, headers=elsewhere).status_code == 403
    assert client.get("/photo", headers=elsewhere).status_code == 200


# -- the reading in the cookie


def cookie_of(answer: TestResponse) -> str:
    return answer.headers["Set-Cookie"]


def test_a_cookie_holds_the_reading(client: FlaskClient) -> None:
    """No script reads it, no other site's page and no other route is sent it, and it is short-lived."""
    cookie = cookie_of(post(client, picture()))
    assert cookie.startswith(f"{READING}=")
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/recognize", "Max-Age=30"))
    assert "Secure" not in cookie
    assert len(cookie) < 500
    assert "Secure" in cookie_of(post(client, picture(), base_url="https://localhost"))


def test_a_still_picture_leaves_no_cookie(client: FlaskClient) -> None:
    """?still=1 is this picture alone: its own reading at once, nothing kept, whatever came before."""
    post(client, picture())
    unsure = site(reads=lambda faces: np.array([row_of(Emotion.SAD, 0.3)] * len(faces)))[0].test_client()
    answer = post(unsure, picture(), query="?still=1")
    assert "Set-Cookie" not in answer.headers
    assert (answer.json["reading"]["emotion"], answer.json["reading"]["songs"]) == ("sad", "sad")
    assert post(client, picture(), query="?still=1").json["reading"]["confidence"] == 0.9


def test_a_reading_is_smoothed_from_frame_to_frame() -> None:
    """A mood seen in one frame does not replace the one shown; each picture moves the shares by a part."""
    app, _, recognizer = site()
    client = app.test_client()
    post(client, picture())
    recognizer.classify.emotion = Emotion.SAD  # type: ignore[attr-defined]
    time.sleep(0.1)
    reading = post(client, picture()).json["reading"]
    assert reading["emotion"] == "happy"
    assert 0.02 < reading["probabilities"]["sad"] < 0.5


def test_another_machine_answers_the_next_frame() -> None:
    """Two sites with one key carry on each other's readings; one with another key refuses, and starts afresh."""
    first, second = site()[0], site(reads=FixedClassifier(Emotion.SAD))[0]
    stranger = site(SECRET_KEY="s" * 40)[0]
    cookie = {"Cookie": cookie_of(post(first.test_client(), picture())).partition(";")[0]}
    assert post(second.test_client(use_cookies=False), picture(), headers=cookie).json["reading"]["emotion"] == "happy"
    assert post(stranger.test_client(use_cookies=False), picture(), headers=cookie).status_code == 400


@pytest.mark.parametrize("forged", ["x", "", "W10.x", "." * 4000, "%00", "null.null", '"\\303"', "eyJhIjoxfQ.c2ln"])
def test_a_forged_cookie_is_refused_and_deleted(client: FlaskClient, forged: str) -> None:
    """A cookie that was not signed here is a 400 that deletes it, so that the next picture starts a new reading."""
    bare = client.application.test_client(use_cookies=False)
    answer = post(bare, picture(), headers={"Cookie": f"{READING}={forged}"})
    assert answer.status_code == 400
    assert answer.json["error"]
    assert f"{READING}=;" in cookie_of(answer)
    assert "Max-Age=0" in cookie_of(answer)
    assert post(client, picture()).status_code == 200


def test_an_old_cookie_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading of more than a minute ago is refused, and one whose clock is as far ahead."""
    client = site()[0].test_client(use_cookies=False)
    for seconds in (-100, 100):
        cookie = {"Cookie": cookie_of(post(site()[0].test_client(), picture())).partition(";")[0]}
        with monkeypatch.context() as patch:
            now = time.time() + seconds
            patch.setattr("web.readings.time.time", lambda now=now: now)
            assert post(client, picture(), headers=cookie).status_code == 400


def test_a_signed_cookie_of_another_shape_is_refused() -> None:
    """What an older site has signed, and this one cannot read, is refused like a forged one."""
    client = site()[0].test_client(use_cookies=False)
    with client.application.app_context():
        for odd in (
            [],
            {},
            3,
            "text",
            [[1, 2, 3], [1], [], [], 0],
            [None] * 5,
            [[0, 0, 0], [1] * 7, ["glad"] * 3, [[]], 0],
        ):
            cookie = {"Cookie": f"{READING}={_signer().dumps(odd)}"}
            assert post(client, picture(), headers=cookie).status_code == 400


def test_two_visitors_keep_their_own_moods() -> None:
    """Nothing of one visitor's reading is in another's."""
    app, _, recognizer = site()
    one, other = app.test_client(), app.test_client()
    post(one, picture())
    recognizer.classify.emotion = Emotion.SAD  # type: ignore[attr-defined]
    assert post(other, picture()).json["reading"]["emotion"] == "sad"
    assert post(one, picture()).json["reading"]["emotion"] == "happy"


def test_a_face_is_looked_for_where_it_was() -> None:
    """From the second frame on around the last boxes, whatever the picture's size; every tenth frame everywhere."""
    app, detector, _ = site()
    client = app.test_client()
    post(client, picture())
    post(client, picture(grey_frame(size=(480, 640))))
    for _ in range(LOOK_EVERY):
        post(client, picture())
    assert detector.near[:2] == [[], [Box(200, 120, 160, 160)]]
    everywhere = [i for i, near in enumerate(detector.near) if not near]
    assert everywhere == [0, LOOK_EVERY]


def test_the_chosen_face_stays_chosen() -> None:
    """A larger face that comes in does not take over the reading; all boxes are looked for."""
    detector = Memory(Box(100, 60, 80, 80))
    recognizer = Recognizer(detector, Listed(Emotion.HAPPY))
    _, followed = follow(recognizer, grey_frame(size=(240, 320)), Followed(), 1.0, Smoothing())
    detector.boxes = [Box(200, 60, 110, 110), Box(102, 60, 80, 80)]
    recognizer = Recognizer(detector, Listed(Emotion.SAD, Emotion.HAPPY))
    faces, followed = follow(recognizer, grey_frame(size=(240, 320)), followed, 1.2, Smoothing())
    assert followed.reading
    assert followed.reading.emotion == "happy"
    assert [face.emotion for face in faces] == ["sad", "happy"]
    assert len(followed.near) == 2


def test_a_visitor_s_face_that_is_missed_once_stays_chosen() -> None:
    """It is looked for where it was, and found again; after a second the next one is, with a mood of its own."""
    mine, friend, frame = Box(100, 60, 80, 80), Box(200, 60, 110, 110), grey_frame(size=(240, 320))
    detector, followed = Memory(mine), Followed()
    moods = {mine: Emotion.HAPPY, friend: Emotion.SAD}
    seen = []
    for i, boxes in enumerate([[mine], [mine, friend], [friend], [friend], [mine, friend], *[[friend]] * 8]):
        detector.boxes = boxes
        recognizer = Recognizer(detector, Listed(*(moods[box] for box in boxes)))
        faces, followed = follow(recognizer, frame, followed, 1 + 0.3 * i, Smoothing())
        assert followed.reading
        seen.append((str(followed.reading.emotion), {face.box: str(face.emotion) for face in faces}.get(friend)))
    assert [mood for mood, _ in seen] == ["happy"] * 8 + ["sad"] * 5
    assert {mood for _, mood in seen[1:]} == {"sad"}
    assert mine in detector.near[3]
    assert followed.reading
    assert followed.reading.songs == "happy"


@pytest.mark.parametrize("visitor", [True, False])
def test_who_sits_down_in_front_of_a_poster_is_read(visitor: bool) -> None:
    """A face three times as large takes over once it has stayed for three seconds; one that passes by does not.

    In a visitor's pictures and before the site's camera.
    """
    poster, person, frame = Box(10, 10, 50, 50), Box(120, 60, 120, 120), grey_frame(size=(240, 320))
    moods = {poster: Emotion.HAPPY, person: Emotion.SAD}
    followed, follower, seen = Followed(), Follower(Smoothing()), []
    for i in range(48):
        boxes = [poster] if i < 5 or 8 <= i < 12 else [person, poster]
        recognizer = Recognizer(Memory(*boxes), Listed(*(moods[box] for box in boxes)))
        if visitor:
            _, followed = follow(
                recognizer, frame, Followed.unpacked(followed.packed()) if i else followed, i, Smoothing()
            )
            seen.append(followed.reading)
        else:
            follower.follow(recognizer.recognize(frame), i)
            seen.append(follower.reading)
    assert [str(reading and reading.prediction.emotion) for reading in seen[:15]] == ["happy"] * 15
    assert {str(reading and reading.prediction.emotion) for reading in seen[15:]} == {"sad"}


def test_pictures_far_apart_are_looked_at_whole() -> None:
    """A newcomer is not ten pictures away where these come a second apart: on a slow line, on a crowded site."""
    detector, followed = Memory(Box(100, 60, 80, 80)), Followed()
    recognizer = Recognizer(detector, FixedClassifier())
    for at in (10.0, 10.5, 11.0, 12.5, 12.7):
        _, followed = follow(recognizer, grey_frame(size=(240, 320)), followed, at, Smoothing())
    assert [bool(near) for near in detector.near] == [False, True, True, False, True]


def test_a_clock_that_was_set_back_freezes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading from later than now begins anew; one that another machine has dated a little ahead goes on."""
    client, now = site()[0].test_client(), time.time()
    happy = cookie_of(post(client, picture())).partition(";")[0]
    sad = site(reads=FixedClassifier(Emotion.SAD))[0].test_client(use_cookies=False)
    moods = []
    for back in (2, 40):
        monkeypatch.setattr("time.time", lambda back=back: now - back)
        moods.append(post(sad, picture(), headers={"Cookie": happy}).json["reading"]["emotion"])
    assert moods == ["happy", "sad"]


@pytest.mark.parametrize("blurred", [False, True])
def test_among_many_faces_one_that_is_missed_stays_chosen(blurred: bool) -> None:
    """More faces than are looked for where they were are known from there all the same, over an empty picture too."""
    mine, frame = Box(10, 60, 40, 40), grey_frame(size=(240, 320))
    friends = [Box(60 + 50 * i, 60, 45, 45) for i in range(5)]
    detector, followed = Memory(mine), Followed()
    for i, boxes in enumerate([[mine], [mine, *friends], [] if blurred else friends, friends, [mine, *friends]]):
        detector.boxes = boxes
        moods = [Emotion.HAPPY if box == mine else Emotion.SAD for box in boxes] or [Emotion.SAD]
        _, followed = follow(Recognizer(detector, Listed(*moods)), frame, followed, 1 + 0.3 * i, Smoothing())
    assert followed.reading
    assert followed.reading.prediction.emotion is Emotion.HAPPY
    assert followed.reading.at == pytest.approx(2.2)
    assert len(Followed.unpacked(followed.packed()).near) == 6


def test_a_reading_outlasts_the_face_and_ends() -> None:
    """With the face gone the mood stays for three seconds; after that there is none, and nothing to keep."""
    detector = Memory(Box(100, 60, 80, 80))
    recognizer = Recognizer(detector, FixedClassifier())
    frame = grey_frame(size=(240, 320))
    _, followed = follow(recognizer, frame, Followed(), 1.0, Smoothing())
    detector.boxes = []
    _, followed = follow(recognizer, frame, followed, 3.0, Smoothing())
    assert followed.reading
    assert followed.chosen
    _, followed = follow(recognizer, frame, followed, 4.1, Smoothing())
    assert followed == Followed()


def test_a_clock_that_is_behind_does_no_harm() -> None:
    """A frame that another machine, whose clock is late, dates before the last one leaves the shares as they are."""
    recognizer = Recognizer(Memory(Box(100, 60, 80, 80)), Listed(Emotion.HAPPY))
    frame = grey_frame(size=(240, 320))
    _, first = follow(recognizer, frame, Followed(), 10.0, Smoothing())
    sad = Recognizer(Memory(Box(100, 60, 80, 80)), Listed(Emotion.SAD))
    _, second = follow(sad, frame, first, 9.0, Smoothing())
    assert first.reading
    assert second.reading
    assert second.reading.prediction == first.reading.prediction


# -- many at once


def test_an_address_that_sends_too_many_is_told_to_wait() -> None:
    """Past the rate: 429 with Retry-After; other addresses are served, a household's IPv6 ones count as one."""
    client = site(RATE=3)[0].test_client()

    def codes(*addresses: str) -> list[int]:
        return [post(client, picture(), environ_base={"REMOTE_ADDR": address}).status_code for address in addresses]

    assert 429 in codes(*["192.0.2.1"] * 7)
    refused = post(client, picture(), environ_base={"REMOTE_ADDR": "192.0.2.1"})
    if refused.status_code == 429:  # unless a new second has begun
        assert refused.headers["Retry-After"] == "1"
        assert "3 pictures a second" in refused.json["error"]
    assert codes("192.0.2.2", "192.0.2.3") == [200, 200]
    assert 429 in codes(*[f"2001:db8::{i}" for i in range(7)])
    assert codes(*[f"::ffff:192.0.2.{i}" for i in range(10, 17)]) == [200] * 7


def test_a_clock_set_back_refuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A computer that wakes, or asks for the time, may find itself an hour earlier; the next second is a new one."""
    client = site(RATE=3)[0].test_client()
    assert 429 in [post(client, picture()).status_code for _ in range(7)]
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 3600)
    assert eventually(lambda: post(client, picture()).status_code == 200, 2)


def test_a_port_behind_an_address_makes_no_other_household() -> None:
    """As some balancers write who asks."""
    assert {household(f"192.0.2.1:{port}") for port in (1, 65535)} == {household("192.0.2.1")} == {"192.0.2.1"}
    six = {household(text) for text in ("[2001:db8::1]:443", "[2001:db8::2]", "2001:db8::3", "[2001:db8::4%eth0]:80")}
    assert six == {"2001:db8::/64"}
    assert {household(text) for text in ("", "1.2.3", "[", "[]:80", "unix:", "1.2.3.4:5:6")} == {"unknown"}


def test_behind_proxies_the_visitors_address_counts() -> None:
    """With VISAGE_PROXIES the rate is for who the proxy says, not for the proxy; without it, nobody is believed."""
    trusting, alone = (site(RATE=2, PROXIES=n)[0].test_client() for n in (1, 0))
    others = [{"X-Forwarded-For": f"192.0.2.{i}"} for i in range(6)]
    assert {post(trusting, picture(), headers=header).status_code for header in others} == {200}
    assert 429 in {post(alone, picture(), headers=header).status_code for header in others}


def test_a_queue_that_would_take_too_long_is_not_joined() -> None:
    """While one picture takes its time, so many may wait as can be answered soon; the next gets a 429 at once."""
    started, go = threading.Event(), threading.Event()

    def slow(faces: np.ndarray) -> np.ndarray:
        started.set()
        go.wait(10)
        return np.array([row_of(Emotion.HAPPY)] * len(faces))

    app = site(reads=slow)[0]
    limits: Limits = app.extensions["visage_limits"]
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(post(app.test_client(), picture()).status_code)) for _ in range(30)
    ]
    threads[0].start()
    assert started.wait(10)
    limits.frames._takes = 0.03  # seconds that a picture took of late
    for thread in threads[1:]:
        thread.start()
    assert eventually(lambda: len(codes) == 26)
    assert set(codes) == {429}
    go.set()
    for thread in threads:
        thread.join()
    assert codes[26:] == [200] * 4
    assert post(app.test_client(), picture()).status_code == 200


def test_who_sends_photos_slowly_keeps_nobody_else_from_sending_one(client: FlaskClient) -> None:
    """Of six places for photos on their way one address has three; another one's photo is judged meanwhile."""
    limits: Limits = client.application.extensions["visage_limits"]
    large = picture(grey_frame(size=(2000, 2000)), ".png")
    with ExitStack() as slow:
        for _ in range(3):
            slow.enter_context(limits.photos.place("127.0.0.1"))
        refused = post(client, large, "image/png")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert "3 photos from your address" in refused.json["error"]
        assert post(client, large, "image/png", environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == 200
    assert post(client, large, "image/png").status_code == 200


def test_large_photos_wait_for_each_other_and_not_too_many(client: FlaskClient) -> None:
    """One large picture is decoded at a time, six may be on their way, and frames are served meanwhile."""
    limits: Limits = client.application.extensions["visage_limits"]
    places = [limits.photos.place(f"192.0.2.{n}") for n in range(6)]
    for place in places:
        place.__enter__()
    large = picture(grey_frame(size=(2000, 2000)), ".png")
    refused = post(client, large, "image/png")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert post(client, bytes(600_000)).status_code == 429
    assert post(client, picture()).status_code == 200
    for place in places:
        place.__exit__(None, None, None)
    assert post(client, large, "image/png").status_code == 200


# -- the page for photos


def test_the_page_for_photos_stands_without_javascript(client: FlaskClient) -> None:
    """It has a form that sends the file to itself."""
    page = parsed(client.get("/photo").text)
    (form,) = page.select("form[method=post][action='/photo'][enctype='multipart/form-data']")
    assert form.select("input[type=file][name=picture]")


def test_a_photo_sent_by_the_form_comes_back_with_its_faces() -> None:
    """The answer is the page with the picture, its faces marked, the largest one's mood and songs; no cookie."""
    boxes = Box(600, 300, 300, 300), Box(100, 60, 80, 80)
    client = site(*boxes, reads=Listed(Emotion.HAPPY, Emotion.SAD))[0].test_client()
    content = picture(grey_frame(size=(1500, 2000)))
    answer = client.post("/photo", data={"picture": (io.BytesIO(content), "me.jpg")})
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    page = parsed(answer.text)
    (shown,) = [image["src"] for image in page.select("img") if str(image["src"]).startswith("data:image/jpeg;base64,")]
    drawn = decode_image(base64.b64decode(str(shown).partition(",")[2]))
    assert max(drawn.shape[:2]) == 1280
    assert drawn[192:400, 384:580].max() > 200  # the larger face's box, in the smaller copy
    assert "happy" in page.get_text().lower()
    assert len(page.select("#songs tbody tr")) >= 40
    assert page.select("a[href='/?emotion=sad']")


def test_a_photo_that_cannot_be_read_says_why_on_the_page(client: FlaskClient) -> None:
    """With JavaScript off a refusal is a page too, with the sentence and the code."""
    for content, code in ((b"text", 400), (b"GIF89a", 415), (png_header(1_000_000, 1), 413)):
        answer = client.post("/photo", data={"picture": (io.BytesIO(content), "x")})
        assert answer.status_code == code
        assert answer.content_type.startswith("text/html")
        assert parsed(answer.text).select("form[action='/photo']")
        sentence = post(client, content).json["error"]
        assert sentence in parsed(answer.text).get_text()


def test_a_photo_without_a_face_says_so() -> None:
    """Nobody on it: the page says so, and offers no songs."""
    app, detector, _ = site()
    detector.boxes = []
    answer = app.test_client().post("/photo", data={"picture": (io.BytesIO(picture()), "x.jpg")})
    assert answer.status_code == 200
    assert "No face was found" in parsed(answer.text).get_text()
    assert not parsed(answer.text).select("#songs tbody tr")


def test_headers_are_read_without_their_pictures() -> None:
    """The size of each kind comes from its first bytes alone."""
    for kind, content in WHOLE.items():
        header = read_header(content)
        assert (header.width, header.height) == (320, 240), kind
    for more in ({"lossless": True}, {"exif": b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00"}):
        assert read_header(saved(Image.new("RGBA", (33, 21), (1, 2, 3, 4)), "WEBP", **more)).width == 33
