"""How many visitors the site carries: `make bench-visitors`. Starts it as `make serve` does and prints a table.

Each visitor sends five pictures a second of its own face, keeps its connection and its cookie, and waits for an answer
before the next picture, as the page does; it does not slow down when it is refused, as the page would.
`--soak 10000` sends so many requests, good and bad, and prints the memory before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import cv2
import numpy as np
import psutil

from model.demo import LOOP_SECONDS, demo_frame
from pictures.drawing import encode_jpeg
from tests.bench import wait_for
from tests.conftest import ROOT, free_port

RATE = 5.0  # pictures a second of a visitor
CROWDS = (10, 20, 40, 60, 80, 120)
SOON = 150.0  # milliseconds in which 95 of 100 answers must come
WARM_UP, MEASURED = 2.0, 8.0  # seconds


def pictures(count: int = 60) -> list[bytes]:
    """A visitor's camera for some seconds: the demo's face at 320 x 240, as the page sends it."""
    frames = (demo_frame(LOOP_SECONDS * i / count) for i in range(count))
    return [encode_jpeg(cv2.resize(frame, (320, 240), interpolation=cv2.INTER_AREA)) for frame in frames]


@contextmanager
def site(**settings: str) -> Iterator[tuple[int, psutil.Process]]:
    """The site as `make serve` starts it: its port, and its first process."""
    with tempfile.TemporaryDirectory() as state:
        environment = {
            **os.environ,
            "XDG_STATE_HOME": state,
            "VISAGE_WORKERS": "0",
            "VISAGE_RATE": "0",  # all visitors here have one address
            "VISAGE_SOURCE": "none",
            **settings,
        }
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"]
        server = subprocess.Popen(command, cwd=ROOT, env={**environment, "VISAGE_PORT": str(port)})
        try:
            wait_for(f"http://127.0.0.1:{port}/healthz")
            time.sleep(2)  # for the other workers
            yield port, psutil.Process(server.pid)
        finally:
            server.terminate()
            server.wait(10)


# -- the visitors, in a process of their own -------------------------------------------------------


class Visitor:
    """A browser with a camera, by hand: one connection, one cookie, one picture at a time."""

    def __init__(self, port: int, faces: list[bytes], number: int) -> None:
        self.port, self.faces, self.number = port, faces, number
        self.cookie = b""
        self.answers: list[tuple[int, float, float]] = []  # code, when it was sent, milliseconds

    async def send(self, until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        due = time.monotonic() + random.random() / RATE
        picture = self.number * 7
        while due < until:
            await asyncio.sleep(due - time.monotonic())
            began = time.monotonic()
            writer.write(request(self.faces[picture % len(self.faces)], self.cookie))
            code, head = await answer(reader)
            self.answers.append((code, began, (time.monotonic() - began) * 1000))
            if given := re.search(rb"Set-Cookie: (visage_reading=[^;]*)", head):
                self.cookie = given[1]
            if b"Connection: close" in head:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            picture += 1
            while due < time.monotonic():
                due += 1 / RATE
        writer.close()


def request(body: bytes, cookie: bytes, kind: bytes = b"image/jpeg") -> bytes:
    head = (
        b"POST /recognize HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nContent-Length: %d\r\nCookie: %b\r\n\r\n"
    )
    return head % (kind, len(body), cookie) + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    await reader.readexactly(int(length[1]) if length else 0)
    return int(head[9:12]), head


def crowd(port: int, visitors: int, results: Connection) -> None:
    """So many visitors for a while; sends back what the measured part gave: codes and milliseconds."""

    async def all_of_them() -> list[tuple[int, float, float]]:
        start = time.monotonic()
        faces = pictures()
        people = [Visitor(port, faces, number) for number in range(visitors)]
        start = time.monotonic()
        await asyncio.gather(*(one.send(start + WARM_UP + MEASURED) for one in people))
        return [given for one in people for given in one.answers if given[1] > start + WARM_UP]

    cpu = time.process_time()
    given = asyncio.run(all_of_them())
    results.send(([(code, spent) for code, _, spent in given], time.process_time() - cpu))


# -- the tables ------------------------------------------------------------------------------------


def cpu_of(server: psutil.Process) -> float:
    return sum(sum(worker.cpu_times()[:2]) for worker in server.children())


def measured(port: int, server: psutil.Process, visitors: int) -> tuple[float, float]:
    """A row of the table; the 95th percentile of the answers in milliseconds, and the share of refusals."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=crowd, args=(port, visitors, there))
    process.start()
    spent, start = cpu_of(server), time.monotonic()
    given, _ = here.recv()
    process.join()
    used = (cpu_of(server) - spent) / (time.monotonic() - start)
    times = [milliseconds for code, milliseconds in given if code == 200]
    refused = sum(code == 429 for code, _ in given) / max(len(given), 1)
    other = {code for code, _ in given} - {200, 429}
    median, late = np.percentile(times, [50, 95]) if times else (float("nan"), float("inf"))
    print(
        f"| {visitors} | {len(times) / MEASURED:.0f} | {median:.0f} | {late:.0f} | {refused:.1%} | {used:.0%} |"
        + (f" also answered: {other}" if other else ""),
        flush=True,
    )
    return float(late), refused


def crowds(sizes: tuple[int, ...]) -> None:
    with site() as (port, server):
        print(f"{len(server.children())} workers; a visitor sends {RATE:g} pictures of 320 x 240 a second\n")
        print("| visitors | answers a second | ms, median | ms, p95 | refused (429) | CPU |\n|---|---|---|---|---|---|")
        rows = {visitors: measured(port, server, visitors) for visitors in sizes}
        carried = [visitors for visitors, (late, refused) in rows.items() if late < SOON and refused < 0.01]
        print(f"\nMost visitors with p95 under {SOON:g} ms and under 1 % refused: {max(carried, default=0)}")
        print("Memory a worker, MB: " + ", ".join(f"{megabytes(worker):.0f}" for worker in server.children()))


def megabytes(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss) / 2**20


def bad(chance: random.Random, good: bytes) -> tuple[bytes, bytes, bytes]:
    """A body, a content type and a cookie of which one at least is wrong."""
    cut = good[: chance.randrange(len(good))]
    broken = bytearray(good)
    for _ in range(20):
        broken[chance.randrange(len(broken))] = chance.randrange(256)
    bodies = [b"", cut, bytes(broken), chance.randbytes(2000), b"GIF89a" + cut, b"\x89PNG\r\n\x1a\n" + cut]
    kinds = [b"image/jpeg", b"image/png", b"text/plain", b"multipart/form-data; boundary=x"]
    return chance.choice(bodies), chance.choice(kinds), chance.choice([b"", b"visage_reading=forged"])


async def soaked(port: int, requests: int) -> dict[int, int]:
    """Good and bad requests in turn, a few at a time; how often each code was answered."""
    chance, codes, faces = random.Random(1), dict[int, int](), pictures()
    photo = encode_jpeg(cv2.resize(demo_frame(3.0), (2400, 1800)))

    async def one_of_several(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for i in range(count):
            body, kind, cookie = bad(chance, faces[i % len(faces)]) if i % 2 else (faces[i % 60], b"image/jpeg", b"")
            writer.write(request(photo if i % 100 == 0 else body, cookie, kind if i % 100 else b"image/jpeg"))
            code, head = await answer(reader)
            codes[code] = codes.get(code, 0) + 1
            if b"Connection: close" in head:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    await asyncio.gather(*(one_of_several(requests // 4) for _ in range(4)))
    return codes


def soak(requests: int) -> None:
    """Memory now and then: what was loaded at first use, and what the allocator keeps, is there before it counts."""
    codes: dict[int, int] = {}
    with site() as (port, server):
        asyncio.run(soaked(port, 3000))
        used = [[megabytes(worker) for worker in server.children()]]
        for _ in range(4):
            for code, count in asyncio.run(soaked(port, requests // 4)).items():
                codes[code] = codes.get(code, 0) + count
            used.append([megabytes(worker) for worker in server.children()])
    print(f"{requests} requests, half of them bad, answered: {json.dumps(dict(sorted(codes.items())))}")
    for worker in zip(*used, strict=True):
        print("memory of a worker, MB, before and after each quarter: " + ", ".join(f"{mb:.1f}" for mb in worker))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, nargs="+", default=CROWDS, help="how many at once, one after another")
    parser.add_argument("--soak", type=int, metavar="REQUESTS", help="measure memory over so many requests instead")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    if options.soak:
        soak(options.soak)
    else:
        crowds(tuple(options.visitors))


if __name__ == "__main__":
    main()
