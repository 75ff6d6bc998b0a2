"""Predictions, and a reading that follows a face without flickering."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from model.emotions import EMOTIONS, Emotion, Prediction, Reading, Smoothing, read

RULES = Smoothing()


def sure_of(emotion: Emotion, share: float = 0.9) -> Prediction:
    rest = (1 - share) / (len(EMOTIONS) - 1)
    return Prediction(tuple(share if e == emotion else rest for e in EMOTIONS))


def watch(faces: list[Prediction | None], fps: float = 10, rules: Smoothing = RULES) -> list[Reading | None]:
    """The readings over a film of predictions."""
    reading, readings = None, []
    for i, face in enumerate(faces):
        reading = read(reading, face, i / fps, rules)
        readings.append(reading)
    return readings


def switches(labels: list[object]) -> int:
    return sum(a != b for a, b in pairwise(labels))


def test_order_is_fer2013s() -> None:
    """The order is that of FER2013's numeric codes, which is not alphabetical."""
    assert [str(e) for e in EMOTIONS] == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]


@pytest.mark.parametrize("numbers", [(1.0,), (0.5,) * 6 + (float("nan"),)])
def test_a_prediction_is_seven_finite_numbers(numbers: tuple[float, ...]) -> None:
    """Too few probabilities, or one that is not a number, are refused."""
    with pytest.raises(ValueError, match="probabilit"):
        Prediction(numbers)


def test_prediction_names_the_most_probable() -> None:
    """`emotion`, `confidence` and look-up by emotion agree."""
    prediction = sure_of(Emotion.SAD, 0.7)
    assert (prediction.emotion, prediction.confidence) == (Emotion.SAD, 0.7)
    assert prediction[Emotion.SAD] == prediction.by_emotion()[Emotion.SAD] == 0.7


def test_a_clear_face_is_read_at_once() -> None:
    """The first clear face gives a mood and songs without waiting."""
    reading = read(None, sure_of(Emotion.HAPPY), 0.0, RULES)
    assert reading is not None
    assert (reading.emotion, reading.songs) == (Emotion.HAPPY, Emotion.HAPPY)


def test_a_doubtful_face_waits_for_the_hold() -> None:
    """A first face under the entering level has no mood until it has held."""
    readings = watch([sure_of(Emotion.FEAR, 0.3)] * 30)
    assert readings[5].emotion is None
    assert readings[-1].emotion is Emotion.FEAR


def test_no_face_is_no_reading() -> None:
    """Without a face ever, there is nothing to show."""
    assert watch([None] * 20)[-1] is None


def test_a_blink_changes_nothing() -> None:
    """Half a second of another emotion does not change the mood shown."""
    film = [sure_of(Emotion.NEUTRAL)] * 30 + [sure_of(Emotion.ANGRY)] * 5 + [sure_of(Emotion.NEUTRAL)] * 30
    assert {r.emotion for r in watch(film)} == {Emotion.NEUTRAL}


def test_a_lasting_change_is_shown_within_three_seconds() -> None:
    """A new emotion that lasts takes over after smoothing and hold, not later."""
    readings = watch([sure_of(Emotion.NEUTRAL)] * 30 + [sure_of(Emotion.ANGRY)] * 30)
    assert readings[40].emotion is Emotion.NEUTRAL
    assert readings[59].emotion is Emotion.ANGRY


def test_a_rival_must_lead_by_the_margin() -> None:
    """Two moods near each other do not take turns."""
    near = Prediction((0.0, 0.0, 0.0, 0.48, 0.0, 0.0, 0.52))
    readings = watch([sure_of(Emotion.HAPPY)] * 20 + [near] * 100)
    assert {r.emotion for r in readings} == {Emotion.HAPPY}


def test_a_faded_mood_gives_way_even_to_a_doubtful_one() -> None:
    """Under the leaving level, whoever is ahead takes over once it has held."""
    doubtful = Prediction((0.1, 0.1, 0.1, 0.1, 0.35, 0.1, 0.15))
    assert watch([sure_of(Emotion.HAPPY)] * 20 + [doubtful] * 60)[-1].emotion is Emotion.SAD


def test_an_unclear_face_does_not_flicker() -> None:
    """Where all moods lie under the leaving level whoever is a little ahead has no better right than the one shown."""
    noise = random.Random(7)
    film = []
    for _ in range(900):
        shares = [1 + 0.3 * noise.random() for _ in EMOTIONS]
        film.append(Prediction(tuple(share / sum(shares) for share in shares)))
    readings = watch([sure_of(Emotion.HAPPY)] * 20 + film)
    assert {r.emotion for r in readings} == {Emotion.HAPPY}


def test_a_noisy_face_does_not_flicker() -> None:
    """Raw labels that change all the time leave the mood shown alone."""
    noise = random.Random(7)
    film = [sure_of(Emotion.SAD if noise.random() < 0.65 else noise.choice(EMOTIONS), 0.6) for _ in range(600)]
    readings = watch(film)
    raw, shown = switches([p.emotion for p in film]), switches([r.emotion for r in readings])
    assert raw > 100
    assert shown <= 4


def test_songs_dwell() -> None:
    """The song table stays for its dwell although the mood has moved on, then follows."""
    film = [sure_of(Emotion.HAPPY)] * 10 + [sure_of(Emotion.ANGRY)] * 100
    readings = watch(film)
    assert (readings[60].emotion, readings[60].songs) == (Emotion.ANGRY, Emotion.HAPPY)
    assert readings[-1].songs is Emotion.ANGRY
    changed = next(i for i, r in enumerate(readings) if r.songs is Emotion.ANGRY)
    assert changed / 10 >= RULES.dwell


def test_the_mood_outlasts_the_face_for_a_while() -> None:
    """A face gone for a moment keeps its mood; gone for longer than `forget`, it has none."""
    film = [sure_of(Emotion.HAPPY)] * 10 + [None] * 60
    readings = watch(film)
    assert readings[30].emotion is Emotion.HAPPY
    assert readings[-1] is None


@pytest.mark.parametrize("rules", [RULES, Smoothing(forget=0)], ids=["as it is", "forgets at once"])
def test_few_pictures_do_not_flicker(rules: Smoothing) -> None:
    """With a face in sight a mood and its songs stay as long with a picture each four seconds as with ten a second."""
    film = [sure_of(Emotion.SAD), sure_of(Emotion.ANGRY), sure_of(Emotion.SAD), sure_of(Emotion.ANGRY)]
    assert {r.songs for r in watch(film, 1 / 4, rules)} == {Emotion.SAD}
    assert {r.emotion for r in watch(film, 1 / 4, rules)} == {Emotion.SAD}
    assert watch([*film, sure_of(Emotion.ANGRY)], 1 / 4, rules)[-1].songs is Emotion.ANGRY


def test_a_face_after_a_long_time_is_read_afresh() -> None:
    """Somebody who comes back after a minute without pictures does not wait for a mood."""
    readings = watch([sure_of(Emotion.HAPPY), sure_of(Emotion.SAD)], 1 / 60)
    assert readings[1].emotion is Emotion.SAD


def test_smoothing_follows_the_clock_not_the_frame_rate() -> None:
    """Five and fifty predictions a second end at the same reading."""
    ends = [
        watch([sure_of(Emotion.HAPPY)] * fps + [sure_of(Emotion.SAD)] * fps, fps)[-1].prediction[Emotion.SAD]
        for fps in (5, 50)
    ]
    assert ends[0] == pytest.approx(ends[1], abs=0.03)


def test_a_clock_that_stands_still_is_harmless() -> None:
    """Two predictions at the same instant neither divide by zero nor move the reading."""
    first = read(None, sure_of(Emotion.HAPPY), 5.0, RULES)
    second = read(first, sure_of(Emotion.SAD), 5.0, RULES)
    assert second is not None
    assert second.prediction == first.prediction
