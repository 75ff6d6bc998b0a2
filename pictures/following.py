"""Faces over time: each has a reading that follows it from one frame to the next.

A camera's are in a Follower, a visitor's in a value that somebody else keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2

from model.demo import demo_frame
from model.emotions import Emotion, Prediction, Reading, Smoothing, blend, described, read
from model.faces import SAME, Box, Face, Frame, main_face
from model.recognizer import Recognizer

Place = tuple[float, float, float, float]
"""A box as shares of its picture's width and height: x, y, width, height."""

OUTGROWN = 3.0  # times the area of the chosen face: somebody sits in front of a picture on the wall, say
GIVES_WAY = 3.0  # seconds for which such a face must be there
MISSED = 1.0  # seconds for which a chosen face that is not found is waited for; a hand, or a look aside
LOOK_EVERY = 10  # frames of a visitor's from one look at the whole picture to the next
LOOK_WITHIN = 1.0  # seconds between two frames; of frames further apart each is looked at whole
MOST_NEAR = 4  # faces that are looked for where they were; of more, all are looked for everywhere
MOST_KEPT = 12  # places of faces that are remembered from frame to frame


@dataclass(frozen=True, slots=True)
class SeenFace:
    """A face as the picture labels it: its box and its own smoothed mood."""

    box: Box
    reading: Reading

    @property
    def emotion(self) -> str:
        return self.reading.emotion or self.reading.prediction.emotion

    @property
    def confidence(self) -> float:
        return self.reading.confidence


def seen_once(face: Face, scale: float = 1.0) -> SeenFace:
    """A photo's face, in a picture `scale` times as large: what it shows is its mood, with nothing to smooth."""
    emotion = face.prediction.emotion
    return SeenFace(face.box.scaled(scale), Reading(face.prediction, 0.0, emotion=emotion, songs=emotion))


def seen_as_json(faces: Sequence[SeenFace], reading: Reading | None, size: tuple[int, int]) -> dict[str, Any]:
    """What is seen in a picture of `size`, its width and height, as JSON: for the site and for the command line."""
    answer: dict[str, Any] = {
        "faces": [
            {"box": list(face.box), **described(face.emotion, face.confidence, face.reading.prediction)}
            for face in faces
        ],
        "reading": None,
        "image": {"width": size[0], "height": size[1]},
    }
    if reading and reading.emotion:
        mood = described(reading.emotion, reading.confidence, reading.prediction)
        answer["reading"] = {**mood, "songs": reading.songs}
    if len(faces) > 1:
        room = blend([face.reading.prediction for face in faces])
        answer["room"] = described(room.emotion, room.confidence, room)
    return answer


class Follower:
    """Folds the faces of one frame after another into a reading each, and one for the chosen face.

    The chosen face is the largest until it is gone for MISSED, or outgrown for GIVES_WAY. Used by one thread.
    """

    def __init__(self, rules: Smoothing) -> None:
        self._rules = rules
        self._chosen: Box | None = None
        self._places: list[Box] = []  # of the last frame that showed a face
        self._outgrown: float | None = None  # since when
        self.reading: Reading | None = None
        self.faces: tuple[SeenFace, ...] = ()

    def follow(self, faces: Sequence[Face], at: float) -> None:
        """Take in the faces of the frame taken at the clock time `at` (seconds)."""
        self._outgrown = _outgrown(faces, self._chosen, self._outgrown, at)
        chosen, another = _choice(faces, self._chosen, self._places, self.reading, self._outgrown, at)
        own = self._before(chosen.box) if chosen and another else None
        self.reading = _read_on(self.reading, chosen, at, self._rules, another, own)
        if chosen or self.reading is None:
            self._chosen = chosen.box if chosen else None
        self._places = [face.box for face in faces] or (self._places if self.reading else [])
        self.faces = tuple(self._seen(face, face is chosen, at) for face in faces)

    def _before(self, box: Box) -> Reading | None:
        """What was read before on the face that is at `box` now."""
        last = max(self.faces, key=lambda known: known.box.overlap(box), default=None)
        return last.reading if last and last.box.overlap(box) > SAME else None

    def _seen(self, face: Face, chosen: bool, at: float) -> SeenFace:
        if chosen and self.reading:
            return SeenFace(face.box, self.reading)
        before = self._before(face.box)
        return SeenFace(face.box, read(before, face.prediction, at, self._rules) or Reading(face.prediction, at))


@dataclass(frozen=True, slots=True)
class Followed:
    """What a visitor's frames have come to so far: a value, so that somebody else can keep it from frame to frame.

    `chosen` is where the chosen face was, `near` where all were, at most MOST_KEPT; `since` counts the frames since all
    were looked for everywhere; `outgrown` is the clock time since when the chosen face is, None while it is not.
    """

    reading: Reading | None = None
    chosen: Place | None = None
    near: tuple[Place, ...] = ()
    since: int = 0
    outgrown: float | None = None

    def packed(self) -> list[Any]:
        """The same as numbers and texts; ValueError without a reading, when there is nothing to keep."""
        reading = self.reading
        if reading is None:
            raise ValueError("without a reading there is nothing to keep")
        times = [round(1000 * t) for t in (reading.at, reading.songs_since, reading.rival_since)]
        shares = [round(10_000 * p) for p in reading.prediction.probabilities]
        moods = [reading.emotion, reading.songs, reading.rival]
        places = [[round(edge, 4) for edge in place] for place in (self.chosen or (), *self.near)]
        return [times, shares, moods, places, self.since, self.outgrown and round(1000 * self.outgrown)]

    @classmethod
    def unpacked(cls, values: Any) -> Followed:
        """What `packed` has made; ValueError for anything else."""
        try:
            times, shares, moods, places, since, outgrown = values
            at, songs_since, rival_since = (t / 1000 for t in times)
            emotion, songs, rival = (Emotion(mood) if mood else None for mood in moods)
            prediction = Prediction(tuple(share / 10_000 for share in shares))
            chosen, *near = (_place(place) for place in places)
            outgrown = outgrown and outgrown / 1000
        except (TypeError, LookupError) as error:
            raise ValueError(f"this is nobody's reading: {error}") from error
        reading = Reading(prediction, at, emotion, songs, songs_since, rival, rival_since)
        return cls(reading, chosen, tuple(place for place in near if place), int(since), outgrown)


def follow(
    recognizer: Recognizer, frame: Frame, last: Followed, at: float, rules: Smoothing
) -> tuple[tuple[SeenFace, ...], Followed]:
    """The faces in a visitor's next frame, taken at the clock time `at` (seconds), and what to keep for the one after.

    As Follower does, but for a value: the chosen face has the smoothed reading, the others what this frame says.
    """
    size = frame.shape[1], frame.shape[0]
    at = max(at, last.reading.at) if last.reading else at  # another machine's clock may be ahead
    near = [_box_at(place, size) for place in last.near]
    soon = last.reading is not None and at - last.reading.at < LOOK_WITHIN
    look = near if soon and last.since + 1 < LOOK_EVERY and len(near) <= MOST_NEAR else []
    faces = recognizer.for_films().recognize(frame, look)
    others = [*near, *(face.box for face in faces[MOST_KEPT - 1 :])]  # whose places are not remembered, none has moved
    before = _box_at(last.chosen, size) if last.chosen else None
    outgrown = _outgrown(faces, before, last.outgrown, at)
    chosen, another = _choice(faces, before, others, last.reading, outgrown, at)
    reading = _read_on(last.reading, chosen, at, rules, another)
    seen = tuple(
        SeenFace(face.box, reading if face is chosen and reading else Reading(face.prediction, at)) for face in faces
    )
    place = _place_of(chosen.box, size) if chosen else last.chosen if reading else None
    waited = [place] if faces and place and not chosen else []  # where somebody is waited for, is looked as well
    places = [_place_of(face.box, size) for face in faces[: MOST_KEPT - len(waited)]]  # the largest come first
    kept = (*places, *waited) or (last.near if reading else ())
    return seen, Followed(reading, place, kept, last.since + 1 if look and kept else 0, outgrown)


def _outgrown(faces: Sequence[Face], last: Box | None, since: float | None, at: float) -> float | None:
    """Since when a face has been there that is OUTGROWN times as large as the one at `last`; None without one.

    A frame that does not show the one at `last` says nothing.
    """
    if last is None:
        return None
    chosen = main_face(faces, last)
    if chosen is None or chosen.box.overlap(last) < SAME:
        return since
    if max(face.box.area for face in faces) < OUTGROWN * chosen.box.area:
        return None
    return at if since is None else since


def _choice(
    faces: Sequence[Face],
    last: Box | None,
    others: Sequence[Box],
    reading: Reading | None,
    outgrown: float | None,
    at: float,
) -> tuple[Face | None, bool]:
    """The face to follow, and whether it is another one than before.

    That only when the one at `last` stays away, or has been `outgrown` for GIVES_WAY.
    """
    chosen = main_face(faces, last, others)
    if chosen and outgrown is not None and at - outgrown >= GIVES_WAY:
        largest = main_face(faces, None)
        return largest, largest is not chosen
    if chosen or not faces or (reading and at - reading.at < MISSED):
        return chosen, False
    return main_face(faces, None), True


def _read_on(
    last: Reading | None, chosen: Face | None, at: float, rules: Smoothing, another: bool, own: Reading | None = None
) -> Reading | None:
    """The reading after `chosen`. That of `another` face goes on from its `own`; the songs stay those on the page."""
    seen = chosen.prediction if chosen else None
    if not another or last is None:
        return read(last, seen, at, rules)
    reading = read(own, seen, at, rules)
    return replace(reading, songs=last.songs, songs_since=last.songs_since) if reading else None


def warm_up(recognizer: Recognizer) -> None:
    """Read a picture of a visitor's size, so that the first visitor does not wait for what is made at first use."""
    frame = cv2.resize(demo_frame(3.0), (320, 240), interpolation=cv2.INTER_AREA)
    recognizer.recognize(frame, [face.box for face in recognizer.recognize(frame)])


def _box_at(place: Place, size: tuple[int, int]) -> Box:
    x, y, width, height = place
    return Box(round(x * size[0]), round(y * size[1]), round(width * size[0]), round(height * size[1]))


def _place_of(box: Box, size: tuple[int, int]) -> Place:
    return box.x / size[0], box.y / size[1], box.width / size[0], box.height / size[1]


def _place(values: Any) -> Place | None:
    if not values:
        return None
    x, y, width, height = (float(value) for value in values)
    return x, y, width, height
