"""How well a song's mood is heard and read: by source, across sources, by artist; and the tables of it.

Beside the networks that ship stand the ones that were tried: logistic regression on the features as they are,
boosted trees and small Keras networks. Every figure is for songs that were not trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from model.figures import expected_calibration_error, wilson_interval
from model.song_moods import SURE, Mood, decided, shaped, softmax
from model.train_song_moods import LEXICON, SOURCES, Settings, Songs, audio_network, balanced, fit, lyrics_layer

ETUNES, DATA_MOODS = SOURCES
FAMILIES = np.array([0, 1, 1, 2, 3])  # angry, quiet (calm or fear), happy, sad: what both sources can say

Model = Callable[[Any], np.ndarray]
"""Inputs (n, k) to logits (n, moods)."""
Trainer = Callable[[Songs, Settings], Model]


# -- what was tried ------------------------------------------------------------------------------


def shipped_audio(songs: Songs, settings: Settings) -> Model:
    """The linear layer on shaped features, as it ships."""
    network = audio_network(songs, settings)
    return lambda values: shaped(values) @ network.weights + network.bias


def loose_audio(songs: Songs, settings: Settings) -> Model:
    """The same, held back less: fits one source better and carries over worse."""
    network = audio_network(songs, settings, ridge=1.0)
    return lambda values: shaped(values) @ network.weights + network.bias


def plain_audio(songs: Songs, settings: Settings) -> Model:
    """Logistic regression on the nine features as they are."""
    mean, scale = songs.inputs.mean(axis=0), songs.inputs.std(axis=0)
    scaled = replace(songs, inputs=(songs.inputs - mean) / scale)
    layer, bias = fit(scaled, np.ones(len(songs)), np.ones(songs.inputs.shape[1]))
    return lambda values: (values - mean) / scale @ layer + bias


def boosted_audio(songs: Songs, settings: Settings) -> Model:
    """Boosted trees on the nine features."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]  # no type hints

    trees = HistGradientBoostingClassifier(
        max_iter=120, learning_rate=0.05, max_leaf_nodes=6, random_state=settings.seed
    ).fit(songs.inputs, songs.labels)

    def logits(values: np.ndarray) -> np.ndarray:
        made = np.full((len(values), len(songs.moods)), -30.0)
        made[:, trees.classes_] = np.log(trees.predict_proba(values) + 1e-12)
        return made

    return logits


def keras_audio(songs: Songs, settings: Settings) -> Model:
    """A Keras network with 24 hidden units on the shaped features."""
    inputs = shaped(songs.inputs)
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0)
    network = _keras(songs, (inputs - mean) / scale, balanced(songs, settings.audio_balance, 1.0), 24, 0.2, 120)
    return lambda values: network((shaped(values) - mean) / scale)


def shipped_lyrics(songs: Songs, settings: Settings) -> Model:
    """The linear layer on weighted words, as it ships."""
    layer, bias = lyrics_layer(songs, settings)
    return lambda inputs: inputs @ layer + bias


def keras_lyrics(songs: Songs, settings: Settings) -> Model:
    """A Keras network with 48 hidden units on the weighted words."""
    weights = balanced(songs, settings.lyrics_balance, settings.source_balance, settings.lexicon_weight)
    network = _keras(songs, songs.inputs.toarray(), weights, 48, 0.5, 12)
    return lambda inputs: network(inputs.toarray())


def _keras(
    songs: Songs, inputs: np.ndarray, weights: np.ndarray, units: int, dropout: float, epochs: int
) -> Callable[[np.ndarray], np.ndarray]:
    import keras

    keras.utils.set_random_seed(Settings().seed)
    network = keras.Sequential(
        [
            keras.Input((inputs.shape[1],)),
            keras.layers.Dense(units, activation="relu", kernel_regularizer=keras.regularizers.L2(1e-4)),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(len(songs.moods)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(0.003), loss)
    network.fit(inputs.astype(np.float32), songs.labels, sample_weight=weights, batch_size=64, epochs=epochs, verbose=0)
    return lambda rows: np.asarray(network(rows.astype(np.float32), training=False), float)


AUDIO_TRIED: Mapping[str, Trainer] = {
    "logistic regression, features as they are": plain_audio,
    "**linear, features shaped: ships**": shipped_audio,
    "the same, held back less": loose_audio,
    "boosted trees": boosted_audio,
    "Keras, 24 hidden units": keras_audio,
}
LYRICS_TRIED: Mapping[str, tuple[Trainer, str]] = {
    "linear, trained on word lists' labels": (shipped_lyrics, "lexicon"),
    "linear, trained on people's labels": (shipped_lyrics, "people"),
    "**linear, trained on both: ships**": (shipped_lyrics, "both"),
    "Keras, 48 hidden units, trained on both": (keras_lyrics, "both"),
}


# -- answers for songs not trained on ------------------------------------------------------------


def stratified(songs: Songs, folds: int, seed: int) -> list[np.ndarray]:
    """Folds with equal shares of every label; an artist may be in several."""
    order = np.random.default_rng(seed).permutation(len(songs))
    order = order[np.argsort(songs.names[order], kind="stable")]
    return [np.sort(order[i::folds]) for i in range(folds)]


def by_artist(songs: Songs, folds: int, seed: int) -> list[np.ndarray]:
    """Folds of about the same size, each artist and each song in one of them."""
    _, groups = np.unique(_groups(songs), return_inverse=True)
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    sizes, fold_of = np.zeros(folds, int), np.zeros(groups.max() + 1, int)
    counts = np.bincount(groups)
    for group in order[np.argsort(-counts[order], kind="stable")]:
        fold_of[group] = int(np.argmin(sizes))
        sizes[fold_of[group]] += counts[group]
    return [np.flatnonzero(fold_of[groups] == i) for i in range(folds)]


def _groups(songs: Songs) -> np.ndarray:
    """What must stay together: an artist's songs, and a song that has an artist in one source and none in another."""
    artist_of = {song: artist for song, artist in zip(songs.ids, songs.artists, strict=True) if song != artist}
    return np.array([artist_of.get(song, artist) for song, artist in zip(songs.ids, songs.artists, strict=True)])


def held_out(songs: Songs, folds: list[np.ndarray], train: Trainer, settings: Settings) -> np.ndarray:
    """Logits (n, moods) for every song from the network that was trained without its fold."""
    logits = np.zeros((len(songs), len(songs.moods)))
    for rows in folds:
        rest = np.setdiff1d(np.arange(len(songs)), rows)
        logits[rows] = train(songs.part(rest), settings)(songs.inputs[rows])
    return logits


def across_audio(
    songs: Songs, settings: Settings, train: Trainer = shipped_audio
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, families, and what is to be told apart, of each source's songs from a network that knows the other."""
    logits = np.zeros((len(songs), len(songs.moods)))
    for known, asked in ((ETUNES, DATA_MOODS), (DATA_MOODS, ETUNES)):
        rows = songs.of(asked)
        logits[rows] = train(songs.part(songs.others(rows, songs.of(known))), settings)(songs.inputs[rows])
    return logits, FAMILIES[songs.labels], FAMILIES


def across_lyrics(songs: Songs, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of people's songs from networks that know all sources but theirs.

    Of all moods, for nobody tells which ones the labels of a table have.
    """
    rows = np.flatnonzero(songs.sources != LEXICON)
    logits = np.zeros((len(songs), len(songs.moods)))
    for source in people(songs):
        asked = songs.of(source)
        logits[asked] = _lyrics_logits(songs, asked, shipped_lyrics, "both", settings)
    return logits[rows], songs.labels[rows]


def people(songs: Songs) -> list[str]:
    """The sources that people labelled."""
    return [str(source) for source in np.unique(songs.sources) if source != LEXICON]


def _lyrics_logits(songs: Songs, asked: np.ndarray, train: Trainer, on: str, settings: Settings) -> np.ndarray:
    """Logits of `asked`, all of one source, from what is neither of their source nor of their artists."""
    known = {"lexicon": [LEXICON], "people": people(songs), "both": [LEXICON, *people(songs)]}[on]
    source = str(songs.sources[asked[0]])
    among = songs.of(*(one for one in known if one != source or source == LEXICON))
    return train(songs.part(songs.others(asked, among)), settings)(songs.inputs[asked])


# -- the figures ---------------------------------------------------------------------------------


def audio_figures(songs: Songs, settings: Settings, temperature: float) -> dict[str, Any]:
    """Every figure of the audio network, for the card."""
    etunes, data_moods = (songs.part(songs.of(source)) for source in (ETUNES, DATA_MOODS))
    tried = {}
    for name, train in AUDIO_TRIED.items():
        there = across_audio(songs, settings, train)[0]
        tried[name] = {
            "etunes' songs, five-fold": _cross(etunes, stratified, train, settings),
            "the same, by artist": _cross(etunes, by_artist, train, settings),
            "data_moods, by artist": _cross(data_moods, by_artist, train, settings),
            "etunes to data_moods": _family_share(there, songs, songs.of(DATA_MOODS)),
            "data_moods to etunes": _family_share(there, songs, songs.of(ETUNES)),
        }
    within = held_out(songs, by_artist(songs, settings.folds, settings.seed), shipped_audio, settings) / temperature
    abroad = across_audio(songs, settings)[0] / temperature
    merge = np.eye(FAMILIES.max() + 1)[FAMILIES]
    return {
        "tried": tried,
        "songs": {ETUNES: len(etunes), DATA_MOODS: len(data_moods)},
        "named artists": {ETUNES: _named(etunes), DATA_MOODS: _named(data_moods)},
        "told apart": {
            f"{one} or {other}": _told_apart(songs, one, other, settings)
            for one, other in (("angry", "energetic"), ("fear", "calm"))
        },
        "answers": _answers_by_label(songs, within),
        "calibration": {
            "all songs, five-fold by artist": _calibration(softmax(within), songs.labels),
            "across sources": _calibration(softmax(abroad) @ merge, FAMILIES[songs.labels]),
        },
    }


def lyrics_figures(songs: Songs, settings: Settings, temperature: float) -> dict[str, Any]:
    """Every figure of the lyrics network, for the card."""
    tried = {name: _lyrics_row(songs, train, on, settings) for name, (train, on) in LYRICS_TRIED.items()}
    logits, labels = across_lyrics(songs, settings)
    sources = [LEXICON, *people(songs)]
    return {
        "tried": tried,
        "songs": {source: int(songs.of(source).size) for source in sources},
        "moods": {source: ", ".join(sorted(set(songs.names[songs.of(source)]))) for source in sources},
        "the commonest mood": {source: _commonest(songs.part(songs.of(source))) for source in sources},
        "calibration": {"people's songs, their source left out": _calibration(softmax(logits / temperature), labels)},
    }


def _lyrics_row(songs: Songs, train: Trainer, on: str, settings: Settings) -> dict[str, dict[str, Any]]:
    row = {}
    for source in [LEXICON, *people(songs)]:
        asked = songs.of(source)
        folds = [asked] if source != LEXICON else by_artist(songs.part(asked), settings.folds, settings.seed)
        logits = np.zeros((len(asked), len(songs.moods)))
        for fold in folds:
            rows = fold if source != LEXICON else asked[fold]
            logits[np.searchsorted(asked, rows)] = _lyrics_logits(songs, rows, train, on, settings)
        logits = np.where(songs.part(asked).allowed[0], logits, -np.inf)  # among the moods that the source has
        right = logits.argmax(axis=1) == songs.labels[asked]
        recalls = [right[songs.labels[asked] == mood].mean() for mood in np.unique(songs.labels[asked])]
        row[source] = {**_share(right), "recall": round(float(np.mean(recalls)), 4)}
    return row


def _cross(
    songs: Songs, split: Callable[[Songs, int, int], list[np.ndarray]], train: Trainer, settings: Settings
) -> dict[str, Any]:
    logits = held_out(songs, split(songs, settings.folds, settings.seed), train, settings)
    return _share(logits.argmax(axis=1) == songs.labels)


def _family_share(logits: np.ndarray, songs: Songs, rows: np.ndarray) -> dict[str, Any]:
    return _share(FAMILIES[logits[rows].argmax(axis=1)] == FAMILIES[songs.labels[rows]])


def _share(right: np.ndarray) -> dict[str, Any]:
    hits, n = int(right.sum()), len(right)
    return {"n": n, "accuracy": round(hits / n, 4), "interval": [round(edge, 4) for edge in wilson_interval(hits, n)]}


def _calibration(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    sure = probabilities.max(axis=1) >= SURE
    right = probabilities.argmax(axis=1) == labels
    return {
        **_share(right),
        "ece": round(expected_calibration_error(probabilities, labels), 4),
        "answered": round(float(sure.mean()), 4),
        "accuracy_answered": round(float(right[sure].mean()), 4),
    }


def _answers_by_label(songs: Songs, logits: np.ndarray) -> dict[str, dict[str, int]]:
    answers = np.array([answer.mood.value for answer in decided(songs.moods, softmax(logits), torn=True)])
    columns = [*songs.moods, Mood.ENERGETIC, Mood.NOT_SURE]
    return {
        f"{source}: {name}": {
            str(mood): int(((answers == mood.value) & (songs.sources == source) & (songs.names == name)).sum())
            for mood in columns
        }
        for source in (ETUNES, DATA_MOODS)
        for name in np.unique(songs.names[songs.sources == source])
    }


def _told_apart(songs: Songs, one: str, other: str, settings: Settings) -> dict[str, Any]:
    """Whether two labels of different sources differ in sound: logistic regression on the two of them alone."""
    pair = songs.part(np.flatnonzero(np.isin(songs.names, [one, other])))
    pair = replace(pair, labels=(pair.names == other).astype(int), moods=songs.moods[:2])
    return {**_cross(pair, by_artist, plain_audio, settings), "commoner": _commonest(pair)}


def _named(songs: Songs) -> int:
    return int((songs.artists != songs.ids).sum())


def _commonest(songs: Songs) -> float:
    return round(float(np.bincount(songs.labels).max() / len(songs)), 4)


# -- the tables ----------------------------------------------------------------------------------


def tables(card: Mapping[str, Any]) -> Iterator[str]:
    """The figures of a card as Markdown, for docs/song-moods.md."""
    audio, lyrics = card["figures"]["audio"], card["figures"]["lyrics"]
    columns = list(next(iter(audio["tried"].values())))
    yield from _table(["from audio features", *columns], _rows(audio["tried"]))
    yield ""
    yield from _table(["labelled", *next(iter(audio["answers"].values()))], _rows(audio["answers"]))
    yield ""
    apart = [[name, _cell(f), *_percents(f, "commoner")] for name, f in audio["told apart"].items()]
    yield from _table(["told apart by sound", "logistic regression", "always the commoner"], apart)
    yield ""
    sources = list(lyrics["songs"])
    always = [["always the commonest mood", *_percents(lyrics["the commonest mood"], *sources)]]
    yield from _table(["from lyrics", *sources], _rows(lyrics["tried"]) + always)
    yield ""
    recalls = [[name, *(_percents(row[s], "recall")[0] for s in sources)] for name, row in lyrics["tried"].items()]
    yield from _table(["from lyrics, every mood counting the same", *sources], recalls)
    yield ""
    calibration = {
        f"{kind}: {name}": figures
        for kind, of in (("audio", audio), ("lyrics", lyrics))
        for name, figures in of["calibration"].items()
    }
    rows = [
        [
            name,
            str(f["n"]),
            *_percents(f, "accuracy"),
            f"{f['ece']:.3f}",
            *_percents(f, "answered", "accuracy_answered"),
        ]
        for name, f in calibration.items()
    ]
    yield from _table(["", "songs", "accuracy", "calibration error", "answered", "right of these"], rows)


def _rows(figures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    return [[name, *map(_cell, row.values())] for name, row in figures.items()]


def _percents(figures: Mapping[str, float], *names: str) -> list[str]:
    return [f"{100 * figures[name]:.1f} %" for name in names]


def _cell(figure: Any) -> str:
    if not isinstance(figure, Mapping):
        return str(figure)
    low, high = figure["interval"]
    return f"{100 * figure['accuracy']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _table(header: list[str], rows: list[list[str]]) -> Iterator[str]:
    for row in (header, ["---", *["---:"] * (len(header) - 1)], *rows):
        yield f"| {' | '.join(row)} |"
