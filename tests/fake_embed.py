"""A stand-in for Spotify's player on the loopback address: it remembers what was asked, and plays when told to.

It speaks to the page as the real frame does: "ready" once, "playback_update" as things change, "error" for a song that
it cannot play; and it takes {command: ...}. Nothing sounds, and nothing happens by itself: a test moves the song on
with `at(position)`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SONG = 200_000  # milliseconds
PAGE = b"""<!doctype html><meta charset="utf-8"><title>A stand-in</title>
<style>body { margin: 0; color: #fff; background: #535353; font: 14px/80px sans-serif; text-indent: 1rem }</style>
<body>A stand-in for Spotify's player<script>
const commands = [];
const state = { isPaused: true, isBuffering: false, duration: 200000, position: 0 };
const post = (type, payload) => parent.postMessage({ type, payload }, "*");
function set(change) { Object.assign(state, change); post("playback_update", { ...state }); }
addEventListener("message", ({ data, source }) => {
  if (source !== parent) return;
  commands.push(data.command);
  if (["play", "toggle"].includes(data.command) && %s) return post("error", { recoverable: false });
  if (data.command === "play" && %s) set({ isBuffering: true });
  else if (data.command === "play" && !%s) set({ isPaused: false });
  if (data.command === "toggle") set({ isPaused: !state.isPaused });
  if (data.command === "pause") set({ isPaused: true });
});
post("ready");
</script>"""


class FakeEmbed:
    """What was asked of the stand-in. `down` answers nothing; `shy` waits for a click inside, as some browsers do.

    Of the songs in `broken` it plays none, and while it is `slow` it only loads.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False
        self.shy = False
        self.slow = False
        self.broken: set[str] = set()
        self.delay = 0.0  # seconds before each answer
        self.address = ""

    def songs(self) -> list[str]:
        """The songs it was asked for, in order."""
        return [path.removeprefix("/embed/track/") for path in self.asked]

    @contextmanager
    def serving(self) -> Iterator[FakeEmbed]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(embed: FakeEmbed) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            embed.asked.append(self.path)
            time.sleep(embed.delay)
            if embed.down:
                return
            broken = self.path.removeprefix("/embed/track/") in embed.broken
            content = PAGE % tuple(b"true" if true else b"false" for true in (broken, embed.slow, embed.shy))
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Handler
