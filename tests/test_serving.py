"""How gunicorn is set up: with what a machine has, and for when there is none of it left."""

from __future__ import annotations

import io
import math
import mimetypes
import os
import resource
import runpy
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from tests.conftest import ROOT, Source, eventually
from tests.test_site import answers, running


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    """How many files may be open, as before in the end."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def configuration() -> dict[str, Any]:
    """gunicorn.conf.py, read."""
    return runpy.run_path(str(ROOT / "gunicorn.conf.py"))


def test_more_connections_than_files_end_no_worker() -> None:
    """Those for whom no file is left wait; once others have gone the same worker answers."""
    with running(VISAGE_SOURCE="none") as site:
        (worker,) = psutil.Process(site.process.pid).children()
        files = worker.num_fds()
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (files + 40, files + 40))
        with ExitStack() as connections:
            for _ in range(80):
                connections.enter_context(socket.socket()).connect(("127.0.0.1", site.port))
            assert eventually(lambda: worker.num_fds() >= files + 39)
            assert not eventually(lambda: not worker.is_running(), 1)
        assert eventually(lambda: answers(site), 20)
        assert psutil.Process(site.process.pid).children() == [worker]


def test_a_low_limit_of_files_is_raised_and_heeded(limits: tuple[int, int]) -> None:
    """A shell's or macOS' limit would be used up by some dozens of browsers; fewer are let in where it cannot rise."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    made = configuration()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(1024, limits[1])
    assert made["worker_connections"] < min(1024, limits[1]) - made["threads"]


@pytest.mark.parametrize(("said", "cores"), [("200000 100000", 2), ("150000 100000", 2), ("max 100000", math.inf)])
def test_a_container_s_share_of_the_cores_counts(said: str, cores: float) -> None:
    """A container sees all cores of its machine, and may use some; of very many no more than there may be workers."""
    of_all = configuration()["_cores"]
    of_all.__globals__["open"] = lambda path: io.StringIO(said)
    for seen in (1, 8, 200):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "sched_getaffinity", lambda of, seen=seen: set(range(seen)))
            assert of_all() == min(seen, cores, 64)


def test_asking_whether_the_stream_is_there_opens_no_camera(client: FlaskClient, source: Source) -> None:
    """HEAD, as link checkers send, has the stream's headers; the light stays off."""
    answer = client.head("/video_feed")
    assert (answer.status_code, answer.mimetype) == (200, "multipart/x-mixed-replace")
    assert not eventually(lambda: source.opened, 0.3)


def test_scripts_are_scripts_whatever_the_system_calls_them(app: Flask) -> None:
    """Windows' registry may say text/plain, and no browser runs a module of that kind."""
    mimetypes.add_type("text/plain", ".js")
    made = create_app({"TESTING": True}, app.extensions["visage"])
    with made.test_client().get("/static/page.js") as script:
        assert script.mimetype == "text/javascript"
