"""Train the networks that hear a song's mood: `python -m model.train_song_moods --audio A.csv --lyrics L.npz`.

Writes weights/song_moods.npz and song_moods.json (labels, settings, data, figures), both or none, and prints
the tables of docs/song-moods.md; `--show` prints those of the shipped file and trains nothing.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import logging
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize  # type: ignore[import-untyped]  # it has no type hints
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

from model.figures import fitted_temperature
from model.song_moods import (
    FEATURES,
    WEIGHTS,
    AudioMoods,
    LyricsMoods,
    Mood,
    SongMoodsError,
    fault_of,
    load_card,
    load_song_moods,
    shaped,
    softmax,
)

logger = logging.getLogger(__name__)

AUDIO_LABELS = (Mood.ANGRY, Mood.CALM, Mood.FEAR, Mood.HAPPY, Mood.SAD)
SOURCES = ("etunes", "data_moods")  # of songs with audio features
AUDIO_COLUMNS = ("track_id", "artist", "source", "label_orig")
LYRICS_LABELS = (Mood.ANGRY, Mood.HAPPY, Mood.RELAXED, Mood.SAD)
SAME = {"energetic": Mood.ANGRY}
"""Five of the seven songs, found by id, that etunes calls angry and data_moods has too are energetic there."""
LEXICON = "moodylyrics"  # the source whose labels are counted words, not what people said
INSTRUMENTAL = (5, 6)  # the inputs made of instrumentalness
NEVER = -1e9  # the logit of a mood that a source has no word for


@dataclass(frozen=True)
class Settings:
    """What was chosen by looking at songs of a source that the network had not seen."""

    audio_ridge: float = 10.0
    instrumental_ridge: float = 100.0  # "calm" of one source is always without a voice; elsewhere it need not be
    audio_balance: float = 1.0  # 0: songs weigh the same, 1: moods do
    lyrics_ridge: float = 1.0
    lyrics_balance: float = 1.0
    source_balance: float = 1.0  # of lyrics; 0: songs weigh the same, 1: sources do
    lexicon_weight: float = 0.3
    folds: int = 5
    seed: int = 7


@dataclass(frozen=True)
class Songs:
    """Songs to learn from: `inputs` (n, k), `labels` (n,) as indices, `names` the labels as their source has them."""

    inputs: Any
    labels: np.ndarray
    names: np.ndarray
    sources: np.ndarray
    artists: np.ndarray
    ids: np.ndarray
    moods: tuple[Mood, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: np.ndarray) -> Songs:
        """Some of the songs."""
        columns = ("inputs", "labels", "names", "sources", "artists", "ids")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def of(self, *sources: str) -> np.ndarray:
        """The rows of some sources, as indices."""
        return np.flatnonzero(np.isin(self.sources, sources))

    def others(self, rows: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        """The rows (of `among`) that share neither song nor artist with `rows`: what may be trained on."""
        known = np.isin(self.ids, self.ids[rows]) | np.isin(self.artists, self.artists[rows])
        rest = np.setdiff1d(np.flatnonzero(~known), rows)
        return rest if among is None else np.intersect1d(rest, among)

    @property
    def allowed(self) -> np.ndarray:
        """Which moods a song could have been given (n, moods): those that its source has."""
        allowed = np.zeros((len(self), len(self.moods)), bool)
        for source in np.unique(self.sources):
            rows = self.sources == source
            allowed[np.ix_(rows, np.unique(self.labels[rows]))] = True
        return allowed


def load_audio(path: Path) -> Songs:
    """The songs of audio_moods.csv with their features (n, 9). Songs without a named artist are each one's own.

    Raises SongMoodsError, naming the row that is broken.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            rows, columns = list(table), table.fieldnames or ()
    except csv.Error as error:
        raise SongMoodsError(f"{path} is no table ({error}): mend it, or download it again") from error
    if missing := [name for name in (*AUDIO_COLUMNS, *FEATURES) if name not in columns]:
        raise SongMoodsError(f"{path} has no column {', '.join(missing)}")
    for number, row in enumerate(rows, 2):
        if None in row.values():
            raise SongMoodsError(f"{path}: row {number} is cut off: mend it, or download the table again")
        if fault := next((fault for name in FEATURES if (fault := fault_of(name, row[name]))), None):
            raise SongMoodsError(f"{path}: row {number}: {fault}")
    known = {row["source"] for row in rows}
    for source in SOURCES:
        if source not in known:
            raise SongMoodsError(f"{path} has no songs whose source is {source}: the figures are by these two sources")
    values = np.array([[float(row[name]) for name in FEATURES] for row in rows])
    names = np.array([row["label_orig"] for row in rows])
    labels = np.array([AUDIO_LABELS.index(SAME.get(name, Mood(name))) for name in names])
    ids = np.array([row["track_id"] for row in rows])
    artists = np.array([row["artist"].casefold() or row["track_id"] for row in rows])
    return Songs(values, labels, names, np.array([row["source"] for row in rows]), artists, ids, AUDIO_LABELS)


def load_lyrics(path: Path) -> tuple[Songs, list[str], np.ndarray]:
    """The songs of lyrics_bow.npz as weighted words (n, 5000), the vocabulary, and the rarity of its words."""
    try:
        with path.open("rb") as file, np.load(file) as table:
            counts = csr_matrix((table["data"].astype(float), table["indices"], table["indptr"]), shape=table["shape"])
            columns = (table[name].astype(str) for name in ("label", "source", "artist", "title"))
            names, sources, artists, titles = columns
            vocabulary = [str(word) for word in table["vocab"]]
    except (EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SongMoodsError(f"{path} cannot be read to its end ({error}): mend it, or download it again") from error
    artists = np.char.lower(artists)
    ids = np.array([f"{artist}|{title.casefold()}" for artist, title in zip(artists, titles, strict=True)])
    rarity = np.log((1 + len(names)) / (1 + np.bincount(counts.indices, minlength=len(vocabulary)))) + 1
    labels = np.array([LYRICS_LABELS.index(Mood(name)) for name in names])
    return Songs(weighted(counts, rarity), labels, names, sources, artists, ids, LYRICS_LABELS), vocabulary, rarity


def weighted(counts: Any, rarity: np.ndarray) -> Any:
    """Counts of words (n, words), each song's damped, weighed by rarity and brought to length one."""
    counts = counts.copy()
    counts.data = (1 + np.log(counts.data)) * rarity[counts.indices]
    lengths = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1))).ravel()
    return csr_matrix(counts.multiply(1 / np.maximum(lengths, 1e-12)[:, None]))


def balanced(songs: Songs, moods: float, sources: float, lexicon: float = 1.0) -> np.ndarray:
    """The weight of each song, one on average: how far moods and sources count the same is 0 to 1 for each."""
    weights = np.ones(len(songs))
    for source in np.unique(songs.sources):
        rows = songs.sources == source
        share = 1 / np.bincount(songs.labels[rows])[songs.labels[rows]] ** moods
        weights[rows] = share / share.sum() * rows.sum() ** (1 - sources) * (lexicon if source == LEXICON else 1)
    return weights * len(songs) / weights.sum()


def fit(songs: Songs, weights: np.ndarray, ridge: np.ndarray, masked: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The linear layer (k, moods) and bias with the least loss; `ridge` (k,) holds each input's weights back.

    With `masked` a song is an example among the moods that its source has: a source without "relaxed" then says
    nothing against it.
    """
    inputs, n, k = songs.inputs, len(songs), len(songs.moods)
    never = np.where(songs.allowed, 0, NEVER) if masked else np.zeros(k)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        layer, bias = flat[:-k].reshape(-1, k), flat[-k:]
        shares = softmax(inputs @ layer + bias + never)
        missed = -(weights * np.log(shares[np.arange(n), songs.labels] + 1e-12)).sum()
        shares[np.arange(n), songs.labels] -= 1
        shares *= weights[:, None]
        slope = inputs.T @ shares + ridge[:, None] * layer
        return missed + 0.5 * (ridge[:, None] * layer**2).sum(), np.r_[slope.ravel(), shares.sum(axis=0)]

    start = np.zeros((inputs.shape[1] + 1) * k)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return found[:-k].reshape(-1, k), found[-k:]


def audio_network(songs: Songs, settings: Settings, ridge: float | None = None) -> AudioMoods:
    """The audio network of some songs with features (n, 9); `ridge` in place of both of the settings'."""
    inputs = shaped(songs.inputs)
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0)
    ridges = np.full(inputs.shape[1], ridge or settings.audio_ridge)
    if ridge is None:
        ridges[list(INSTRUMENTAL)] = settings.instrumental_ridge
    scaled = replace(songs, inputs=(inputs - mean) / scale)
    layer, bias = fit(scaled, balanced(songs, settings.audio_balance, 1.0), ridges)
    layer = layer / scale[:, None]
    return AudioMoods(songs.moods, layer, bias - mean @ layer)


def lyrics_layer(songs: Songs, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """The lyrics network's layer and bias."""
    weights = balanced(songs, settings.lyrics_balance, settings.source_balance, settings.lexicon_weight)
    return fit(songs, weights, np.full(songs.inputs.shape[1], settings.lyrics_ridge), masked=True)


def save(folder: Path, arrays: dict[str, np.ndarray], card: dict[str, Any]) -> None:
    """Both files, or none: they are made beside, read back, and moved."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # its stub takes no dictionary of arrays
    card = {**card, "sha256": hashlib.sha256(content.getvalue()).hexdigest()}
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        made = Path(beside)
        (made / "song_moods.npz").write_bytes(content.getvalue())
        (made / "song_moods.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        load_song_moods(made)
        for name in ("song_moods.npz", "song_moods.json"):
            (made / name).replace(folder / name)


def arrays_of(audio: AudioMoods, lyrics: LyricsMoods) -> dict[str, np.ndarray]:
    """What the shipped file holds; the lyrics in half precision, which moves no probability by 0.01."""
    vocabulary = sorted(lyrics.places, key=lyrics.places.__getitem__)
    return {
        "audio_weights": audio.weights,
        "audio_bias": audio.bias,
        "lyrics_weights": lyrics.weights.astype(np.float16),
        "lyrics_bias": lyrics.bias,
        "lyrics_rarity": lyrics.rarity.astype(np.float16),
        "vocabulary": np.frombuffer("\n".join(vocabulary).encode(), np.uint8),
    }


def train(audio_table: Path, lyrics_table: Path, out: Path, settings: Settings) -> dict[str, Any]:
    """Measure, train on everything, and write; the card as written."""
    from model.song_figures import across_audio, across_lyrics, audio_figures, lyrics_figures

    if not out.is_dir():
        raise SongMoodsError(f"there is no folder {out}: make it first, or give another --out")
    audio = load_audio(audio_table)
    lyrics, vocabulary, rarity = load_lyrics(lyrics_table)
    heard, read = across_audio(audio, settings), across_lyrics(lyrics, settings)
    temperatures = {"audio": fitted_temperature(*heard), "lyrics": fitted_temperature(*read)}
    logger.info("temperatures %s", temperatures)
    figures = {
        "audio": audio_figures(audio, settings, temperatures["audio"]),
        "lyrics": lyrics_figures(lyrics, settings, temperatures["lyrics"]),
    }
    network = audio_network(audio, settings)
    layer, bias = lyrics_layer(lyrics, settings)
    arrays = arrays_of(
        AudioMoods(audio.moods, network.weights / temperatures["audio"], network.bias / temperatures["audio"]),
        LyricsMoods(
            lyrics.moods,
            {word: at for at, word in enumerate(vocabulary)},
            rarity,
            layer / temperatures["lyrics"],
            bias / temperatures["lyrics"],
        ),
    )
    card = {
        "features": list(FEATURES),
        "labels": {"audio": list(AUDIO_LABELS), "lyrics": list(LYRICS_LABELS)},
        "stemmer": "Snowball English (snowballstemmer 3.1.1)",
        "settings": asdict(settings),
        "seed": settings.seed,
        "temperature": {kind: round(value, 4) for kind, value in temperatures.items()},
        "data": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (audio_table, lyrics_table)},
        "figures": figures,
    }
    save(out, arrays, card)
    return card


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and print the tables, or print those of the shipped file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, help="audio_moods.csv")
    parser.add_argument("--lyrics", type=Path, help="lyrics_bow.npz")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--show", action="store_true", help="print the tables of the files in --out and train nothing")
    options = parser.parse_args(arguments)
    if not options.show and not (options.audio and options.lyrics):
        parser.error("--audio and --lyrics are needed, or --show")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        from model.song_figures import tables

        card = load_card(options.out) if options.show else train(options.audio, options.lyrics, options.out, Settings())
    except (SongMoodsError, OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"nothing was written: {error}\n")
        return 1
    sys.stdout.write("\n".join(tables(card)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
