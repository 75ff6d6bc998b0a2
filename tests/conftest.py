"""Fakes at the edges only: frames are arrays, predictions are fixed; threads, JPEG, HTTP and CSV are real."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup
from flask import Flask
from flask.testing import FlaskClient
from tqdm import tqdm

from app import create_app
from camera import Camera
from model.emotions import EMOTIONS, Emotion
from model.faces import Box, Frame
from model.recognizer import Recognizer
from songs.catalog import Catalog
from songs.dotenv import dotenv_values
from web.services import Services
from web.settings import PREFIX, SETTINGS

ROOT = Path(__file__).parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

DEFAULTS = {f"{PREFIX}{setting.name}": str(setting.default) for setting in SETTINGS}

# What a person has set for their own site is not what the tests, and the sites that they start, are to find.
for _name in [name for name in os.environ if name.startswith((PREFIX, "SPOTI"))]:
    del os.environ[_name]
os.environ.update({name: DEFAULTS.get(name, "") for name in dotenv_values(ROOT / ".env") if name})
os.environ.update(dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"))  # of the tests' own servers
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before TensorFlow is loaded: what is trained here fits a processor


def row_of(emotion: Emotion, share: float = 0.9) -> list[float]:
    """Probabilities that are sure of one emotion."""
    rest = (1 - share) / (len(EMOTIONS) - 1)
    return [share if e == emotion else rest for e in EMOTIONS]


def free_port() -> int:
    """A port that is free, and none of those that the system gives to whoever asks for any."""
    chance = random.SystemRandom()  # trainings seed the other one
    while True:
        port = chance.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def command(module: ModuleType, *arguments: object) -> None:
    """A command in this process, since each new one loads TensorFlow anew; what that warns of is not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.main([str(argument) for argument in arguments])


def track_id(n: int) -> str:
    """What looks like a Spotify id, another one for each number."""
    return f"{n:022d}"


def parsed(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def grey_frame(level: int = 90, size: tuple[int, int] = (480, 640)) -> Frame:
    return np.full((*size, 3), level, np.uint8)


class FixedDetector:
    """Finds the same boxes in every frame; tests change `boxes`."""

    def __init__(self, *boxes: Box) -> None:
        self.boxes = list(boxes)

    def detect(self, frame: Frame, near: Sequence[Box] = ()) -> list[Box]:
        return list(self.boxes)


class FixedClassifier:
    """Reads the same emotion on every face; tests change `emotion`."""

    def __init__(self, emotion: Emotion = Emotion.HAPPY) -> None:
        self.emotion = emotion

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        return np.array([row_of(self.emotion)] * len(faces))


class StubRecognizer(Recognizer):
    """A recognizer whose detector is fixed for videos too."""

    def for_video(self) -> Recognizer:
        return self


def stub_recognizer(*boxes: Box, emotion: Emotion = Emotion.HAPPY) -> StubRecognizer:
    return StubRecognizer(FixedDetector(*(boxes or (Box(200, 120, 160, 160),))), FixedClassifier(emotion))


class Source:
    """A source of frames that counts how often it is open, and fails or ends on demand."""

    def __init__(self, rate: float = 60) -> None:
        self.rate, self.open, self.opened = rate, 0, 0
        self.fail: Exception | None = None
        self.end = False

    def __call__(self, source: str) -> Iterator[Frame]:
        self.opened += 1
        self.open += 1
        try:
            while not self.end:
                if self.fail:
                    raise self.fail
                yield grey_frame(int(time.monotonic() * 50) % 200)
                time.sleep(1 / self.rate)
        finally:
            self.open -= 1


def eventually(true: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether something becomes true before the time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.01)
    return bool(true())


@pytest.fixture(autouse=True, scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The sites that tests start keep their signing key here, not in the home of who tests."""
    home = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home))
        yield home


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def camera(source: Source) -> Iterator[Camera]:
    """A camera on a fake source with one face; closed in the end."""
    made = Camera("fake", stub_recognizer(), idle_seconds=0.3, max_viewers=4, open_frames=source)
    yield made
    made.close()


@pytest.fixture
def app(camera: Camera) -> Flask:
    services = Services(camera.recognizer, camera, Catalog(ROOT / "songs"))
    return create_app({"TESTING": True}, services)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def launch_chromium(playwright: Any, *arguments: str) -> Any:
    """A Chromium that asks for nothing of its own; skips the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt install chromium")
    return playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *arguments])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = launch_chromium(playwright)
        yield launched
        launched.close()


@pytest.fixture(autouse=True, scope="session")
def processes_hear_signals() -> None:
    """Under nohup or in the background signals are ignored here, which children would inherit; handlers they do not."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(autouse=True, scope="session")
def _no_monitor() -> Iterator[None]:
    """Progress bars start a thread that never ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tqdm, "monitor_interval", 0)
        yield


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every test ends with the threads it began with."""
    before = set(threading.enumerate())
    yield
    assert eventually(lambda: not (set(threading.enumerate()) - before)), threading.enumerate()
