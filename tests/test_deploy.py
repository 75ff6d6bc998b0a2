"""What stands in deploy/: a real nginx before two sites that are as two machines, and what goes into the image."""

from __future__ import annotations

import fnmatch
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import venv
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

from model.demo import demo_frame
from tests.conftest import ROOT, eventually, free_port, grey_frame
from tests.test_site import Site, running

DEPLOY = ROOT / "deploy"
NAME = "visage.example.org"
TOKEN = "open-sesame-1234"


@dataclass
class Front:
    """nginx before two sites."""

    port: int
    plain: int
    log: Path
    context: ssl.SSLContext

    def connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self.context)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        with closing(self.connection()) as line:
            return answer_of(line, method, path, body, headers)


def answer_of(
    line: http.client.HTTPConnection, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    line.request(method, path, body, {"Host": NAME, **named})
    response = line.getresponse()
    return response.status, dict(response.getheaders()), response.read()


def configuration(folder: Path, ports: dict[str, int], more: dict[str, str]) -> Path:
    """deploy/nginx.conf on other ports, with a certificate made for the test, and nothing outside `folder`."""
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    changes = {
        "127.0.0.1:5001": f"127.0.0.1:{ports['one']}",
        "127.0.0.1:5002": f"127.0.0.1:{ports['two']}",
        "listen 80;": f"listen 127.0.0.1:{ports['plain']};",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{ports['front']} ssl http2;",
        "/etc/visage-fm/tls": str(folder),
        "/var/log/nginx": str(folder),
        "    add_header Strict": "    add_header X-Upstream $upstream_addr always;\n    add_header Strict",
        **more,
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "visage.conf").write_text(text, encoding="utf-8")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    main = f"daemon off; pid {folder}/pid; error_log {folder}/error.log; user root; events {{}} http {{ {temporary} "
    if os.getuid():
        main = main.replace("user root;", "")
    whole = folder / "nginx.conf"
    whole.write_text(f"{main} include {folder}/visage.conf; }}", encoding="utf-8")
    return whole


@pytest.fixture(scope="module")
def nginx() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not found or not shutil.which("openssl"):
        pytest.skip("no nginx or openssl: apt install nginx-light openssl")
    return found


@contextmanager
def running_before(one: int, two: int, nginx: str, folder: Path, **changes: str) -> Iterator[Front]:
    """nginx, set up as in deploy/ but for `changes`, before what listens on these two ports."""
    request = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={NAME} -addext subjectAltName=DNS:{NAME}"
    command = ["openssl", *request.split(), "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    ports = {"one": one, "two": two, "front": free_port(), "plain": free_port()}
    command = [nginx, "-c", str(configuration(folder, ports, changes)), "-p", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            context = ssl.create_default_context(cafile=str(folder / "cert.pem"))
            context.check_hostname = False  # it is asked at its address, by its name
            made = Front(ports["front"], ports["plain"], folder / "visage.log", context)
            assert eventually(lambda: _is_up(made), 15), server.stderr.read() if server.poll() and server.stderr else ""
            yield made
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def sites() -> Iterator[list[Site]]:
    settings = {"VISAGE_SECRET_KEY": "k" * 40, "VISAGE_NAMES": NAME, "VISAGE_PROXIES": "1", "VISAGE_TOKEN": TOKEN}
    with ExitStack() as stack:
        yield [stack.enter_context(running(VISAGE_SOURCE="demo", **settings)) for _ in range(2)]


@pytest.fixture(scope="module")
def front(nginx: str, sites: list[Site], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with running_before(sites[0].port, sites[1].port, nginx, tmp_path_factory.mktemp("nginx")) as made:
        yield made


def _is_up(front: Front) -> bool:
    try:
        return front.ask("GET", "/healthz")[0] == 200
    except OSError:
        return False


FACE = bytes(cv2.imencode(".jpg", cv2.resize(demo_frame(3.0), (320, 240)))[1])
NOBODY = bytes(cv2.imencode(".jpg", grey_frame(size=(240, 320)))[1])
JPEG = {"Content_Type": "image/jpeg"}


def test_the_site_is_reached_by_its_name_over_https_alone(front: Front) -> None:
    """http leads to https; over it the page comes with its own headers and a promise of https for a year."""
    with closing(http.client.HTTPConnection("127.0.0.1", front.plain, timeout=10)) as line:
        status, headers, _ = answer_of(line, "GET", "/?emotion=sad", b"", {})
        assert (status, headers["Location"]) == (301, f"https://{NAME}/?emotion=sad")
    status, headers, body = front.ask("GET", "/")
    assert (status, b"chips" in body) == (200, True)
    assert headers["Strict-Transport-Security"]
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert front.ask("GET", "/", Host="evil.example")[0] == 400


def test_a_reading_goes_from_one_machine_to_the_other(front: Front, sites: list[Site]) -> None:
    """The two take turns; the cookie is for https, and each carries on what the other has begun."""
    status, headers, body = front.ask("POST", "/recognize", FACE, **JPEG)
    assert (status, json.loads(body)["reading"]["emotion"]) == (200, json.loads(body)["faces"][0]["emotion"])
    cookie = headers["Set-Cookie"]
    assert "Secure" in cookie
    machines, mood = {headers["X-Upstream"]}, json.loads(body)["reading"]["emotion"]
    for picture in (NOBODY, FACE, FACE) * 2:
        status, headers, body = front.ask("POST", "/recognize", picture, Cookie=cookie.partition(";")[0], **JPEG)
        cookie = headers["Set-Cookie"]
        machines.add(headers["X-Upstream"])
        assert (status, json.loads(body)["reading"]["emotion"]) == (200, mood)
    assert machines == {f"127.0.0.1:{site.port}" for site in sites}


@dataclass
class Visitor(threading.Thread):
    """Five pictures a second over one connection; a lost connection is opened again, as a browser does."""

    front: Front
    stop: threading.Event
    codes: list[int] = field(default_factory=list)
    readings: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        line, cookie = self.front.connection(), ""
        while not self.stop.wait(0.2):
            try:
                code, headers, body = answer_of(line, "POST", "/recognize", FACE, {**JPEG, "Cookie": cookie})
            except (OSError, http.client.HTTPException):
                line.close()
                line = self.front.connection()
                self.codes.append(0)
                continue
            cookie = headers.get("Set-Cookie", cookie).partition(";")[0]
            self.codes.append(code)
            self.readings.append(json.loads(body).get("reading"))
        line.close()


def test_a_killed_machine_costs_a_visitor_one_frame_at_most(front: Front, sites: list[Site]) -> None:
    """Under load one of the two is killed outright: every visitor goes on, with the mood it had."""
    stop = threading.Event()
    visitors = [Visitor(front, stop) for _ in range(4)]
    for visitor in visitors:
        visitor.start()
    time.sleep(1.5)
    os.killpg(sites[1].process.pid, signal.SIGKILL)
    time.sleep(3)
    stop.set()
    for visitor in visitors:
        visitor.join()
        assert len(visitor.codes) >= 10
        assert sum(code != 200 for code in visitor.codes) <= 1, visitor.codes
        assert all(visitor.readings)
    assert front.ask("GET", "/")[0] == 200


def test_what_pages_ask_all_the_time_is_not_logged(front: Front) -> None:
    """A line for each picture would fill a disk; a line for each page says who came."""

    def count(path: str) -> int:
        return front.log.read_text().count(f" {path} ")

    before = {path: count(path) for path in ("/recognize", "/state", "/songs")}
    for method, path in (("POST", "/recognize?still=1"), ("GET", "/state"), ("GET", "/songs?emotion=sad")):
        assert front.ask(method, path, FACE if method == "POST" else b"", **JPEG)[0] in (200, 403)
    assert eventually(lambda: count("/songs") > before["/songs"])
    assert (count("/recognize"), count("/state")) == (before["/recognize"], before["/state"])


def test_too_much_from_one_address_is_refused_in_words(front: Front) -> None:
    """Pictures: 429 with Retry-After; a photo of more than 15 MB: 413; in JSON, as the site would, and in the log."""
    with closing(front.connection()) as line:
        answers = [answer_of(line, "POST", "/recognize?still=1", b"x", JPEG) for _ in range(300)]
    refused = [(headers, body) for code, headers, body in answers if code == 429 and "X-Upstream" not in headers]
    assert refused
    assert refused[0][0]["Retry-After"] == "1"
    assert "try again" in json.loads(refused[0][1])["error"]
    status, _, body = front.ask("POST", "/photo", b"", Content_Length=str(16 * 2**20), **JPEG)
    assert (status, "15 MB" in json.loads(body)["error"]) == (413, True)
    lines = {" POST /recognize 429 ": len(refused), " POST /photo 413 ": 1}
    assert eventually(lambda: {line: front.log.read_text().count(line) for line in lines} == lines)


def test_the_camera_needs_the_token_and_comes_without_delay(front: Front) -> None:
    """Behind nginx the camera is off; with the token its pictures come as they are made; no log has the token."""
    assert front.ask("GET", "/state")[0] == 403
    with closing(http.client.HTTPConnection("127.0.0.1", front.plain, timeout=10)) as line:
        assert answer_of(line, "GET", f"/?token={TOKEN}", b"", {})[0] == 301
    status, headers, _ = front.ask("GET", f"/?token={TOKEN}")
    assert (status, "Secure" in headers["Set-Cookie"]) == (302, True)
    with closing(front.connection()) as line:
        line.request("GET", "/video_feed", headers={"Host": NAME, "Cookie": headers["Set-Cookie"].partition(";")[0]})
        stream = line.getresponse()
        assert stream.status == 200
        received = b""
        while received.count(b"Content-Length") < 5:
            received += stream.read(10_000)
    assert "GET / 301" in front.log.read_text()
    assert "/?" not in front.log.read_text()
    assert TOKEN not in front.log.read_text()


@pytest.fixture
def asked() -> list[str]:
    """What was asked of the stand-in, which hangs up on a POST instead of answering; but /split it answers late."""
    return []


@pytest.fixture
def stand_in(asked: list[str]) -> Iterator[int]:
    class Breaking(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/split":
                time.sleep(2)
                self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Breaking) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_only_a_picture_is_sent_twice(asked: list[str], stand_in: int, nginx: str, tmp_path: Path) -> None:
    """Of what breaks off, pictures go to the second machine; a playlist must not be saved again. /split may be slow."""
    changes = {"max_fails=1": "max_fails=0", "read_timeout 15s": "read_timeout 1s"}
    with running_before(stand_in, stand_in, nginx, tmp_path, **changes) as front:
        for path in ("/recognize", "/photo", "/spotify/save"):
            assert b"try again" in front.ask("POST", path, b"x")[2]
        assert front.ask("POST", "/split", b"x")[0] == 200
    assert Counter(asked) == {"/recognize": 2, "/photo": 2, "/spotify/save": 1, "/split": 1}


# -- the image


def copied() -> list[tuple[list[str], str]]:
    """What the Dockerfile copies, and where to."""
    lines = re.findall(r"^COPY (.+)$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    return [(line.split()[:-1], line.split()[-1]) for line in lines]


def test_the_image_has_all_that_the_site_needs(tmp_path: Path) -> None:
    """A folder with what the Dockerfile copies, without what its ignore list leaves out, starts and serves."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split("\n")
    left_out = [line.removeprefix("**/") for line in ignored if line and not line.startswith(("#", "!", "*"))]
    taken = {line[1:] for line in ignored if line.startswith("!")}
    for sources, target in copied():
        for source in sources:
            assert source in taken
            if (ROOT / source).is_dir():
                shutil.copytree(
                    ROOT / source,
                    tmp_path / target,
                    ignore=lambda folder, names: {
                        name
                        for name in names
                        if any(fnmatch.fnmatch(str((Path(folder) / name).relative_to(ROOT)), part) for part in left_out)
                        or name == "__pycache__"
                    },
                )
            else:
                shutil.copy(ROOT / source, tmp_path)
    assert not (tmp_path / "model/weights/emotion.keras").exists()
    port = free_port()
    settings = {"VISAGE_PORT": str(port), "VISAGE_SOURCE": "none", "VISAGE_WORKERS": "2"}
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"]
    with subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **settings}) as server:
        try:
            assert eventually(lambda: _finds_a_face(port), 30)
        finally:
            server.terminate()


def _finds_a_face(port: int) -> bool:
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as line:
            line.request("POST", "/recognize?still=1", FACE, {"Content-Type": "image/jpeg"})
            return len(json.loads(line.getresponse().read())["faces"]) == 1
    except OSError:
        return False


def test_the_image_has_no_tensorflow() -> None:
    """It installs what serves and nothing else, and runs as nobody in particular."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"-r (\S+)", text) == ["requirements-serve.txt"]
    assert "tensorflow" not in (ROOT / "requirements-serve.txt").read_text(encoding="utf-8").lower()
    assert re.search(r"^USER visage$", text, re.MULTILINE)


def test_compose_turns_the_ports_into_machines() -> None:
    """What compose does to nginx.conf names its own two services, and where it keeps no file for ever."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    (change,) = re.findall(r"sed '([^']+)'", text)
    done = subprocess.run(["sed", change, DEPLOY / "nginx.conf"], capture_output=True, text=True, check=True).stdout
    servers = re.findall(r"^    server (\S+) ", done, re.MULTILINE)
    assert servers == ["site-1:5000", "site-2:5000"]
    assert set(re.findall(r"access_log (\S+)", done)) == {"/dev/stdout", "off;"}
    assert set(re.findall(r"error_log (\S+)", done)) == {"/dev/stderr"}
    assert all(re.search(rf"^  {server.partition(':')[0]}:", text, re.MULTILINE) for server in servers)


def test_compose_mounts_the_lists_where_the_site_reads_them() -> None:
    """Not over the image's own code, of which songs/ is a part."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    (mounted,) = re.findall(r"- \.\./songs:([^:]+):ro", text)
    assert re.findall(r"VISAGE_SONGS: (\S+)", text) == [mounted]
    assert not Path(mounted).is_relative_to("/site")


# -- the Makefile


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with the Makefile and a virtual environment in which everything is said to be installed."""
    for file in ("Makefile", "requirements.txt", "requirements-serve.txt", "requirements-test.txt"):
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for stamp in ("serve", "test"):
        (tmp_path / ".venv" / stamp).touch()
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A make of its own, though these tests may run under one."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "VISAGE_"))}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("python", ["gone", "another"])
def test_a_virtual_environment_is_made_anew_for_another_python(elsewhere: Path, python: str) -> None:
    """After an upgrade of Python, which may leave none or one without its packages, they are installed again."""
    link = elsewhere / ".venv/bin/python"
    (elsewhere / ".venv/lib/python2.7/site-packages").mkdir(parents=True)
    if python == "another":
        link.write_text("#!/bin/sh\nexit 1\n")
        link.chmod(0o755)
    else:
        link.symlink_to("/no/such/python3")
    asked = make(elsewhere, "--dry-run", "run").stdout
    assert "-m venv .venv" in asked
    assert "-m pip install" in asked


def test_a_virtual_environment_that_works_stays(elsewhere: Path) -> None:
    """Nothing is installed again where nothing has changed, and what a person made without pip is not thrown away."""
    venv.create(elsewhere / ".venv", with_pip=False)
    (elsewhere / ".venv/mine").touch()
    asked = make(elsewhere, "--dry-run", "run").stdout
    assert asked.splitlines() == [".venv/bin/python app.py"]
    assert (elsewhere / ".venv/mine").exists()


@pytest.mark.parametrize(
    ("line", "seen"), [("", "0"), ("export VISAGE_WORKERS = 3", "as .env says"), ("# VISAGE_WORKERS=3", "0")]
)
def test_the_site_is_served_by_as_many_as_env_says(elsewhere: Path, line: str, seen: str) -> None:
    """`make serve` starts a process for each core, unless .env names another number."""
    (elsewhere / ".env").write_text(f"VISAGE_PORT=5001\n{line}\n")
    python = elsewhere / ".venv/bin/python"
    python.write_text('#!/bin/sh\n[ "$2" != gunicorn ] || echo "${VISAGE_WORKERS-as .env says}"\n')
    python.chmod(0o755)
    done = make(elsewhere, "--silent", "serve")
    assert (done.stdout, done.stderr) == (f"{seen}\n", "")


def test_a_python_of_another_version_is_named(elsewhere: Path) -> None:
    """Neither an older nor a newer one than the packages are there for ends in pip's words."""
    shutil.rmtree(elsewhere / ".venv")
    done = make(elsewhere, "PYTHON=false", "run")
    assert done.returncode != 0
    assert "needs Python 3.11 to 3.14" in done.stdout
