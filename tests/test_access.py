"""Who may see the site's own camera, and which names and pages it answers to."""

from __future__ import annotations

import socket

import pytest
from flask.testing import FlaskClient

from app import create_app
from camera import Camera
from songs.catalog import Catalog
from tests.conftest import ROOT, Source, parsed, stub_recognizer
from tests.test_app import one
from web.services import Services

# -- other sites


@pytest.mark.parametrize("where", ["cross-site", "same-site"])
def test_another_site_cannot_start_the_camera(client: FlaskClient, source: Source, where: str) -> None:
    """A page elsewhere, on another port too, that embeds the stream gets a 403; a link to the page works."""
    elsewhere = {"Sec-Fetch-Site": where}
    refused = client.get("/video_feed", headers=elsewhere)
    assert (refused.status_code, source.opened) == (403, 0)
    assert client.post("/pause", headers=elsewhere).status_code == 403
    assert client.get("/", headers=elsewhere).status_code == 200
    assert client.get("/nowhere", headers=elsewhere).status_code == 404  # an old link is told what it is


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
    monkeypatch.setattr("pictures.sources.devices", lambda: ["0"] if device else [])
    client = site(camera, SOURCE=source, HOST="127.0.0.1" if host == "127.0.0.1" else "0.0.0.0")
    page = parsed(client.get("/", headers={"Host": host}).text)
    assert one(page, "#watch")["data-way"] == way
    assert bool(page.select("a[href*='way=server']")) == (host == "127.0.0.1")


@pytest.mark.parametrize(
    ("host", "whose"),
    [
        ("localhost", "This computer"),
        ("[::1]", "This computer"),
        ("127.0.0.1:5000", "This computer"),
        ("visage.example:5000", "The site"),
    ],
)
def test_whose_camera_it_is(camera: Camera, host: str, whose: str) -> None:
    """With a port in the address or without; elsewhere for who has the token."""
    client = site(camera, HOST="127.0.0.1", NAMES="visage.example", SOURCE="fake", TOKEN=TOKEN)
    here = {"base_url": f"http://{host}"}
    client.get(f"/?token={TOKEN}", **here)
    assert one(parsed(client.get("/", **here).text), "#ways [data-way=server]").text.strip().startswith(whose)


def test_none_makes_no_camera() -> None:
    """The setting reaches the services."""
    services = create_app({"SOURCE": "none"}).extensions["visage"]
    assert services.camera is None
    services.close()


def test_a_machine_with_a_domain_answers_to_its_short_names(camera: Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    """A router or a company gives a machine a long name; people type the short one, or with .local."""
    monkeypatch.setattr("web.safety.socket.gethostname", lambda: "Annas-MBP.fritz.box")
    client = site(camera)
    names = ["annas-mbp.fritz.box", "annas-mbp", "annas-mbp.local:5000", "annas-mbp.evil.example", "fritz.box"]
    codes = [client.get("/healthz", headers={"Host": name}).status_code for name in names]
    assert codes == [200, 200, 200, 400, 400]


@pytest.mark.parametrize(
    ("config", "answered", "refused"),
    [
        ({}, ["192.168.1.20", "[fe80::1]:5000", "localhost", socket.gethostname()], ["evil.example", "1.2.3.4.evil"]),
        ({"NAMES": "Visage.example, b.example"}, ["visage.example", "b.example:81", "localhost"], ["192.168.1.20"]),
        ({"HOST": "127.0.0.1", "NAMES": "visage.example"}, ["visage.example", "127.0.0.1:5"], ["evil.example"]),
        ({"HOST": "127.0.0.1"}, ["localhost:5000", "[::1]:5000"], ["evil.example", "[::2]", "[", "192.168.1.20"]),
        ({"HOST": "::1"}, ["[::1]", "[::1]:5000"], ["[::2]:80"]),
    ],
    ids=["addresses", "names", "behind a proxy", "at home", "in IPv6"],
)
def test_the_names_that_a_site_answers_to(
    camera: Camera, config: dict[str, str], answered: list[str], refused: list[str]
) -> None:
    """Without VISAGE_NAMES: addresses and this machine's own name. With them: they, and the loopback names."""
    client = site(camera, **config)
    assert [client.get("/healthz", headers={"Host": host}).status_code for host in answered] == [200] * len(answered)
    told = [client.get("/healthz", headers={"Host": host}) for host in refused]
    assert [answer.status_code for answer in told] == [400] * len(refused)
    assert all("VISAGE_NAMES says which it goes by" in answer.text for answer in told)


def test_a_page_may_ask_for_the_visitors_camera_and_nothing_else(client: FlaskClient) -> None:
    """The policies let the page open a camera and show pictures of its own, and keep the rest shut."""
    headers = client.get("/").headers
    assert headers["Permissions-Policy"] == "camera=(self), microphone=(), geolocation=()"
    assert "img-src 'self' data: blob:; media-src 'self' blob:" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
