"""Settings and routes, through the test client, with parsed HTML."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from bs4 import BeautifulSoup, Tag
from flask.testing import FlaskClient

from app import SETTINGS, Services, SettingsError, create_app, settings_from, signing_key
from camera import Camera
from model.emotions import EMOTIONS, Emotion
from songs.catalog import Catalog, Playlist
from tests.conftest import ROOT, Source, eventually, stub_recognizer


def parsed(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def one(soup: BeautifulSoup | Tag, selector: str) -> Tag:
    found = soup.select(selector)
    assert len(found) == 1, f"{len(found)} of {selector}"
    return found[0]


# -- settings


def test_defaults_are_safe() -> None:
    """Without settings the site watches what it finds, on the loopback address, port 5000."""
    settings = settings_from({"PATH": "/bin"})
    assert (settings["SOURCE"], settings["HOST"], settings["PORT"]) == ("auto", "127.0.0.1", 5000)


def test_settings_are_read_from_the_environment() -> None:
    """VISAGE_ variables become settings of the right type."""
    settings = settings_from({"VISAGE_SOURCE": "clip.mp4", "VISAGE_PORT": "8080", "VISAGE_HOLD": "2"})
    assert (settings["SOURCE"], settings["PORT"], settings["HOLD"]) == ("clip.mp4", 8080, 2.0)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("VISAGE_PORT", "many", "VISAGE_PORT='many': it takes a whole number from 1 to 65535"),
        ("VISAGE_PORT", "70000", "from 1 to 65535"),
        ("VISAGE_PORT", "", "VISAGE_PORT=''"),
        ("VISAGE_HOLD", "-1", "VISAGE_HOLD='-1'"),
        ("VISAGE_ENTER", "nan", "VISAGE_ENTER='nan'"),
        ("VISAGE_ENGINE", "onnx", "one of litert, keras"),
        ("VISAGE_LEAVE", "0.5", "it takes at most VISAGE_ENTER (0.45)"),
        ("VISAGE_SOURCE", "", "VISAGE_SOURCE=''"),
        ("VISAGE_EMBED", "http://x; script-src *", "it takes something like https://open.spotify.com"),
        ("VISAGE_NAMES", "a b", "it takes host names with commas between them"),
        ("VISAGE_WORKERS", "-1", "a whole number from 0 to 64"),
        ("VISAGE_SUORCE", "demo", "VISAGE_SUORCE is not a setting: did you mean VISAGE_SOURCE?"),
        ("VISAGE_QQQQ", "1", "the settings are VISAGE_SOURCE"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_takes(name: str, value: str, says: str) -> None:
    """Unknown names and wrong values stop the start with a sentence."""
    with pytest.raises(SettingsError) as error:
        settings_from({name: value})
    assert says in str(error.value)


@pytest.mark.parametrize(("name", "takes"), [("TOKEN", "16 characters or more"), ("SECRET_KEY", "32 characters")])
def test_a_secret_that_is_too_short_is_refused_and_not_repeated(name: str, takes: str) -> None:
    """What the setting takes is said; the secret itself goes into no terminal and no log."""
    with pytest.raises(SettingsError, match=takes) as error:
        settings_from({f"VISAGE_{name}": "xyzzy"})
    assert "xyzzy" not in str(error.value)


def test_a_setting_left_empty_is_one_not_given() -> None:
    """Compose files hand on what is not set as an empty text."""
    assert settings_from({"VISAGE_TOKEN": "", "VISAGE_NAMES": "", "VISAGE_SECRET_KEY": ""})["TOKEN"] == ""


def test_create_app_checks_its_config_too() -> None:
    """A config passed in is held to the same table."""
    with pytest.raises(SettingsError, match="VISAGE_PORT"):
        create_app({"PORT": "many"})


def test_a_songs_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A typo in the folder ends the start; it does not end in seven empty lists."""
    with pytest.raises(SettingsError, match=r"VISAGE_SONGS=.*nope: there is no such folder"):
        create_app({"SONGS": str(tmp_path / "nope")})


def test_the_readme_names_every_setting() -> None:
    """The settings table of the README is complete."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [s.name for s in SETTINGS if f"`VISAGE_{s.name}`" not in readme]


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


def test_pause_releases_the_camera(client: FlaskClient, source: Source) -> None:
    """POST /pause after the stream is gone releases the device; GET is refused."""
    stream = client.get("/video_feed", buffered=False)
    next(iter(stream.response))
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


# -- other sites


@pytest.mark.parametrize("where", ["cross-site", "same-site"])
def test_another_site_cannot_start_the_camera(client: FlaskClient, source: Source, where: str) -> None:
    """A page elsewhere, on another port too, that embeds the stream gets a 403; a link to the page works."""
    elsewhere = {"Sec-Fetch-Site": where}
    refused = client.get("/video_feed", headers=elsewhere)
    assert (refused.status_code, source.opened) == (403, 0)
    assert client.post("/pause", headers=elsewhere).status_code == 403
    assert client.get("/", headers=elsewhere).status_code == 200


def test_a_foreign_host_name_is_refused(client: FlaskClient) -> None:
    """A name that somebody points at 127.0.0.1 does not get the page, nor the picture."""
    for path in ("/", "/video_feed", "/state"):
        assert client.get(path, headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/state", headers={"Host": "127.0.0.1:5000"}).status_code == 200


# -- from elsewhere

TOKEN = "open-sesame-1234"


def site(camera: Camera | None, **config: object) -> FlaskClient:
    services = Services(stub_recognizer(), camera, Catalog(ROOT / "songs"))
    return create_app({"TESTING": True, "HOST": "0.0.0.0", **config}, services).test_client()


ELSEWHERE = {"Host": "192.168.1.20:5000"}


def test_the_camera_is_not_shown_to_a_network_by_accident(camera: Camera, source: Source) -> None:
    """Off the loopback address the camera's routes answer 403 and say how; the page and the songs serve."""
    client = site(camera)
    for path in ("/video_feed", "/state"):
        refused = client.get(path, headers=ELSEWHERE)
        assert (refused.status_code, "VISAGE_TOKEN" in refused.json["error"]) == (403, True)
    assert client.post("/pause", headers=ELSEWHERE).status_code == 403
    assert client.get("/state", headers={"Host": "127.0.0.1"}).status_code == 403  # who says so may be anywhere
    assert client.get("/", headers=ELSEWHERE).status_code == 200
    assert client.get("/songs", headers={**ELSEWHERE, "Accept": "application/json"}).json["emotion"] is None
    assert source.opened == 0


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_a_proxy_on_this_machine_does_not_bring_the_network_to_the_camera(camera: Camera, header: str) -> None:
    """A request that a proxy has handed on is from elsewhere, though it comes from this machine under its name."""
    client = site(camera, HOST="127.0.0.1")
    assert client.get("/state", headers={"Host": "127.0.0.1"}).status_code == 200
    assert client.get("/state", headers={"Host": "127.0.0.1", header: "192.168.1.20"}).status_code == 403
    assert site(camera, HOST="127.0.0.1", PROXIES=1).get("/state").status_code == 403


def test_a_token_shown_once_opens_the_camera(camera: Camera) -> None:
    """/?token= becomes a cookie that no script reads, and leaves the address; with it the camera is there."""
    client = site(camera, TOKEN=TOKEN)
    assert "/?token=" in client.get("/state", headers=ELSEWHERE).json["error"]
    shown = client.get(f"/?token={TOKEN}", headers=ELSEWHERE, base_url="http://192.168.1.20:5000")
    assert (shown.status_code, shown.headers["Location"]) == (302, "/")
    cookie = shown.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert TOKEN not in cookie
    assert client.get("/state", headers=ELSEWHERE, base_url="http://192.168.1.20:5000").status_code == 200


@pytest.mark.parametrize("token", ["wrong", "", "\N{SNOWMAN}", TOKEN[:-1], TOKEN + "x"])
def test_a_wrong_token_opens_nothing(camera: Camera, token: str) -> None:
    """A wrong token is a 403 and no cookie, and so is a cookie that somebody made up."""
    client = site(camera, TOKEN=TOKEN)
    refused = client.get("/", query_string={"token": token}, headers=ELSEWHERE)
    assert (refused.status_code, "Set-Cookie" in refused.headers) == (403, False)
    client.set_cookie("visage_watcher", token, domain="192.168.1.20")
    assert client.get("/state", base_url="http://192.168.1.20").status_code == 403


def test_without_a_camera_of_its_own(camera: Camera) -> None:
    """VISAGE_SOURCE=none: the camera's routes are 404 with a sentence, the page and the songs serve."""
    client = site(None, HOST="127.0.0.1", SOURCE="none")
    for path in ("/video_feed", "/state"):
        assert "no camera of its own" in client.get(path).json["error"]
        assert client.get(path).status_code == 404
    assert client.get("/").status_code == 200
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("source", "device", "host", "way"),
    [
        ("auto", True, "127.0.0.1", "server"),
        ("auto", False, "127.0.0.1", "mine"),
        ("demo", False, "127.0.0.1", "server"),
        ("auto", True, "192.168.1.20", "mine"),
    ],
    ids=["a camera here", "none here", "the demo on purpose", "from elsewhere"],
)
def test_which_camera_a_page_offers_first(
    camera: Camera, monkeypatch: pytest.MonkeyPatch, source: str, device: bool, host: str, way: str
) -> None:
    """The site's own where there is one to see; else the visitor's. Both are offered, unless the first is not shown."""
    monkeypatch.setattr("camera.has_device", lambda: device)
    client = site(camera, SOURCE=source, HOST="127.0.0.1" if host == "127.0.0.1" else "0.0.0.0")
    page = parsed(client.get("/", headers={"Host": host}).text)
    assert one(page, "#watch")["data-way"] == way
    assert bool(page.select("a[href*='way=server']")) == (host == "127.0.0.1")


def test_none_makes_no_camera() -> None:
    """The setting reaches the services."""
    services = create_app({"SOURCE": "none"}).extensions["visage"]
    assert services.camera is None
    services.close()


@pytest.mark.parametrize(
    ("config", "answered", "refused"),
    [
        ({}, ["192.168.1.20", "[fe80::1]:5000", "localhost", socket.gethostname()], ["evil.example", "1.2.3.4.evil"]),
        ({"NAMES": "Visage.example, b.example"}, ["visage.example", "b.example:81", "localhost"], ["192.168.1.20"]),
        ({"HOST": "127.0.0.1", "NAMES": "visage.example"}, ["visage.example", "127.0.0.1:5"], ["evil.example"]),
    ],
    ids=["addresses", "names", "behind a proxy"],
)
def test_the_names_that_a_site_answers_to(
    camera: Camera, config: dict[str, str], answered: list[str], refused: list[str]
) -> None:
    """Without VISAGE_NAMES: addresses and this machine's own name. With them: they, and the loopback names."""
    client = site(camera, **config)
    assert [client.get("/healthz", headers={"Host": host}).status_code for host in answered] == [200] * len(answered)
    assert [client.get("/healthz", headers={"Host": host}).status_code for host in refused] == [400] * len(refused)


def test_a_page_may_ask_for_the_visitors_camera_and_nothing_else(client: FlaskClient) -> None:
    """The policies let the page open a camera and show pictures of its own, and keep the rest shut."""
    headers = client.get("/").headers
    assert headers["Permissions-Policy"] == "camera=(self), microphone=(), geolocation=()"
    assert "img-src 'self' data: blob:; media-src 'self' blob:" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


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


# -- the key that cookies are signed with


def test_a_key_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    """The first start makes it, outside the folder of the site; the next ones find it; nobody else may read it."""
    key = signing_key({"XDG_STATE_HOME": str(tmp_path)})
    file = tmp_path / "visage-fm" / "secret-key"
    assert len(key) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    assert signing_key({"XDG_STATE_HOME": str(tmp_path)}) == key
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["secret-key"]


def test_processes_that_start_at_once_agree_on_a_key(tmp_path: Path) -> None:
    """Eight processes without a key come out with the same one."""
    script = "import os, app; print(app.signing_key(os.environ))"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    keys = {process.communicate(timeout=60)[0] for process in started}
    assert len(keys) == 1
    assert len(keys.pop()) > 32


def test_a_home_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The site starts with a key for this run, and says what to set."""
    (tmp_path / "file").write_text("")
    one, other = (signing_key({"XDG_STATE_HOME": str(tmp_path / "file")}) for _ in range(2))
    assert one != other
    said = capsys.readouterr().err
    assert "for this run only" in said
    assert "VISAGE_SECRET_KEY" in said


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    """A key file that somebody emptied ends the start with what to do."""
    (tmp_path / "visage-fm").mkdir()
    (tmp_path / "visage-fm" / "secret-key").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="secret-key holds no key: delete it"):
        signing_key({"XDG_STATE_HOME": str(tmp_path)})
