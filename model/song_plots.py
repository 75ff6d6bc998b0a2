"""Pictures of the songs and of how their moods are told: `python -m model.song_plots --audio A.csv --lyrics L.npz`.

Writes the charts of docs/song-moods.md to --out, and prints how the audio network does with one source and with both.
Every answer drawn is for a song whose artist, or whole source, was not trained on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from model.fer2013 import DataError
from model.figures import calibration_bins, expected_calibration_error, wilson_interval
from model.plots import confusion_chart, features_chart, labels_chart, map_chart, reliability_chart
from model.song_figures import DATA_MOODS, ETUNES, FAMILIES, across_audio, across_lyrics, by_artist, shipped_audio
from model.song_moods import FEATURES, WEIGHTS, Mood, SongMoodsError, decided, load_card, softmax
from model.train_song_moods import Settings, Songs, load_audio, load_lyrics


def draw(audio: Songs, lyrics: Songs, temperatures: Mapping[str, float], out: Path, settings: Settings) -> None:
    """All charts, as PNG files in `out`."""
    labels_chart({"with audio features": _counts(audio), "with lyrics": _counts(lyrics)}, out / "song-labels.png")
    features_chart(audio.inputs, FEATURES, _labels(audio), out / "song-features.png")
    places = audio.inputs[:, [FEATURES.index("valence"), FEATURES.index("energy")]]
    sources = {source: audio.of(source) for source in (ETUNES, DATA_MOODS)}
    map_chart({s: (places[rows], audio.names[rows]) for s, rows in sources.items()}, out / "song-map.png")

    heard, _, _ = across_audio(audio, settings)
    heard = softmax(heard / temperatures["audio"])
    answers = [answer.mood.value for answer in decided(audio.moods, heard, torn=True)]
    moods = [*map(str, audio.moods), Mood.ENERGETIC.value, Mood.NOT_SURE.value]
    labels = _labels(audio)
    confusion_chart(
        _confusion(labels, np.array(answers), moods),
        out / "song-audio-confusion.png",
        "labelled (source left out)",
        "heard as",
        (list(np.unique(labels)), moods),
    )
    merged = heard @ np.eye(FAMILIES.max() + 1)[FAMILIES]
    _draw_reliability(merged, FAMILIES[audio.labels], out / "song-audio-reliability.png")

    read, truth = across_lyrics(lyrics, settings)
    shares = softmax(read / temperatures["lyrics"])
    names = [str(mood) for mood in lyrics.moods]
    labelled, told = np.array(names)[truth], np.array(names)[shares.argmax(axis=1)]
    confusion_chart(
        _confusion(labelled, told, names),
        out / "song-lyrics-confusion.png",
        "labelled (source left out)",
        "read as",
        (names, names),
    )
    _draw_reliability(shares, truth, out / "song-lyrics-reliability.png")


def trained_on(audio: Songs, settings: Settings) -> Iterator[str]:
    """A table: angry, quiet, happy or sad, told by a network that learnt from one source, the other, or both."""
    yield f"| asked about | trained on {ETUNES} | trained on {DATA_MOODS} | trained on both |"
    yield "| --- | ---: | ---: | ---: |"
    for asked in (ETUNES, DATA_MOODS):
        rows = audio.of(asked)
        cells = [right(audio, rows, known, settings) for known in ((ETUNES,), (DATA_MOODS,), (ETUNES, DATA_MOODS))]
        yield f"| {asked} | {' | '.join(cells)} |"


def right(audio: Songs, rows: np.ndarray, known: tuple[str, ...], settings: Settings) -> str:
    """How many of `rows` are told right, five-fold by artist, from what `known` sources have beside them."""
    hits = 0
    for fold in by_artist(audio.part(rows), settings.folds, settings.seed):
        asked = rows[fold]
        learnt = audio.part(audio.others(asked, audio.of(*known)))
        logits = shipped_audio(learnt, settings)(audio.inputs[asked])
        hits += int((FAMILIES[logits.argmax(axis=1)] == FAMILIES[audio.labels[asked]]).sum())
    low, high = wilson_interval(hits, len(rows))
    return f"{hits / len(rows):.1%} ({100 * low:.1f} to {100 * high:.1f})".replace("%", " %")


def _labels(songs: Songs) -> np.ndarray:
    return np.array([f"{source}: {name}" for source, name in zip(songs.sources, songs.names, strict=True)])


def _counts(songs: Songs) -> dict[str, int]:
    names, counts = np.unique(_labels(songs), return_counts=True)
    return dict(zip(map(str, names), counts.tolist(), strict=True))


def _confusion(labels: np.ndarray, answers: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """Counts (rows, columns): a row for each label, in the order of the alphabet."""
    return np.array([[int(((labels == row) & (answers == one)).sum()) for one in columns] for row in np.unique(labels)])


def _draw_reliability(shares: np.ndarray, labels: np.ndarray, path: Path) -> None:
    error = expected_calibration_error(shares, labels)
    reliability_chart(calibration_bins(shares, labels), error, path, "songs")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m model.song_plots", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--audio", type=Path, required=True, help="audio_moods.csv")
    parser.add_argument("--lyrics", type=Path, required=True, help="lyrics_bow.npz")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the charts to this folder")
    options = parser.parse_args(arguments)
    try:
        card = load_card(WEIGHTS)
        settings = Settings(**card["settings"])
        audio, lyrics = load_audio(options.audio), load_lyrics(options.lyrics)[0]
        if options.out:
            draw(audio, lyrics, card["temperature"], options.out, settings)
        lines = list(trained_on(audio, settings))
    except (SongMoodsError, DataError, OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"nothing was drawn: {error}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
