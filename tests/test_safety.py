"""What holds for every request: other sites' posts over plain http, and how a refusal is said to a person."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.conftest import CHROMIUM, QUIET, eventually, parsed
from tests.fake_embed import FakeEmbed
from tests.test_site import running

NAVIGATION = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        (None, 204),
        ("http://localhost", 204),
        ("http://localhost:5001", 403),
        ("https://elsewhere.example", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
def test_where_a_browser_says_no_more_a_post_is_known_by_its_origin(
    client: FlaskClient, origin: str | None, code: int
) -> None:
    """Over plain http browsers send no Sec-Fetch-Site: then a POST counts by its Origin, and one without by nothing."""
    headers = {"Origin": origin} if origin else {}
    assert client.post("/pause", headers=headers).status_code == code
    assert client.get("/songs", headers=headers).status_code == 200
    said = headers | {"Sec-Fetch-Site": "same-origin"}
    assert client.post("/pause", headers=said).status_code == 204


@pytest.mark.browser
def test_forms_over_plain_http(browser: Any) -> None:
    """At a name that is no loopback name our own form is answered, and that of a page elsewhere is not."""
    with FakeEmbed().serving() as elsewhere, running(VISAGE_SOURCE="none", VISAGE_NAMES="visage.test") as site:
        rules = "--host-resolver-rules=MAP visage.test 127.0.0.1, MAP elsewhere.test 127.0.0.1"
        plain = browser.browser_type.launch(executable_path=CHROMIUM, args=[*QUIET, rules])
        page = plain.new_page()
        address = site.address.replace("127.0.0.1", "visage.test")
        page.goto(f"{address}/split")
        assert not page.evaluate("isSecureContext")
        page.locator("#pasted").fill("Nobody - Nothing")
        with page.expect_response("**/split") as sent:
            page.locator("button:not([name])").click()
        assert "sec-fetch-site" not in sent.value.request.all_headers()
        assert sent.value.status == 200
        page.goto(elsewhere.address.replace("127.0.0.1", "elsewhere.test"))
        form = f'<form method="post" action="{address}/split"><input name="songs" value="A - B"></form>'
        with page.expect_response("**/split") as sent:
            page.evaluate(f"document.body.innerHTML = '{form}'; document.forms[0].submit()")
        assert sent.value.status == 403
        plain.close()


def test_a_mistake_in_an_address_is_answered_with_a_page(client: FlaskClient) -> None:
    """Who opens it reads a sentence and finds back; a script, a picture and a program still get JSON."""
    answer = client.get("/songs?emotion=glad", headers=NAVIGATION)
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    page = parsed(answer.text)
    assert "No emotion 'glad': choose one of angry" in page.select_one("main").text  # type: ignore[union-attr]
    assert page.select_one("main a[href='/']")
    assert page.title
    assert "No emotion 'glad'" in page.title.text
    scripts = ({}, {"Accept": "*/*"}, {"Accept": "image/avif,image/*,*/*;q=0.8"}, {"Accept": "application/json"})
    for headers in (*scripts, {"Accept": "text/html", "Sec-Fetch-Mode": "cors"}):
        assert "glad" in client.get("/songs?emotion=glad", headers=headers).json["error"]


@pytest.mark.parametrize("path", ["/nowhere", "/recognize", "/spotify/login"])
def test_whatever_is_refused_leads_back(client: FlaskClient, path: str) -> None:
    """No address that a person opens ends in braces."""
    answer = client.get(path, headers=NAVIGATION)
    assert answer.status_code >= 400
    assert parsed(answer.text).select_one("main a[href='/']")


def test_a_name_that_is_not_the_sites_gets_a_page_too(client: FlaskClient) -> None:
    """The sentence says which setting names it."""
    answer = client.get("/", headers={"Host": "evil.example"} | NAVIGATION)
    assert answer.status_code == 400
    assert "VISAGE_NAMES" in parsed(answer.text).select_one("main").text  # type: ignore[union-attr]


def test_no_other_window_holds_on_to_a_page(client: FlaskClient) -> None:
    """A page that opened this one cannot go on steering it, and no other site learns the address from a link."""
    headers = client.get("/").headers
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "same-origin"


@pytest.mark.browser
def test_a_refusal_can_be_left(browser: Any) -> None:
    """Its link leads back to the songs."""
    with running(VISAGE_SOURCE="none") as site:
        page = browser.new_page()
        page.goto(f"{site.address}/?emotion=glad")
        assert page.locator("h2").inner_text() == "This did not work"
        page.locator("main a").click()
        assert eventually(lambda: page.locator("#songs .list").count() == 1)
        page.close()
