"""Whatever is sent, the site answers: never with a 500, and what it refuses it refuses in words.

About fifteen seconds here; `make fuzz` goes on for longer.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import closing

import cv2
import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from app import create_app
from camera import Camera
from model.emotions import Emotion
from model.faces import Box
from pictures.stills import PictureError, decode_still, read_header
from songs.catalog import Catalog
from tests.conftest import ROOT, Source, grey_frame, stub_recognizer
from web.readings import READING
from web.services import Services
from web.uploads import KINDS

FEW = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture], "database": None}
settings.register_profile("short", max_examples=150, derandomize=True, **FEW)
settings.register_profile("long", max_examples=10_000, **FEW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))


def small(kind: str) -> bytes:
    picture = np.random.default_rng(1).integers(0, 255, (24, 32, 3), np.uint8)
    return bytes(cv2.imencode(kind, picture)[1])


PICTURES = {kind: small(f".{kind}") for kind in ("jpg", "png", "webp")}


@st.composite
def mutated(draw: Callable[..., object]) -> bytes:
    """A picture with some bytes changed, most of them near its start, where its sizes are; or cut, or doubled."""
    content = bytearray(draw(st.sampled_from(list(PICTURES.values()))))  # type: ignore[call-overload]
    places = st.one_of(st.integers(0, 40), st.integers(0, len(content) - 1))
    for _ in range(draw(st.integers(0, 6))):  # type: ignore[call-overload]
        content[draw(places)] = draw(st.integers(0, 255))  # type: ignore[call-overload]
    if draw(st.booleans()):
        at, value = draw(places), draw(st.sampled_from([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
        written = struct.pack(draw(st.sampled_from([">I", "<I"])), value)  # type: ignore[arg-type]
        content[at : at + 4] = written  # type: ignore[operator]
    cut = draw(st.integers(0, len(content)))
    return bytes(content[:cut] if draw(st.booleans()) else content * draw(st.integers(1, 2)))  # type: ignore


BODIES = st.one_of(st.binary(max_size=300), mutated(), st.sampled_from(list(PICTURES.values())))
NAMES = st.sampled_from(["Cookie", "Host", "Range", "Expect", "Accept", "Origin", "Sec-Fetch-Site", "X-Forwarded-For"])
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
TYPES = st.one_of(st.sampled_from([*KINDS, "multipart/form-data; boundary=x", "multipart/form-data", ""]), VALUES)


@pytest.fixture(scope="module")
def client() -> Iterator[FlaskClient]:
    """A site in a network, whose camera is shown to who knows the token: here to nobody."""
    recognizer = stub_recognizer(Box(4, 4, 16, 16), emotion=Emotion.SAD)
    with closing(Camera("fake", recognizer, open_frames=Source())) as camera:
        config = {"SECRET_KEY": "k" * 40, "RATE": 0, "HOST": "0.0.0.0", "TOKEN": "open-sesame-1234"}
        app = create_app(config, Services(recognizer, camera, Catalog(ROOT / "songs")))
        yield app.test_client(use_cookies=False)


def check(answer: TestResponse) -> None:
    """No error of the site's own, and a refusal has a sentence."""
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json["error"].endswith(".")
    else:
        assert answer.json is None or "error" not in answer.json


@given(BODIES, TYPES)
def test_any_body_of_any_type(client: FlaskClient, body: bytes, kind: str) -> None:
    """Faces or a sentence, whatever the body is and whatever it is said to be."""
    check(client.post("/recognize?still=1", data=body, headers={"Content-Type": kind}))


@given(mutated())
def test_any_picture_that_is_nearly_one(client: FlaskClient, body: bytes) -> None:
    """A picture that was changed here and there is read or refused, as a body and in a form."""
    check(client.post("/recognize?still=1", data=body, content_type="image/png"))
    head = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'
    form = head + body + b"\r\n--x--\r\n"
    check(client.post("/recognize", data=form, content_type="multipart/form-data; boundary=x"))
    page = client.post("/photo", data=form, content_type="multipart/form-data; boundary=x")
    assert page.status_code < 500
    assert page.content_type.startswith("text/html")


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.dictionaries(VALUES, VALUES, max_size=3))
def test_any_headers_and_any_query(client: FlaskClient, headers: dict[str, str], query: dict[str, str]) -> None:
    """Odd headers and odd questions are answered on every route."""
    check(client.post("/recognize", query_string=query, data=PICTURES["jpg"], headers=headers, content_type=KINDS[0]))
    for path in ("/", "/songs", "/state", "/photo", "/split", "/video_feed", "/healthz", "/no/such"):
        check(client.get(path, query_string=query, headers=headers))


@given(st.one_of(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=400), st.binary(max_size=200)))
def test_any_cookie(client: FlaskClient, cookie: str | bytes) -> None:
    """A cookie that this site has not made is a sentence, or not seen as one at all."""
    text = cookie if isinstance(cookie, str) else cookie.decode("latin-1")
    text = "".join(c for c in text if c not in "\r\n")
    for name in (READING, "visage_watcher", "visage_listener"):
        headers = {"Cookie": f"{name}={text}"}
        check(client.post("/recognize", data=PICTURES["jpg"], headers=headers, content_type=KINDS[0]))
        check(client.get("/state", headers=headers))


@given(st.text(max_size=40), st.sampled_from(["emotion", "seen", "lift", "token", "way", "still"]))
def test_any_value_of_what_is_asked(client: FlaskClient, value: str, name: str) -> None:
    """The questions that there are, with values that there are not."""
    for path in ("/", "/songs", "/photo"):
        check(client.get(path, query_string={name: value}))


@given(st.one_of(st.binary(max_size=200), mutated()))
def test_any_bytes_have_a_header_or_a_reason(content: bytes) -> None:
    """What the header says is what the decoder finds; else it is a PictureError and no other."""
    try:
        header, still = read_header(content), decode_still(content)
    except PictureError:
        return
    assert {still.width, still.height} == {header.width, header.height}
    assert still.frame.shape[:2] == (still.height, still.width)
    assert grey_frame().dtype == still.frame.dtype
