"""How many requests a refresh takes. `python -m tests.bench_sync` prints them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from model.emotions import EMOTIONS
from tests.fake_spotify import FakeSpotify, song

ROOT = Path(__file__).parent.parent
SONGS_A_LIST = 100


def counted_requests(folder: Path) -> tuple[int, int]:
    """Requests, the renewal of the token included: of a first refresh of seven lists, and of one without changes."""
    spotify = FakeSpotify()
    lists = {
        e: [spotify.add(n, f"My {e} songs", [song(SONGS_A_LIST * n + k) for k in range(SONGS_A_LIST)])]
        for n, e in enumerate(EMOTIONS)
    }
    folder.joinpath("playlists.json").write_text(json.dumps(lists))
    with spotify.serving() as base:
        first = _refreshed(folder, base, spotify)
        return first, _refreshed(folder, base, spotify)


def _refreshed(folder: Path, base: str, spotify: FakeSpotify) -> int:
    """Requests of one refresh, with a token whose hour is over."""
    cache = folder / "token.json"
    refresh_token = next(iter(spotify.refresh_tokens))
    cache.write_text(json.dumps(spotify.token(expires_in=-1, refresh_token=refresh_token)))
    spotify.asked.clear()
    subprocess.run(
        [sys.executable, str(ROOT / "spotify_sync.py")],
        env=os.environ
        | {
            "SPOTIPY_CLIENT_ID": "app",
            "SPOTIPY_CLIENT_SECRET": "",
            "SPOTIFY_API_BASE": f"{base}/v1",
            "SPOTIFY_ACCOUNTS_BASE": base,
            "VISAGE_TOKEN_CACHE": str(cache),
            "VISAGE_SONGS": str(folder),
            "NO_PROXY": "127.0.0.1",
        },
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return len(spotify.asked)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, unchanged = counted_requests(Path(folder))
    print(f"seven lists of {SONGS_A_LIST} songs: {first} requests the first time, {unchanged} when nothing has changed")


if __name__ == "__main__":
    main()
