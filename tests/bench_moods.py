"""How fast songs are labelled, in how much memory, and how fast they are found in a table.

`python -m tests.bench_moods` prints it.
"""

from __future__ import annotations

import argparse
import csv
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from model.emotions import EMOTIONS
from model.song_moods import FEATURES, LIMITS
from songs.catalog import Catalog
from songs.features import FeatureTable, Song

ROOT = Path(__file__).parent.parent


def write_table(path: Path, rows: int) -> None:
    """A table of made songs, with as many columns as published tables have."""
    draw = random.Random(7)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["track_id", "title", "artist", "album", "duration_ms", *FEATURES])
        for i in range(rows):
            features = [f"{draw.uniform(*LIMITS[name]):.6g}" for name in FEATURES]
            table.writerow([f"{i:022d}", f"Song {i}", f"Artist {i % 9973}", f"Album {i % 20011}", 200_000, *features])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    rows = parser.parse_args().rows
    lists = Catalog(ROOT / "songs")
    with tempfile.TemporaryDirectory() as folder:
        table, out = Path(folder, "songs.csv"), Path(folder, "labelled.csv")
        write_table(table, rows)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "model.song_moods", "label", str(table), "--out", str(out)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.process_time()
        FeatureTable(table).find(
            [Song(t.track_id, t.title, t.artist) for e in EMOTIONS for t in lists.playlist(e).tracks]
        )
        looked = time.process_time() - began
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    megabytes = after.ru_maxrss / 1024
    print(f"the songs of the lists looked for in a table of {rows:,}: {looked:.1f} s")
    print(f"{rows:,} songs in {seconds:.1f} s of one core: {rows / seconds:,.0f} songs/s, {megabytes:.0f} MB at most")


if __name__ == "__main__":
    main()
