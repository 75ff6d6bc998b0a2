"""What mood a song has, from its audio features or its words; `python -m model.song_moods` has the commands.

NumPy and a stemmer only. Nothing that Spotify's API answers may come here: the features are those of a table
that somebody has from elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from model.emotions import Emotion

WEIGHTS = Path(__file__).parent / "weights"
SURE = 0.4  # below this confidence the answer is "not sure"
TORN = 0.8  # angry and happy together from here on, and neither far ahead: energetic
LEAD = 0.2  # what "far ahead" is
MOST_COUNTED = 255  # times that one word counts; the training table stops there
FEWEST_WORDS = 5  # that are known; fewer say nothing
KNOWN_SHARE = 0.7  # of the words; with fewer known it is another language
COUNT = r'([^\W\d_]+)"?\s*[:=]\s*(\d{1,9})\b'  # a word and how often it comes


class Mood(StrEnum):
    """What a song may sound like, and the two answers that name no mood."""

    ANGRY = "angry"
    CALM = "calm"
    ENERGETIC = "energetic"
    FEAR = "fear"
    HAPPY = "happy"
    RELAXED = "relaxed"
    SAD = "sad"
    NOT_SURE = "not sure"
    NOT_KNOWN = "not known"


EMOTIONS_OF: Mapping[Mood, tuple[Emotion, ...]] = {
    Mood.ANGRY: (Emotion.ANGRY, Emotion.DISGUST),  # no source names disgust; in sound it is anger, the rest is words
    Mood.CALM: (Emotion.NEUTRAL,),  # a face at rest wants nothing of the song
    Mood.ENERGETIC: (Emotion.SURPRISE,),  # nobody sings of being startled; what the songs can do is excite
    Mood.FEAR: (Emotion.FEAR,),  # dark, slow, without a voice: few songs, but recognisable ones
    Mood.HAPPY: (Emotion.HAPPY,),
    Mood.RELAXED: (Emotion.NEUTRAL,),  # what sources of lyrics call calm
    Mood.SAD: (Emotion.SAD,),
    Mood.NOT_SURE: (),
    Mood.NOT_KNOWN: (),
}
"""The first emotion is the song's own; a list of a further one takes what the first list has no room for."""

LIMITS = {
    "acousticness": (0.0, 1.0),
    "danceability": (0.0, 1.0),
    "energy": (0.0, 1.0),
    "instrumentalness": (0.0, 1.0),
    "liveness": (0.0, 1.0),
    "loudness": (-80.0, 10.0),  # decibels below full scale
    "speechiness": (0.0, 1.0),
    "tempo": (1.0, 400.0),  # beats a minute; 0 is how a measuring program says that it found none
    "valence": (0.0, 1.0),
}
"""The features, in the order of the network's inputs, and what each may be."""
FEATURES = tuple(LIMITS)
LOWEST, HIGHEST = (np.array(edge) for edge in zip(*LIMITS.values(), strict=True))


class SongMoodsError(Exception):
    """The trained networks cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A mood and how likely it is, 0 to 1 (0 when it is not known)."""

    mood: Mood
    confidence: float

    @property
    def emotion(self) -> Emotion | None:
        """The list that the song belongs in; None without a mood."""
        return next(iter(EMOTIONS_OF[self.mood]), None)


def fault_of(name: str, value: str | float) -> str | None:
    """What is wrong with a feature ("tempo is '0', not a number from 1 to 400"), or None."""
    low, high = LIMITS[name]
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    return None if low <= number <= high else f"{name} is {value!r:.40}, not a number from {low:g} to {high:g}"


def usable(values: np.ndarray) -> np.ndarray:
    """Which rows of features (n, 9) can be judged: all numbers there and possible."""
    return np.asarray(((values >= LOWEST) & (values <= HIGHEST)).all(axis=1))


def shaped(values: np.ndarray) -> np.ndarray:
    """Features (n, 9) as the network's inputs (n, 12).

    Shares are stretched at their ends, where a song with a whisper of guitar differs from one with none;
    loudness and tempo are cut where mastering and doubled beats decide more than the mood.
    """
    acoustic, dance, energy, instrumental, live, loud, speech, tempo, valence = np.asarray(values, float).T
    columns = (
        _stretched(acoustic, 0.01),
        acoustic,
        dance,
        _stretched(energy, 0.03),
        energy,
        np.log(instrumental + 0.001),
        instrumental,
        np.log(live + 0.02),
        np.clip(loud, -30, 0),
        np.log(speech + 0.02),
        np.clip(tempo, 50, 200),
        _stretched(valence, 0.03),
    )
    return np.stack(columns, axis=1)


def words(text: str) -> list[str]:
    """The words of a text as the training table has them: "Don't" is "dont", single letters are none."""
    return re.findall(r"[^\W\d_]{2,}", _without_apostrophes(text.lower()))


def _without_apostrophes(text: str) -> str:
    return text.replace("'", "").replace("\N{RIGHT SINGLE QUOTATION MARK}", "")


def counted_words(text: str) -> dict[str, int]:
    """What "love:3 night:1" says, by word as in `words`; commas, = and JSON's marks will do too.

    ValueError if it says anything else.
    """
    plain = _without_apostrophes(text.lower())
    found: Counter[str] = Counter()
    for word, n in re.findall(COUNT, plain):
        if len(word) > 1:
            found[word] += int(n)
    if re.search(r"\w", re.sub(COUNT, "", plain)):
        raise ValueError("its word counts are not like 'love:3 night:1'")
    return found


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """A word without its ending, by Snowball's English stemmer, which made the training table."""
    return str(_stemmer().stemWord(word))


@dataclass(frozen=True)
class AudioMoods:
    """Features to probabilities: one linear layer, its inputs' scale and its temperature folded into it."""

    labels: tuple[Mood, ...]
    weights: np.ndarray
    bias: np.ndarray

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """Probabilities (n, moods), in the order of `labels`, of usable features (n, 9)."""
        return softmax(shaped(values) @ self.weights + self.bias)

    def answers(self, values: np.ndarray) -> list[Answer]:
        """The mood of every row of features (n, 9); "not known" for rows that are not usable."""
        answers = [Answer(Mood.NOT_KNOWN, 0.0)] * len(values)
        good = np.flatnonzero(usable(values))
        for i, answer in zip(good, decided(self.labels, self.probabilities(values[good]), torn=True), strict=True):
            answers[i] = answer
        return answers


@dataclass(frozen=True)
class LyricsMoods:
    """Counts of stemmed words to probabilities: weighted words through one linear layer."""

    labels: tuple[Mood, ...]
    places: Mapping[str, int]
    rarity: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def counts(self, text: str) -> dict[str, int]:
        """The stems of a text that the network knows, counted; empty if the text is not English, or too little.

        English is told by its words: most words of an English song are among the 5,000 known stems.
        """
        return self.known(Counter(words(text)))

    def known(self, counted: Mapping[str, int]) -> dict[str, int]:
        """The same of words, or stems, that somebody has counted already."""
        found: Counter[str] = Counter()
        for word, n in counted.items():
            found[word if word in self.places else stem(word)] += n
        known = {one: n for one, n in found.items() if one in self.places}
        enough = sum(known.values()) >= max(FEWEST_WORDS, KNOWN_SHARE * found.total())
        return known if enough else {}

    def probabilities(self, songs: Sequence[Mapping[str, int]]) -> np.ndarray:
        """Probabilities (n, moods), in the order of `labels`, of songs as counts of stems; other words are skipped."""
        return softmax(np.stack([self._logits(song) for song in songs]))

    def answer(self, text: str | Mapping[str, int]) -> Answer:
        """The mood of lyrics, as text or as counts of stems; "not known" without enough English words."""
        counts = self.counts(text) if isinstance(text, str) else text
        if not any(one in self.places for one in counts):
            return Answer(Mood.NOT_KNOWN, 0.0)
        return decided(self.labels, self.probabilities([counts]))[0]

    def _logits(self, song: Mapping[str, int]) -> np.ndarray:
        known = [(self.places[one], min(n, MOST_COUNTED)) for one, n in song.items() if one in self.places and n > 0]
        if not known:
            return self.bias
        places, counted = (np.array(column) for column in zip(*known, strict=True))
        weighted = (1 + np.log(counted)) * self.rarity[places]
        return weighted / np.linalg.norm(weighted) @ self.weights[places] + self.bias


@dataclass(frozen=True)
class SongMoods:
    """Both networks, as shipped."""

    audio: AudioMoods
    lyrics: LyricsMoods


def decided(labels: Sequence[Mood], probabilities: np.ndarray, torn: bool = False) -> list[Answer]:
    """The answer for each row of probabilities (n, moods): a mood from SURE on, or "not sure".

    With `torn`, a song that is surely angry or happy, without one of them being ahead, is energetic.
    """
    best, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    answers = [
        Answer(labels[i] if sure >= SURE else Mood.NOT_SURE, sure)
        for i, sure in zip(best.tolist(), confidence.tolist(), strict=True)
    ]
    if torn:
        angry, happy = (probabilities[:, labels.index(mood)] for mood in (Mood.ANGRY, Mood.HAPPY))
        for i in np.flatnonzero((angry + happy >= TORN) & (abs(angry - happy) < LEAD)):
            answers[i] = Answer(Mood.ENERGETIC, float(confidence[i]))  # as sure as of the likelier one: the sum is not
    return answers


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def load_song_moods(weights: Path = WEIGHTS) -> SongMoods:
    """The networks as shipped; SongMoodsError when a file is missing, broken, or not the other's."""
    card = load_card(weights)
    path = weights / "song_moods.npz"
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != card["sha256"]:
            raise SongMoodsError(f"{path} is not the file that song_moods.json describes: {REMEDY}")
        with np.load(io.BytesIO(content)) as arrays:
            a = {name: arrays[name].astype(np.float64) for name in arrays.files if name != "vocabulary"}
            vocabulary = bytes(arrays["vocabulary"]).decode().split("\n")
        audio, lyrics = (tuple(Mood(name) for name in card["labels"][kind]) for kind in ("audio", "lyrics"))
        places = {one: i for i, one in enumerate(vocabulary)}
        return SongMoods(
            AudioMoods(audio, a["audio_weights"], a["audio_bias"]),
            LyricsMoods(lyrics, places, a["lyrics_rarity"], a["lyrics_weights"], a["lyrics_bias"]),
        )
    except FileNotFoundError as error:
        raise SongMoodsError(f"{path} is missing: {REMEDY}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SongMoodsError(f"{path} cannot be used ({error}): {REMEDY}") from error


def load_card(weights: Path = WEIGHTS) -> dict[str, Any]:
    """What song_moods.json says beside the weights: labels, settings, data, figures."""
    path = weights / "song_moods.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SongMoodsError(f"{path} is missing: {REMEDY}") from error
    except ValueError as error:
        raise SongMoodsError(f"{path} is not readable ({error}): {REMEDY}") from error
    if not isinstance(card, dict) or card.get("features") != list(FEATURES):
        raise SongMoodsError(f"{path} is for other features than {', '.join(FEATURES)}: {REMEDY}")
    return card


REMEDY = "restore both files, or train again (.venv/bin/python -m model.train_song_moods)"


def _stretched(share: np.ndarray, margin: float) -> np.ndarray:
    return np.log((share + margin) / (1 - share + margin))


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    try:
        import snowballstemmer  # type: ignore[import-untyped]  # it has no type hints
    except ImportError as error:
        raise SongMoodsError(
            "lyrics need snowballstemmer: .venv/bin/python -m pip install -r requirements-serve.txt"
        ) from error
    return snowballstemmer.stemmer("english")


if __name__ == "__main__":  # run, it is the door to commands that write song lists; imported, it knows none of them
    from songs.moods import main

    sys.exit(main())
