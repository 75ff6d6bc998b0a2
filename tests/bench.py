"""What it costs: `make bench` (or `make bench ARGS=clip.mp4`). Prints the table that the README shows.

These figures depend on the machine and on what else it does; the ratios travel better.
"""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import psutil

from model.demo import LOOP_SECONDS, demo_frame
from model.detector import NetworkDetector
from model.emotions import Smoothing
from model.faces import Frame, crop_faces
from model.recognizer import LiteRTClassifier, load_recognizer
from pictures.drawing import annotate, encode_jpeg
from pictures.following import Follower
from pictures.sources import frames
from tests.conftest import ROOT, free_port

FRAMES = 300


def milliseconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return (time.perf_counter() - start) * 1000


def row(name: str, spent: list[float]) -> None:
    print(f"| {name} | {np.median(spent):.2f} | {np.percentile(spent, 95):.2f} |")


def film(clip: str | None) -> list[Frame]:
    """FRAMES frames of the clip, or of the demo over its whole loop."""
    if clip:
        return list(itertools.islice(frames(clip), FRAMES))
    return [demo_frame(LOOP_SECONDS * i / FRAMES) for i in range(FRAMES)]


def stages(pictures: list[Frame]) -> None:
    """Each step of a frame, on one thread."""
    cv2.setNumThreads(1)
    recognizer, detector = load_recognizer().for_video(), NetworkDetector()
    classify, follower = LiteRTClassifier(), Follower(Smoothing())
    spent: dict[str, list[float]] = {
        name: [] for name in ("find, whole frame", "find, following", "read one face", "annotate", "encode")
    }
    for i, frame in enumerate(pictures):
        if i % 5 == 0:
            spent["find, whole frame"].append(milliseconds(lambda frame=frame: detector.detect(frame)))
        spent["find, following"].append(milliseconds(lambda frame=frame: recognizer.detector.detect(frame)))
        faces = recognizer.recognize(frame)
        if faces:
            crop = crop_faces(frame, [faces[0].box])
            spent["read one face"].append(milliseconds(lambda crop=crop: classify(crop)))
        follower.follow(faces, i / 30)
        spent["annotate"].append(milliseconds(lambda frame=frame: annotate(frame, follower.faces)))
        spent["encode"].append(milliseconds(lambda frame=frame: encode_jpeg(frame)))
    print("| a frame, one core | ms, median | ms, p95 |\n|---|---|---|")
    for name, times in spent.items():
        row(name, times)


def steadiness(clip: str | None) -> None:
    """Switches a minute of the label shown against the raw label, as a poor webcam in a dim room sees it."""
    noise = np.random.default_rng(1)
    recognizer, follower = load_recognizer().for_video(), Follower(Smoothing())
    raw, shown, songs = [], [], []
    source = itertools.islice(frames(clip), 600) if clip else (demo_frame(i / 10) for i in range(600))
    for i, frame in enumerate(source):
        grain = noise.normal(0, 10, (frame.shape[0] // 4, frame.shape[1] // 4))
        grain = cv2.resize(grain, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
        faces = recognizer.recognize((0.4 * frame + grain).clip(0, 255).astype(np.uint8))
        follower.follow(faces, i / 10)
        if faces and follower.reading:
            raw.append(faces[0].prediction.emotion)
            shown.append(follower.reading.emotion)
            songs.append(follower.reading.songs)
    minutes = len(raw) / 600
    counts = [sum(a != b for a, b in itertools.pairwise(labels)) / minutes for labels in (raw, shown, songs)]
    print(
        f"\nSwitches a minute, {'the clip' if clip else 'the demo (seven moods a minute)'}, dim and grainy: "
        f"raw label {counts[0]:.0f}, mood shown {counts[1]:.0f}, song table {counts[2]:.0f}"
    )


def against_predict(pictures: list[Frame]) -> None:
    """The same face through Keras' model.predict, the way older projects call it each frame."""
    import keras

    network = keras.models.load_model(ROOT / "model/weights/emotion.keras", compile=False)
    classify = LiteRTClassifier()
    box = NetworkDetector().detect(pictures[30])[0]
    crop = crop_faces(pictures[30], [box])
    network.predict(crop, verbose=0)
    old = [milliseconds(lambda: network.predict(crop, verbose=0)) for _ in range(30)]
    new = [milliseconds(lambda: classify(crop)) for _ in range(300)]
    ratio = np.median(old) / np.median(new)
    print(f"\nThe same face through Keras `model.predict`: {np.median(old):.0f} ms, {ratio:.0f} times ours right after")


# -- the whole site ------------------------------------------------------------------------------


@contextmanager
def site(source: str) -> Iterator[tuple[str, psutil.Process, float]]:
    """The site as `make serve` runs it: its address, its worker process, and when it was started."""
    port = free_port()
    started = time.monotonic()
    environment = {**os.environ, "VISAGE_SOURCE": source, "VISAGE_PORT": str(port), "VISAGE_VIEWERS": "40"}
    server = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address + "/healthz")
        yield address, psutil.Process(server.pid).children()[0], started
    finally:
        server.terminate()
        server.wait(10)


def wait_for(address: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError):
            urllib.request.urlopen(address, timeout=2).read()
            return
        time.sleep(0.02)
    raise SystemExit(f"{address} did not answer")


class Watcher(threading.Thread):
    """A viewer that counts pictures; its first ones are not counted."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.address, self.pictures, self.done = address, 0, False

    def run(self) -> None:
        with urllib.request.urlopen(self.address + "/video_feed", timeout=10) as stream:
            while not self.done:
                if b"Content-Length" in stream.readline():
                    self.pictures += 1


def watched(address: str, worker: psutil.Process, viewers: int, seconds: float = 8.0) -> None:
    """CPU of the worker, and pictures a second a viewer, with so many viewers."""
    watchers = [Watcher(address) for _ in range(viewers)]
    for watcher in watchers:
        watcher.start()
    time.sleep(3)
    before, cpu, start = [w.pictures for w in watchers], sum(worker.cpu_times()[:2]), time.monotonic()
    time.sleep(seconds)
    spent, elapsed = sum(worker.cpu_times()[:2]) - cpu, time.monotonic() - start
    rates = [(w.pictures - b) / elapsed for w, b in zip(watchers, before, strict=True)]
    megabytes = worker.memory_info().rss / 2**20
    for watcher in watchers:
        watcher.done = True
    print(f"| {viewers} | {np.mean(rates):.1f} | {min(rates):.1f} | {spent / elapsed:.0%} | {megabytes:.0f} |")


def first_reading(address: str, started: float) -> None:
    """From the start of the process to the first answer, and to the first mood in it."""
    import json

    answered = time.monotonic() - started
    watcher = Watcher(address)
    watcher.start()
    asked = time.monotonic()
    while not json.load(urllib.request.urlopen(address + "/state", timeout=5))["reading"]:
        time.sleep(0.02)
    read = time.monotonic() - asked
    watcher.done = True
    print(
        f"\nFrom start to first answer {answered:.2f} s; from the first viewer to the first reading {read:.2f} s; "
        f"together {answered + read:.2f} s"
    )


def delay(source: str) -> None:
    """From a frame's capture to its bytes being handed to the viewer."""
    from camera import Camera

    camera, waited = Camera(source, load_recognizer()), []
    with camera.watch() as viewer:
        for snapshot in itertools.islice((s for s in viewer if s.status == "live"), 200):
            waited.append((time.monotonic() - snapshot.taken_at) * 1000)
    camera.close()
    median, late = np.median(waited[20:]), np.percentile(waited[20:], 95)
    print(f"\nFrom capture to send: {median:.1f} ms (median), {late:.1f} ms (p95)")


def main() -> None:
    clip = sys.argv[1] if len(sys.argv) > 1 else None
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    pictures = film(clip)
    stages(pictures)
    steadiness(clip)
    delay(clip or "demo")
    with site(clip or "demo") as (address, worker, started):
        first_reading(address, started)
        print("\n| viewers | frames a second | slowest viewer | CPU of one core | memory, MB |\n|---|---|---|---|---|")
        for viewers in (1, 8, 32):
            watched(address, worker, viewers)
    against_predict(pictures)


if __name__ == "__main__":
    main()
