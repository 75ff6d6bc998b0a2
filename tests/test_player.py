"""People's own Spotify: login, devices and saved moods, through the site's routes, against the loopback Spotify."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from camera import Camera
from songs.catalog import Catalog
from songs.player import MOST_LOGINS, MOST_SONGS, Listeners, LoginRefusedError
from songs.spotify import Settings, forget_token, write_token
from tests.conftest import ROOT, eventually, stub_recognizer, track_id
from tests.fake_spotify import Answer, FakeSpotify, error, plain_text, song
from web.own_spotify import BEGUN, COOKIE, ROUTES
from web.services import Services, make_listeners
from web.settings import SettingsError

SONG = "60nZcImufyMA1MKQY3dcCH"
KITCHEN = {"id": "kitchen1", "name": "Kitchen", "is_active": False, "is_restricted": False}
PHONE = {"id": "phone1", "name": "Ann's phone", "is_active": True, "is_restricted": False}
HOST = "127.0.0.1"
OPERATIONS = ROOT.parent / "shared/data/spotify/openapi-operations.json"


@pytest.fixture
def spotify() -> FakeSpotify:
    made = FakeSpotify()
    made.devices = [KITCHEN, PHONE]
    return made


@pytest.fixture
def settings(spotify: FakeSpotify, tmp_path: Path) -> Iterator[Settings]:
    with spotify.serving() as base:
        yield Settings(
            client_id="app",
            client_secret="",
            redirect_uri="http://127.0.0.1:8888/callback",
            api_base=f"{base}/v1",
            accounts_base=base,
            token_cache=tmp_path / "config" / "spotify-token.json",
            songs=ROOT / "songs",
        )


@dataclass
class Browser:
    """A person's browser: cookies of its own, and what a page of the site's would know."""

    client: FlaskClient

    def log_in(self) -> TestResponse:
        """Through Spotify, which agrees at once, and back."""
        return self.come_back(self.agree())

    def agree(self) -> str:
        """The address that Spotify sends the browser to."""
        page = self.client.get("/spotify/login").headers["Location"]
        return requests.get(page, allow_redirects=False, timeout=10).headers["Location"]

    def come_back(self, address: str) -> TestResponse:
        return self.client.get(f"/spotify/callback?{urlsplit(address).query}", headers={"Sec-Fetch-Site": "cross-site"})

    def secret(self) -> str:
        cookie = self.client.get_cookie(COOKIE, HOST, "/spotify")
        return str(cookie.value) if cookie else ""

    def at(self, site: Flask) -> Browser:
        """The same browser at another start of the site."""
        client = site.test_client()
        client.set_cookie(COOKIE, self.secret(), domain=HOST, path="/spotify")
        return Browser(client)

    def state(self) -> dict[str, Any]:
        return dict(self.client.get("/spotify?devices=1").json)

    def post(self, what: str, body: dict[str, Any] | None = None, token: str | None = None) -> TestResponse:
        shown = self.state().get("csrf", "") if token is None else token
        return self.client.post(f"/spotify/{what}", json=body or {}, headers={"X-CSRF-Token": shown})

    def play(self, device: str | None = None) -> TestResponse:
        return self.post("play", {"songs": [SONG], "device": device})


def site(camera: Camera, settings: Settings) -> Flask:
    services = Services(camera.recognizer, camera, Catalog(ROOT / "songs"), Listeners(settings))
    return create_app({"TESTING": True, "SERVER_NAME": HOST}, services)


@pytest.fixture
def browser(camera: Camera, settings: Settings) -> Browser:
    return Browser(site(camera, settings).test_client())


@pytest.fixture
def ann(browser: Browser) -> Browser:
    """Somebody logged in."""
    assert browser.log_in().status_code == 302
    return browser


def tokens(settings: Settings) -> list[Path]:
    return list((settings.token_cache.parent / "listeners").glob("*"))


# -- without it


def test_without_an_app_there_is_none_of_it(client: FlaskClient) -> None:
    """Where no app at Spotify is named, the page shows nothing of it and the routes are not there."""
    page = client.get("/?emotion=happy").text
    assert "own.js" not in page
    assert 'id="own"' not in page
    assert {client.open(route, method=method).status_code for route, (method, _) in ROUTES.items()} == {404}


def test_an_app_in_the_environment_turns_it_on(tmp_path: Path) -> None:
    """SPOTIPY_CLIENT_ID is the switch; a wrong address beside it ends the start with a sentence."""
    cache = {"VISAGE_TOKEN_CACHE": str(tmp_path / "token.json")}
    assert make_listeners(cache) is None
    assert make_listeners({"SPOTIPY_CLIENT_ID": "app", **cache}) is not None
    with pytest.raises(SettingsError, match="SPOTIFY_API_BASE='nowhere'"):
        make_listeners({"SPOTIPY_CLIENT_ID": "app", "SPOTIFY_API_BASE": "nowhere", **cache})


def test_logged_out_the_page_offers_the_login_and_is_otherwise_the_same(browser: Browser) -> None:
    """With an app but no login there is one link more, no cookie, and the same songs."""
    answer = browser.client.get("/?emotion=happy")
    assert 'href="/spotify/login"' in answer.text
    assert answer.text.count('class="play round"') >= 40
    assert "Set-Cookie" not in answer.headers
    assert browser.state() == {"logged_in": False, "devices": [], "told": ""}


def test_at_localhost_the_page_says_where_to_log_in(browser: Browser) -> None:
    """Spotify refuses localhost, so there the page names the address instead of offering a login that must fail."""
    page = browser.client.get("/", base_url="http://localhost:5000").text
    assert "/spotify/login" not in page
    assert "open this page at 127.0.0.1" in page


# -- the login


def test_the_login_asks_for_what_it_needs(browser: Browser) -> None:
    """Spotify is asked for playback and private playlists only, with a state, and to come back to this site."""
    page = urlsplit(browser.client.get("/spotify/login").headers["Location"])
    asked = {name: values[0] for name, values in parse_qs(page.query).items()}
    assert set(asked["scope"].split()) == {
        "user-read-playback-state",
        "user-modify-playback-state",
        "playlist-modify-private",
    }
    assert asked["redirect_uri"] == "http://127.0.0.1/spotify/callback"
    assert len(asked["state"]) >= 32
    assert asked["code_challenge_method"] == "S256"


@pytest.mark.parametrize("secret", ["", "s3cret"], ids=["PKCE", "with a secret"])
def test_a_login_lasts(camera: Camera, settings: Settings, spotify: FakeSpotify, secret: str) -> None:
    """After it the browser is logged in, and still is when the site has been started anew."""
    spotify.secret = secret
    settings = replace(settings, client_secret=secret)
    browser = Browser(site(camera, settings).test_client())
    back = browser.log_in()
    assert (back.status_code, back.headers["Location"]) == (302, "/")
    assert browser.at(site(camera, settings)).state()["logged_in"]


def test_the_token_stays_on_this_side(browser: Browser, settings: Settings) -> None:
    """The browser gets a secret that scripts cannot read and other requests do not carry; the file is its owner's."""
    begun = browser.client.get("/spotify/login").headers["Set-Cookie"]
    kept = browser.log_in().headers["Set-Cookie"]
    for set_cookie in (begun, kept):
        assert {"HttpOnly", "Path=/spotify", "SameSite=Lax"} <= set(set_cookie.split("; "))
    [file] = tokens(settings)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = browser.secret()
    assert secret not in file.name
    token = json.loads(file.read_text())
    told = browser.client.get("/spotify").text + browser.client.get("/").text
    assert token["access_token"] not in told
    assert token["refresh_token"] not in told
    assert secret not in told


not_ours = pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda query: re.sub("state=[^&]*", "state=other", query), "does not belong to a login of this browser"),
        (lambda query: re.sub("&?state=[^&]*", "", query), "does not belong to a login of this browser"),
        (lambda query: re.sub("code=[^&]*", "error=access_denied", query), "did not log you in (access_denied)"),
        (lambda query: re.sub("code=[^&]*", "code=made-up", query), "Please log in again"),
    ],
    ids=["another state", "no state", "refused", "another code"],
)


@not_ours
def test_an_answer_that_is_not_ours_logs_nobody_in(
    browser: Browser, settings: Settings, change: Any, says: str
) -> None:
    """A wrong state, a refusal and a made-up code leave nothing behind, and the page says why."""
    answer = browser.come_back("?" + change(urlsplit(browser.agree()).query))
    assert answer.status_code == 403
    assert says in answer.text
    assert not browser.state()["logged_in"]
    assert tokens(settings) == []


@not_ours
def test_a_login_that_fails_leaves_the_one_before(ann: Browser, settings: Settings, change: Any, says: str) -> None:
    """Somebody logged in who begins another login, and cancels it or gets a wrong answer, is still logged in."""
    before = (ann.secret(), tokens(settings))
    answer = ann.come_back("?" + change(urlsplit(ann.agree()).query))
    assert (answer.status_code, says in answer.text) == (403, True)
    assert (ann.secret(), tokens(settings)) == before
    assert ann.play().status_code == 200


@pytest.mark.parametrize(
    ("came", "back"),
    [
        (f"http://{HOST}/?emotion=sad&lift=1", "/?emotion=sad&lift=1"),
        (f"http://{HOST}/photo", "/photo"),
        (f"http://{HOST}/split?x=1", "/"),
        (f"http://{HOST}//evil.example/", "/"),
        ("http://evil.example/?emotion=sad", "/"),
        ("nonsense", "/"),
        ("http://[", "/"),
        ("", "/"),
    ],
)
def test_a_login_leads_back_to_pages_of_ours_alone(browser: Browser, came: str, back: str) -> None:
    """To the camera's or the photo's, as they were."""
    page = browser.client.get("/spotify/login", headers={"Referer": came}).headers["Location"]
    answer = requests.get(page, allow_redirects=False, timeout=10).headers["Location"]
    assert browser.come_back(answer).headers["Location"] == back


def test_a_new_login_ends_the_one_before(ann: Browser, settings: Settings) -> None:
    """Of two logins in one browser the second counts, under a secret of its own; no token stays behind."""
    [before], secret = tokens(settings), ann.secret()
    ann.log_in()
    [after] = tokens(settings)
    assert after != before
    assert ann.secret() not in ("", secret)
    assert ann.play().status_code == 200
    assert ann.client.get_cookie(BEGUN, HOST, "/spotify") is None


def test_an_answer_counts_once_and_in_its_own_browser(browser: Browser, camera: Camera, settings: Settings) -> None:
    """Somebody else's answer, or the same one again, logs nobody in."""
    address = browser.agree()
    other = Browser(browser.client.application.test_client())
    assert other.come_back(address).status_code == 403
    assert browser.come_back(address).status_code == 302
    assert browser.come_back(address).status_code == 403
    assert not other.state()["logged_in"]


def test_of_two_logins_begun_the_later_one_can_be_finished(browser: Browser) -> None:
    """The answer to the earlier one, of another tab, is refused and does not use the later one up."""
    earlier, later = browser.agree(), browser.agree()
    assert browser.come_back(earlier).status_code == 403
    assert browser.come_back(later).status_code == 302
    assert browser.state()["logged_in"]


def test_logins_that_nobody_finishes_do_not_pile_up(settings: Settings) -> None:
    """However often a login is begun, only so many wait for an answer."""
    listeners = Listeners(settings)
    for _ in range(MOST_LOGINS + 20):
        listeners.begin("http://127.0.0.1:5000/spotify/callback")
    assert len(list((settings.token_cache.parent / "logins").glob("*.json"))) <= MOST_LOGINS + 1


def test_an_answer_may_come_to_another_process(spotify: FakeSpotify, settings: Settings) -> None:
    """A login that one process of the site has begun is finished by another, and counts once all the same."""
    secret, page = Listeners(settings).begin("http://127.0.0.1:5000/spotify/callback")
    answer = dict(parse_qsl(urlsplit(requests.get(page, allow_redirects=False, timeout=5).headers["Location"]).query))
    assert Listeners(settings).finish(secret, answer) == "/"
    assert Listeners(settings).state(secret)["logged_in"]
    with pytest.raises(LoginRefusedError, match="does not belong"):
        Listeners(settings).finish(secret, answer)


def test_a_spotify_that_hangs_leaves_the_page_its_threads(settings: Settings) -> None:
    """Six may wait for Spotify; the seventh is told to come back, and the page answers."""
    go = threading.Event()
    waiting: list[int] = []

    class Hanging(Listeners):
        def state(self, secret: str, with_devices: bool = False) -> dict[str, Any]:
            waiting.append(1)
            go.wait(20)
            return {}

    recognizer = stub_recognizer()
    app = create_app({}, Services(recognizer, None, Catalog(ROOT / "songs"), Hanging(settings)))
    threads = [threading.Thread(target=lambda: app.test_client().get("/spotify")) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: len(waiting) == 6)
    refused = app.test_client().get("/spotify")
    assert (refused.status_code, "try again in a while" in refused.json["error"]) == (503, True)
    assert app.test_client().get("/").status_code == 200
    go.set()
    for thread in threads:
        thread.join()
    assert app.test_client().get("/spotify").status_code == 200


def test_logging_out_deletes_the_token(ann: Browser, settings: Settings) -> None:
    """After it nothing of the login is left."""
    assert ann.post("logout").json == {"logged_in": False, "devices": [], "told": ""}
    assert tokens(settings) == []
    assert not ann.state()["logged_in"]


@pytest.mark.parametrize("moment", ["Spotify is asked", "the new token is put in its place"])
def test_a_logout_lasts_though_the_token_is_being_renewed(
    ann: Browser, spotify: FakeSpotify, settings: Settings, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Logging out does not wait for a renewal under way, and the renewal does not bring the token back."""
    [file] = tokens(settings)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"expires_at": 0}))
    answers: list[bool] = []

    def log_out() -> None:
        answers.append(Listeners(settings).forget(ann.secret())["logged_in"])

    def replace_late(part: Path, target: Path, replace: Any = Path.replace) -> Any:
        log_out()
        return replace(part, target)

    if moment == "Spotify is asked":
        spotify.before = lambda asked: log_out() if asked.path == "/api/token" else None
    else:
        monkeypatch.setattr(Path, "replace", replace_late)
    ann.state()
    assert answers == [False]
    assert tokens(settings) == []
    assert not ann.state()["logged_in"]


def test_a_token_put_in_place_during_a_logout_goes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal may end between the deletion of the token and that of the half-written file."""
    file = tmp_path / "token.json"
    write_token(file, {"access_token": "old"})

    def unlink_early(path: Path, missing_ok: bool = False, unlink: Any = Path.unlink) -> None:
        if path == file and "old" in path.read_text():
            unlink(path)
            write_token(file, {"access_token": "new"})
        else:
            unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_early)
    forget_token(file)
    assert list(tmp_path.iterdir()) == []


def test_a_login_that_has_ended_is_said(ann: Browser, spotify: FakeSpotify, settings: Settings) -> None:
    """When Spotify refuses the refresh token the person is asked to log in again, and the dead token is deleted."""
    [file] = tokens(settings)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"expires_at": 0}))
    spotify.refresh_tokens.clear()
    state = ann.state()
    assert not state["logged_in"]
    assert "login has ended" in state["told"]
    assert tokens(settings) == []


def test_a_token_is_renewed(ann: Browser, spotify: FakeSpotify, settings: Settings) -> None:
    """An hour later the person is still logged in."""
    [file] = tokens(settings)
    before = json.loads(file.read_text())
    file.write_text(json.dumps(before | {"expires_at": 0}))
    assert ann.play().status_code == 200
    assert json.loads(file.read_text())["access_token"] != before["access_token"]


def test_a_token_that_ends_before_its_time_is_renewed(ann: Browser, settings: Settings) -> None:
    """Spotify does not accept it, whatever its date says: it is renewed once, and the song plays."""
    [file] = tokens(settings)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"access_token": "taken-back"}))
    assert ann.play().status_code == 200


def test_tokens_that_are_never_accepted_end_the_login(ann: Browser, spotify: FakeSpotify, settings: Settings) -> None:
    """When the renewed one is refused too, the page offers the login instead of going on as if there were one."""
    spotify.fail("/me/player", error(401, "Invalid access token"), for_ever=True)
    assert ann.state() == {
        "logged_in": False,
        "devices": [],
        "told": "Your Spotify login has ended. Please log in again.",
    }
    assert tokens(settings) == []


def test_a_token_that_cannot_be_kept_is_not_asked_for(
    ann: Browser, spotify: FakeSpotify, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the person hears of it, and is still logged in."""
    [file] = tokens(settings)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"expires_at": 0}))
    spotify.asked.clear()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        answer = ann.play()
    assert (answer.status_code, spotify.asked) == (502, [])
    assert answer.json == {"error": "Spotify's token cannot be kept (No space left on device)."}
    assert ann.play().status_code == 200


def test_a_token_is_renewed_in_one_try(ann: Browser, spotify: FakeSpotify, settings: Settings) -> None:
    """When Spotify cannot renew a token at once the person hears of it; nobody else waits for a second try."""
    [file] = tokens(settings)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"expires_at": 0}))
    spotify.asked.clear()
    spotify.fail("/api/token", error(503, "Busy"), for_ever=True)
    state = ann.state()
    assert "trouble of its own (503)" in state["told"]
    assert [asked.path for asked in spotify.asked] == ["/api/token"]
    assert state["logged_in"]


# -- only the site's own page


@pytest.mark.parametrize("what", ["play", "pause", "resume", "save", "logout"])
@pytest.mark.parametrize("token", ["", "other", "ü"])
def test_what_changes_something_needs_the_pages_token(
    ann: Browser, spotify: FakeSpotify, what: str, token: str
) -> None:
    """Without the token that only this site's page can read, nothing is changed; nor is anything by GET."""
    before = len(spotify.asked)
    assert ann.post(what, {"songs": [SONG], "emotion": "happy"}, token).status_code == 403
    assert ann.client.get(f"/spotify/{what}").status_code == 405
    assert len(spotify.asked) == before
    assert ann.state()["logged_in"]


def test_one_browsers_token_is_no_others(ann: Browser) -> None:
    """Two people logged in at the same site cannot act for each other."""
    other = Browser(ann.client.application.test_client())
    other.log_in()
    assert ann.post("logout", token=other.state()["csrf"]).status_code == 403


def test_a_stranger_is_told_to_log_in(browser: Browser, spotify: FakeSpotify) -> None:
    """Somebody who began a login but did not finish it has no token to show, and Spotify is not asked."""
    browser.client.get("/spotify/login")
    assert browser.play().status_code == 403
    assert spotify.api_calls() == []


# -- playing


def test_a_site_that_cannot_keep_a_login_says_so(
    browser: Browser, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """In an image that cannot be written, or on a full disk: a sentence for the visitor, the reason in the log."""
    settings.token_cache.parent.mkdir(parents=True, exist_ok=True)
    settings.token_cache.parent.joinpath("logins").write_text("in the way")
    refused = browser.client.get("/spotify/login")
    assert refused.status_code == 503
    assert "This site cannot keep a login at the moment" in refused.text
    assert "logins cannot be kept: " in caplog.text


def test_a_song_goes_to_the_active_device_or_the_one_chosen(ann: Browser, spotify: FakeSpotify) -> None:
    """Each song is sent once, to where the person said."""
    assert ann.state()["devices"] == [
        {"id": "kitchen1", "name": "Kitchen"},
        {"id": "phone1", "name": "Ann's phone"},
    ]
    assert ann.play().status_code == 200
    assert ann.play("kitchen1").status_code == 200
    assert spotify.played == [("phone1", [f"spotify:track:{SONG}"]), ("kitchen1", [f"spotify:track:{SONG}"])]


def test_spotify_hears_nothing_until_its_devices_are_wanted(ann: Browser, spotify: FakeSpotify) -> None:
    """Whether somebody is logged in, the site knows by itself; the devices are asked for when the page wants them."""
    spotify.asked.clear()
    known = ann.client.get("/spotify").json
    assert (known["logged_in"], known["devices"], known["told"]) == (True, None, "")
    assert known["csrf"]
    assert spotify.asked == []
    assert [device["name"] for device in ann.state()["devices"]] == ["Kitchen", "Ann's phone"]


def test_a_device_gets_the_rest_of_the_list(ann: Browser, spotify: FakeSpotify) -> None:
    """Songs go out in one request and in their order, so that no silence follows the first; a hundred at most."""
    songs = [track_id(n) for n in range(MOST_SONGS)]
    assert ann.post("play", {"songs": songs, "device": "kitchen1"}).status_code == 200
    assert spotify.played == [("kitchen1", [f"spotify:track:{song}" for song in songs])]
    assert ann.post("play", {"songs": [*songs, SONG], "device": "kitchen1"}).status_code == 400
    assert len(spotify.played) == 1


def test_a_device_pauses_and_goes_on(ann: Browser, spotify: FakeSpotify) -> None:
    """Where it was; what cannot be paused, or is no device, is said."""
    nothing = ann.post("pause", {"device": "kitchen1"})
    assert (nothing.status_code, "cannot do this now" in nothing.json["error"]) == (409, True)
    ann.play("kitchen1")
    for what, paused in (("pause", True), ("resume", False)):
        assert ann.post(what, {"device": "kitchen1"}).status_code == 200
        assert spotify.paused == paused
    assert len(spotify.played) == 1
    assert ann.post("pause", {"device": None}).status_code == 200
    assert "device_id" not in spotify.asked[-1].query
    assert ann.post("pause", {"device": "../x"}).status_code == 400
    assert ann.post("resume", {"device": "gone"}).status_code == 409


def test_what_a_device_is_at(ann: Browser, spotify: FakeSpotify) -> None:
    """The song's id is the one that was sent, also where Spotify plays another copy of the song instead."""
    assert ann.client.get("/spotify/playing").json == {"song": None, "paused": True}
    ann.play("kitchen1")
    assert ann.client.get("/spotify/playing").json == {"song": SONG, "paused": False}
    copy = {"item": song(1, linked_from={"id": SONG}), "is_playing": True}
    spotify.fail("/v1/me/player", Answer(body=copy))
    assert ann.client.get("/spotify/playing").json == {"song": SONG, "paused": False}
    spotify.paused = True
    assert ann.client.get("/spotify/playing").json["paused"]


def test_devices_that_cannot_be_played_are_not_offered(ann: Browser, spotify: FakeSpotify) -> None:
    """One without an id, and one that Spotify lets nobody control, are left out."""
    spotify.devices = [KITCHEN | {"id": None}, PHONE | {"is_restricted": True}]
    assert ann.state()["devices"] == []


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (error(404, "Player command failed: No active device found", "NO_ACTIVE_DEVICE"), 409, "Open Spotify on a"),
        (error(404, "Device not found"), 409, "That device is gone"),
        (error(404, "Service not found"), 502, "no such playlist"),
        (error(403, "Player command failed: Premium required", "PREMIUM_REQUIRED"), 409, "only Premium accounts"),
        (plain_text(403, "User not registered in the Developer Dashboard"), 502, "add yourself under User Management"),
        (plain_text(403, "Active premium subscription required for the owner of the app."), 502, "its owner needs"),
        (error(403, "Insufficient client scope"), 502, "lacks a permission: log in again"),
        (error(429, "Slow down", Retry_After="7"), 502, "asks to slow down"),
        (error(429, "Quota", "QUOTA_EXCEEDED", Retry_After="80000"), 502, "quota is used up until"),
        (error(503, "Oh no"), 502, "trouble of its own"),
    ],
)
def test_a_refusal_is_explained(
    ann: Browser, spotify: FakeSpotify, answer: Any, code: int, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """What Spotify refuses is said in words for the person at the page; asked once, nothing of it in the log."""
    spotify.fail("/me/player/play", answer)
    told = ann.play()
    assert told.status_code == code
    assert says in told.json["error"]
    assert "terminal" not in told.json["error"]
    assert sum(call.path.endswith("/play") for call in spotify.asked) == 1
    assert capfd.readouterr() == ("", "")


def test_no_devices_because_of_an_error_still_lets_one_log_out(ann: Browser, spotify: FakeSpotify) -> None:
    """When the devices cannot be listed the page says why, and the person is still logged in."""
    spotify.fail("/devices", plain_text(403, "User not registered in the Developer Dashboard"))
    state = ann.state()
    assert (state["logged_in"], state["devices"]) == (True, [])
    assert "User Management" in state["told"]


@pytest.mark.parametrize(
    "body",
    [
        {"songs": ["../../me"], "device": None},
        {"songs": [SONG, "../../me"], "device": None},
        {"songs": [SONG], "device": "x?y=1"},
        {"songs": [SONG], "device": ""},
        {"songs": [SONG], "device": ["phone1"]},
        {"songs": [[SONG]], "device": None},
        {"songs": SONG, "device": None},
        {"songs": [], "device": None},
        {},
    ],
)
def test_only_ids_of_spotifys_form_go_out(ann: Browser, spotify: FakeSpotify, body: dict[str, Any]) -> None:
    """Anything else is refused here."""
    assert ann.post("play", body).status_code == 400
    assert spotify.played == []


def test_without_spotify_the_site_goes_on(ann: Browser, camera: Camera, settings: Settings) -> None:
    """With nobody at Spotify's address, playing says so and the songs are served as before."""
    alone = ann.at(site(camera, replace(settings, api_base="http://127.0.0.1:9/v1")))
    told = alone.play()
    assert (told.status_code, "cannot be reached" in told.json["error"]) == (502, True)
    assert alone.client.get("/songs?emotion=happy").status_code == 200


# -- saving a mood


def test_a_mood_becomes_a_private_playlist(ann: Browser, spotify: FakeSpotify) -> None:
    """The list as it stands is in a new playlist, in its order, for nobody else to see."""
    saved = ann.post("save", {"emotion": "happy"}).json
    songs = [track.track_id for track in Catalog(ROOT / "songs").playlist("happy").tracks]  # type: ignore[arg-type]
    [playlist] = spotify.lists
    assert saved["url"] == f"https://open.spotify.com/playlist/{playlist}"
    assert saved["count"] == len(songs)
    assert [entry["item"]["id"] for entry in spotify.lists[playlist].entries if entry] == songs
    assert spotify.lists[playlist].name == saved["name"]
    [made] = [call for call in spotify.asked if (call.method, call.path) == ("POST", "/v1/me/playlists")]
    assert json.loads(made.body)["public"] is False


def test_what_lifts_a_mood_is_saved_as_it_is_shown(ann: Browser, spotify: FakeSpotify) -> None:
    """While a mood is lifted, the fifteen songs on the page are saved, not the mood's own list, and named so."""
    shown = ann.client.get("/songs?emotion=sad&lift=1", headers={"Accept": "application/json"}).json["tracks"]
    saved = ann.post("save", {"emotion": "sad", "lifted": True}).json
    [playlist] = spotify.lists.values()
    assert [entry["item"]["id"] for entry in playlist.entries if entry] == [track["track_id"] for track in shown]
    assert saved["count"] == 15
    assert saved["name"].startswith("Visage FM: from sad to happy, ")


def test_a_short_limit_leaves_no_half_playlist(
    ann: Browser, spotify: FakeSpotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second that Spotify asks for between two lots is waited; a minute is said, with how far it has come."""
    waits: list[float] = []
    clock = SimpleNamespace(time=time.time, sleep=waits.append)
    monkeypatch.setattr("songs.player.time", clock)
    spotify.fail("/items", error(429, "Slow down", Retry_After="1"))
    songs = Catalog(ROOT / "songs").playlist("sad").tracks  # type: ignore[arg-type]
    assert (ann.post("save", {"emotion": "sad"}).json["count"], waits) == (len(songs), [1])
    spotify.fail("/items", error(429, "Slow down", Retry_After="50"))
    assert "was made, but not filled" in ann.post("save", {"emotion": "sad"}).json["error"]
    assert waits == [1]


def test_a_song_that_is_gone_does_not_spoil_a_playlist(ann: Browser, spotify: FakeSpotify) -> None:
    """The others are saved, and the count says how many."""
    songs = [track.track_id for track in Catalog(ROOT / "songs").playlist("sad").tracks]  # type: ignore[arg-type]
    spotify.gone = {songs[3], songs[40]}
    assert ann.post("save", {"emotion": "sad"}).json["count"] == len(songs) - 2


def test_a_playlist_that_could_not_be_filled_is_said(ann: Browser, spotify: FakeSpotify) -> None:
    """When Spotify fails halfway the person hears that an empty playlist is there."""
    spotify.fail("/items", error(503, "Oh no"))
    told = ann.post("save", {"emotion": "sad"})
    assert told.status_code == 502
    assert "was made, but not filled" in told.json["error"]


def test_a_playlist_that_was_filled_in_part_is_said(
    ann: Browser, spotify: FakeSpotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When Spotify fails between two lots of songs the person hears how many are there."""
    monkeypatch.setattr("songs.spotify.ADD_AT_ONCE", 20)
    spotify.faults["/items"] = chain([None], repeat(error(503, "Oh no")))  # type: ignore[list-item]
    told = ann.post("save", {"emotion": "sad"}).json["error"]
    songs = len(Catalog(ROOT / "songs").playlist("sad").tracks)  # type: ignore[arg-type]
    assert f"was made, with 20 of its {songs} songs." in told


def test_a_mood_without_songs_makes_no_playlist(
    camera: Camera, settings: Settings, spotify: FakeSpotify, tmp_path: Path
) -> None:
    """An empty list is said, and nothing is made at Spotify."""
    services = Services(camera.recognizer, camera, Catalog(tmp_path), Listeners(settings))
    ann = Browser(create_app({"TESTING": True, "SERVER_NAME": HOST}, services).test_client())
    ann.log_in()
    told = ann.post("save", {"emotion": "sad"})
    assert (told.status_code, told.json["error"]) == (409, "There are no songs to save.")
    assert spotify.lists == {}


def test_only_a_mood_can_be_saved(ann: Browser, spotify: FakeSpotify) -> None:
    """Anything else is refused before Spotify is asked."""
    assert ann.post("save", {"emotion": "../happy"}).status_code == 400
    assert ann.post("save", {"emotion": ["happy"]}).status_code == 400
    assert spotify.lists == {}


@pytest.mark.skipif(not OPERATIONS.exists(), reason="shared/data/spotify/openapi-operations.json is not here")
def test_every_call_exists_and_is_not_deprecated(ann: Browser, spotify: FakeSpotify) -> None:
    """Whatever this asks of Spotify is in its OpenAPI document, and none of it on the way out."""
    ann.play()
    ann.post("pause")
    ann.post("resume")
    ann.client.get("/spotify/playing")
    ann.post("save", {"emotion": "happy"})
    known = json.loads(OPERATIONS.read_text())["operations"]
    for call in spotify.api_calls():
        path = call.path.removeprefix("/v1")
        found = [
            o for o in known if o["method"] == call.method and re.fullmatch(re.sub(r"{\w+}", r"[^/]+", o["path"]), path)
        ]
        assert found, path
        assert not found[0]["deprecated"]
    assert spotify.played
