"""Routes, through the test client, with parsed HTML."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from bs4 import BeautifulSoup, Tag
from flask.testing import FlaskClient

from app import create_app
from camera import Camera
from model.emotions import EMOTIONS, Emotion
from songs.catalog import Catalog, Playlist
from tests.conftest import ROOT, Source, eventually, parsed, stub_recognizer
from web.services import Services


def one(soup: BeautifulSoup | Tag, selector: str) -> Tag:
    found = soup.select(selector)
    assert len(found) == 1, f"{len(found)} of {selector}"
    return found[0]


# -- the page


def test_the_page_stands_without_javascript(client: FlaskClient) -> None:
    """The page has a chip for each emotion that is a plain link, and says what happens before it does."""
    page = parsed(client.get("/").text)
    links = {chip["data-emotion"]: chip["href"] for chip in page.select("#chips a[data-emotion]")}
    assert links == {e: f"/?emotion={e}" for e in EMOTIONS}
    assert "stored" in page.get_text()
    assert not page.select("script:not([src]), [style], [onclick]")


def test_the_page_loads_nothing_third_party(client: FlaskClient) -> None:
    """Scripts, styles and pictures come from the site itself; the policy allows no other."""
    response = client.get("/")
    page = parsed(response.text)
    loaded = [tag.get("src") or tag.get("href") for tag in page.select("script, img, link, iframe")]
    assert all(str(address).startswith("/") for address in loaded if address)
    policy = [part.strip() for part in response.headers["Content-Security-Policy"].split(";")]
    assert "default-src 'self'" in policy
    assert [part for part in policy if "http" in part] == ["frame-src https://open.spotify.com"]


def test_the_page_opens_no_camera(client: FlaskClient, source: Source) -> None:
    """Loading the page alone starts nothing: somebody must ask."""
    client.get("/")
    client.get("/state")
    client.get("/songs")
    assert source.opened == 0


def test_the_page_waits_for_no_camera_and_no_list(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is started it shows nobody's songs, so a reload need not look for any; its script asks for them."""
    asked: list[object] = []
    monkeypatch.setattr("web.pages.seen_here", lambda: asked.append("camera"))
    monkeypatch.setattr("web.pages.listed", lambda *of: asked.append(of))
    for query in ("", "?lift=1", "?seen=happy&lift=1"):
        assert one(parsed(client.get(f"/{query}").text), "#songs .list")["data-emotion"] == ""
    assert asked == []
    client.get("/songs?lift=1")
    assert asked == ["camera"]


def test_a_chosen_mood_shows_its_songs(client: FlaskClient) -> None:
    """/?emotion=sad has the sad list in it, each song linked to Spotify in a new tab."""
    page = parsed(client.get("/?emotion=sad").text)
    links = page.select("#songs a[href^='https://open.spotify.com/track/']")
    assert len(links) >= 40
    assert all(link["target"] == "_blank" and "noopener" in link["rel"] for link in links)


# -- songs


@pytest.mark.parametrize("route", ["/?emotion=angry", "/songs?emotion=angry"])
def test_every_song_can_be_played_and_opened_and_has_its_album(client: FlaskClient, route: str) -> None:
    """Each row has a play button that says what it plays, the album, and a link to the same song on Spotify."""
    rows = parsed(client.get(route).text).select("#songs tbody tr, .list tbody tr")
    assert len(rows) >= 40
    for row in rows:
        assert one(row, "button.play")["aria-label"] == f"Play {one(row, '.title').text}"
        assert one(row, ".album").text
        assert one(row, ".actions a")["href"] == f"https://open.spotify.com/track/{row['data-track']}"


@pytest.mark.parametrize(
    ("fetched", "says", "marked"),
    [
        (None, "from a list kept by hand", False),
        (datetime.now(UTC) - timedelta(days=29), "from Spotify, fetched 20", False),
        (datetime.now(UTC) - timedelta(days=31), "from Spotify, fetched 20", True),
        (datetime(2026, 1, 2), "from Spotify, fetched 2026-01-02, more than 30 days ago", True),
    ],
    ids=["by hand", "29 days", "31 days", "without a time zone"],
)
def test_a_list_says_where_it_is_from_and_how_old(
    camera: Camera, tmp_path: Path, fetched: datetime | None, says: str, marked: bool
) -> None:
    """A list from Spotify says when it was fetched, and so that it is seen when that is over 30 days ago."""
    shutil.copy(ROOT / "songs" / "happy.csv", tmp_path)
    notes = {"happy": {"fetched_at": fetched.isoformat(timespec="seconds")}} if fetched else {}
    (tmp_path / "synced.json").write_text(json.dumps(notes))
    client = create_app({}, Services(camera.recognizer, camera, Catalog(tmp_path))).test_client()
    caption = one(parsed(client.get("/songs?emotion=happy").text), "caption")
    assert says in " ".join(caption.text.split())
    assert bool(caption.select(".old")) == marked


def test_songs_of_a_chosen_mood_as_json(client: FlaskClient) -> None:
    """The JSON has the promised keys, and each song its own."""
    answer = client.get("/songs?emotion=happy", headers={"Accept": "application/json"}).json
    assert answer.keys() == {"emotion", "chosen", "lifted", "tracks", "steps", "fetched_at"}
    assert (answer["emotion"], answer["chosen"]) == ("happy", True)
    assert answer["tracks"][0].keys() == {"track_id", "title", "artist", "album", "duration_ms", "url"}
    assert answer["tracks"][0]["url"] == f"https://open.spotify.com/track/{answer['tracks'][0]['track_id']}"


def test_songs_without_a_face_is_a_state_of_its_own(client: FlaskClient) -> None:
    """With no face yet there is no emotion and no song, not a guess."""
    answer = client.get("/songs", headers={"Accept": "application/json"}).json
    assert answer == {
        "emotion": None,
        "chosen": False,
        "lifted": False,
        "tracks": [],
        "steps": [],
        "fetched_at": None,
    }
    assert not parsed(client.get("/songs").text).select("a[href*='spotify']")


def test_songs_of_what_a_visitors_camera_sees(client: FlaskClient) -> None:
    """?seen= gives the list of a mood that was not chosen by hand; a mood that is none lists the seven."""
    answer = client.get("/songs?seen=sad", headers={"Accept": "application/json"}).json
    assert (answer["emotion"], answer["chosen"]) == ("sad", False)
    assert answer["tracks"]
    assert "surprise" in client.get("/songs?seen=glad").json["error"]


def test_songs_follow_the_reading(client: FlaskClient, camera: Camera) -> None:
    """With a happy face before the camera, /songs is the happy list."""
    with camera.watch():
        assert eventually(lambda: camera.snapshot.reading)
        answer = client.get("/songs", headers={"Accept": "application/json"}).json
    assert (answer["emotion"], answer["chosen"]) == ("happy", False)
    assert len(answer["tracks"]) >= 40


@pytest.mark.parametrize("route", ["/songs", "/"])
def test_an_unknown_emotion_lists_the_seven(client: FlaskClient, route: str) -> None:
    """An emotion that is none is a 404 that names those there are."""
    answer = client.get(f"{route}?emotion=<script>")
    assert answer.status_code == 404
    assert all(emotion in answer.json["error"] for emotion in EMOTIONS)
    assert answer.content_type == "application/json"


def test_a_title_with_markup_is_text(camera: Camera, tmp_path: Path) -> None:
    """A song called <script> is shown, not run."""
    header = "track_id,title,artist,album,duration_ms,added_at"
    row = "0snQkGI5qnAmohLE7jTsTn,<script>x</script>,A,B,1000,2026-01-01"
    (tmp_path / "happy.csv").write_text(f"{header}\n{row}\n")
    client = create_app({}, Services(camera.recognizer, camera, Catalog(tmp_path))).test_client()
    fragment = parsed(client.get("/songs?emotion=happy").text)
    assert not fragment.select("script")
    assert "<script>x</script>" in fragment.get_text()


# -- state


def test_state_while_idle(client: FlaskClient) -> None:
    """Nobody watching: no reading, no faces, an idle camera."""
    state = client.get("/state").json
    assert state["reading"] is None
    assert state["faces"] == []
    assert state["camera"] == {"source": "fake", "status": "idle", "message": "", "fps": 0.0}


def test_state_while_live(client: FlaskClient, camera: Camera) -> None:
    """Somebody watching: the reading with seven probabilities, and the faces with their boxes."""
    with camera.watch():
        assert eventually(lambda: camera.snapshot.reading)
        state = client.get("/state").json
    assert state["reading"].keys() == {"emotion", "confidence", "probabilities"}
    assert list(state["reading"]["probabilities"]) == list(EMOTIONS)
    assert sum(state["reading"]["probabilities"].values()) == pytest.approx(1, abs=0.01)
    assert state["faces"][0] == {"box": [200, 120, 160, 160], "emotion": "happy", "confidence": 0.9}
    assert state["camera"]["status"] == "live"
    assert state["sequence"] > 0


# -- the stream


def test_the_stream_is_pictures(client: FlaskClient) -> None:
    """Each part has its type and length, decodes as a picture, and the next boundary follows at once."""
    response = client.get("/video_feed", buffered=False)
    assert response.content_type.startswith("multipart/x-mixed-replace; boundary=")
    assert response.headers["Cache-Control"] == "no-store"
    boundary = b"--" + response.content_type.partition("boundary=")[2].encode()
    chunks = iter(response.response)
    assert next(chunks) == boundary + b"\r\n"
    for _ in range(3):
        head, _, body = next(chunks).partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        assert lines["Content-Type"] == "image/jpeg"
        jpeg, after = body[: int(lines["Content-Length"])], body[int(lines["Content-Length"]) :]
        assert after == b"\r\n" + boundary + b"\r\n"
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (480, 640, 3)
    response.close()


def test_a_hang_up_frees_the_viewers_place(client: FlaskClient, camera: Camera) -> None:
    """Streams closed before, and after, their first picture give their places back."""
    for read_some in (False, True):
        for _ in range(6):
            response = client.get("/video_feed", buffered=False)
            assert response.status_code == 200
            if read_some:
                chunks = iter(response.response)
                next(chunks)
                next(chunks)
            response.close()
    assert eventually(lambda: camera.snapshot.status == "idle")


def test_past_the_cap_is_a_503_with_a_message(client: FlaskClient) -> None:
    """The fifth of four viewers is told to come back."""
    streams = [client.get("/video_feed", buffered=False) for _ in range(4)]
    refused = client.get("/video_feed")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
    assert "4 people are watching" in refused.text
    for stream in streams:
        stream.close()


def test_pause_releases_the_camera(source: Source) -> None:
    """POST /pause after the stream is gone releases a device that is kept for long after a viewer; GET is refused."""
    with closing(Camera("fake", stub_recognizer(), idle_seconds=600, open_frames=source)) as camera:
        client = create_app({}, Services(camera.recognizer, camera, Catalog(ROOT / "songs"))).test_client()
        stream = client.get("/video_feed", buffered=False)
        chunks = iter(stream.response)
        next(chunks)
        next(chunks)  # the first is no picture
        assert source.open == 1
        stream.close()
        assert client.post("/pause").status_code == 204
        assert eventually(lambda: source.open == 0)
        assert client.get("/pause").status_code == 405


# -- health


def test_healthz(client: FlaskClient, camera: Camera, tmp_path: Path) -> None:
    """200 while there are songs, 503 with an empty folder."""
    assert client.get("/healthz").status_code == 200
    empty = create_app({}, Services(camera.recognizer, camera, Catalog(tmp_path)))
    assert empty.test_client().get("/healthz").status_code == 503


def test_json_is_asked_for_by_accept_alone(client: FlaskClient) -> None:
    """A browser's Accept gets the fragment, a plain client too."""
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    assert client.get("/songs?emotion=sad", headers={"Accept": browser}).content_type.startswith("text/html")
    assert json.loads(client.get("/songs?emotion=sad", headers={"Accept": "application/json"}).data)["emotion"] == "sad"


def test_live_services_come_from_the_settings(tmp_path: Path) -> None:
    """create_app makes its own services when none are passed, from the settings."""
    app = create_app({"SOURCE": "demo", "SONGS": str(tmp_path), "VIEWERS": 3, "HOLD": 2.5})
    services = app.extensions["visage"]
    assert (services.camera.source, services.camera.max_viewers, services.camera.rules.hold) == ("demo", 3, 2.5)
    services.close()


# -- what goes wrong inside


def test_what_goes_wrong_inside_is_a_sentence_and_a_log_entry(
    camera: Camera, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error nobody foresaw is a 500 in JSON that tells nothing of the inside; the log has the traceback."""

    class Broken(Catalog):
        def playlist(self, emotion: Emotion) -> Playlist:
            raise ZeroDivisionError("a secret of the inside")

    client = create_app({}, Services(camera.recognizer, camera, Broken(ROOT / "songs"))).test_client()
    answer = client.get("/songs?emotion=sad")
    assert answer.status_code == 500
    assert answer.json["error"].startswith("Something went wrong on this site's side")
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in caplog.text


def test_a_method_that_there_is_not_says_which_there_are(client: FlaskClient) -> None:
    """A 405 is JSON too, and keeps its Allow."""
    answer = client.get("/recognize")
    assert answer.status_code == 405
    assert answer.json["error"]
    assert "POST" in answer.headers["Allow"]
