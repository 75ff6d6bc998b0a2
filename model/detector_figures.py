"""How well faces are found: what counts as found and as false, and pictures as a poor webcam would give them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np

from model.detector import NetworkDetector, inside, overlaps
from model.detector_scenes import moved
from model.detector_set import Faces, Picture

SIZE = 48  # pixels of the longer side of a face's box: smaller ones are ignored
LARGE = 96
MATCH = 0.5  # overlap from which a box is the face's
FRAME = (640, 480)
Find = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""A picture, BGR, to boxes (n, 4) of x, y, width, height and their scores (n,)."""


@dataclass(frozen=True)
class Judged:
    """The faces of a picture to be found, with their sizes, and the score each was found with (NaN when missed).

    `false` are the scores of the boxes that are no face.
    """

    sizes: np.ndarray
    scores: np.ndarray
    false: np.ndarray

    def at(self, threshold: float) -> Judged:
        """What is left of it at a threshold."""
        kept = np.where(self.scores >= threshold, self.scores, np.nan)
        return Judged(self.sizes, kept, self.false[self.false >= threshold])


@dataclass(frozen=True)
class Figures:
    """Recall, precision and false faces of `n_pictures` with `n_faces` faces to be found."""

    n_pictures: int
    n_faces: int
    recall: float
    recall_96: float
    precision: float
    false_per_100: float

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON, to four decimals; null for what is a share of nothing."""
        shares = {name: getattr(self, name) for name in ("recall", "recall_96", "precision", "false_per_100")}
        return {**for_json(shares), "n_faces": self.n_faces, "n_pictures": self.n_pictures}


def for_json(figures: Mapping[str, float]) -> dict[str, float | None]:
    """The figures to four decimals; None for NaN, which JSON does not know."""
    return {name: None if math.isnan(value) else round(value, 4) for name, value in figures.items()}


def finder(detector: NetworkDetector, threshold: float) -> Find:
    """The detector as the figures ask it: with scores, from `threshold` on."""

    def find(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = detector.scan(pixels, threshold)
        return found.boxes, found.scores

    return find


def judge(find: Find, picture: Picture) -> Judged:
    """Look for the faces of one picture and compare.

    Best first, a box takes the face that it overlaps most, by MATCH or more. A box that takes none counts
    neither way where it overlaps an ignored face as much, or lies in one by half; else it is false.
    """
    faces = clipped(picture)
    boxes, scores = find(picture.pixels)
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    asked = to_be_found(faces)
    found, false = np.full(int(asked.sum()), np.nan), []
    to_find, to_ignore = faces.boxes[asked], faces.boxes[~asked]
    alike = overlaps(boxes, to_find) * np.ones((len(boxes), len(to_find)))
    for i, score in enumerate(scores):
        open_ = np.where(np.isnan(found), alike[i], 0)
        if len(open_) and open_.max() >= MATCH:
            found[open_.argmax()] = score
        elif not _in_any(boxes[i], to_ignore):
            false.append(score)
    return Judged(to_find[:, 2:].max(axis=1, initial=0), found, np.array(false))


def to_be_found(faces: Faces) -> np.ndarray:
    """Which of the faces count (n,): those of SIZE and more that are not ignored."""
    return np.asarray(~faces.ignored & (faces.boxes[:, 2:].max(axis=1, initial=0) >= SIZE))


def _in_any(box: np.ndarray, others: np.ndarray) -> bool:
    return bool((overlaps(box[None], others) >= MATCH).any() or (inside(box, others) >= 0.5).any())


def clipped(picture: Picture) -> Faces:
    """The picture's faces, their boxes cut at its edges; those outside are left out."""
    faces = picture.faces
    size = np.array(picture.pixels.shape[1::-1], np.float32)
    low = faces.boxes[:, :2].clip(0, size)
    high = (faces.boxes[:, :2] + faces.boxes[:, 2:]).clip(0, size)
    kept = (high > low).all(axis=1)
    return Faces(np.hstack([low, high - low]), faces.landmarks, faces.ignored).only(kept)


def figures(judged: Sequence[Judged]) -> Figures:
    """The figures of several pictures."""
    sizes = np.concatenate([one.sizes for one in judged]) if judged else np.zeros(0)
    hit = np.concatenate([~np.isnan(one.scores) for one in judged]) if judged else np.zeros(0, bool)
    false = sum(len(one.false) for one in judged)
    boxes = int(hit.sum()) + false
    return Figures(
        len(judged),
        len(sizes),
        _share(hit),
        _share(hit[sizes >= LARGE]),
        float(hit.sum() / boxes) if boxes else math.nan,
        100 * false / len(judged) if judged else math.nan,
    )


def by_size(judged: Sequence[Judged], edges: Sequence[float] = (48, 64, 96, 160, 320)) -> dict[str, tuple[int, float]]:
    """How many faces of each size there are, and what share of them was found."""
    sizes = np.concatenate([one.sizes for one in judged])
    hit = np.concatenate([~np.isnan(one.scores) for one in judged])
    found = {}
    for low, high in zip(edges, [*edges[1:], math.inf], strict=True):
        chosen = (sizes >= low) & (sizes < high)
        name = f"{low:.0f} to {high:.0f} px" if high < math.inf else f"{low:.0f} px and more"
        found[name] = (int(chosen.sum()), _share(hit[chosen]))
    return found


def _share(hit: np.ndarray) -> float:
    return float(hit.mean()) if len(hit) else math.nan


# -- versions of the pictures --------------------------------------------------------------------


def turned(picture: Picture, degrees: float) -> Picture:
    """Turned around its middle onto a larger canvas, so that nothing is cut off."""
    height, width = picture.pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    size = np.ceil(np.abs(matrix[:, :2]) @ [width, height]).astype(int)
    matrix[:, 2] += size / 2 - np.array([width, height]) / 2
    pixels = cv2.warpAffine(
        picture.pixels, matrix, tuple(map(int, size)), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return replace(picture, pixels=pixels, faces=moved(picture.faces, matrix))


def darkened(picture: Picture, light: float) -> Picture:
    """With a share of the light."""
    return replace(picture, pixels=(picture.pixels * light).astype(np.uint8))


def blurred(picture: Picture) -> Picture:
    """Out of focus: a Gaussian of 1/160 of the longer side (4 pixels of 640)."""
    return replace(picture, pixels=cv2.GaussianBlur(picture.pixels, (0, 0), max(picture.pixels.shape[:2]) / 160))


def grainy(picture: Picture) -> Picture:
    """Sensor noise with a standard deviation of 15 levels."""
    noise = np.random.default_rng(picture.pixels.shape[:2]).normal(0, 15, picture.pixels.shape)
    return replace(picture, pixels=(picture.pixels + noise).clip(0, 255).astype(np.uint8))


def grey(picture: Picture) -> Picture:
    """Without colour."""
    pixels = cv2.cvtColor(cv2.cvtColor(picture.pixels, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return replace(picture, pixels=pixels)


def backlit(picture: Picture) -> Picture:
    """Each face in a third of the light, what lies far from it half as bright again."""
    height, width = picture.pixels.shape[:2]
    gain = np.full((height, width), 1.5, np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    for box in picture.faces.boxes:
        middle, reach = box[:2] + box[2:] / 2, box[2:].max()
        gain -= (gain - 0.33) * np.exp(-((x - middle[0]) ** 2 + (y - middle[1]) ** 2) / (2 * reach**2))
    return replace(picture, pixels=(picture.pixels * gain[..., None]).clip(0, 255).astype(np.uint8))


def half_hidden(picture: Picture) -> Picture:
    """Something over the lower 45 % of each face: a hand (its own colour), a dark cloth or a bright one, in turn."""
    pixels = picture.pixels.copy()
    for i, (x, y, width, height) in enumerate(clipped(picture).boxes):
        rows = slice(int(y + 0.55 * height), int(y + 1.1 * height) + 1)
        columns = slice(max(0, int(x - 0.08 * width)), int(x + 1.08 * width) + 1)
        skin = pixels[int(y + 0.3 * height) : int(y + 0.6 * height) + 1, int(x) : int(x + width) + 1]
        pixels[rows, columns] = (skin.reshape(-1, 3).mean(axis=0) * 0.9, (50, 40, 40), (200, 190, 180))[
            (i + len(picture.name)) % 3
        ]
    return replace(picture, pixels=pixels)


def in_rooms(pictures: Sequence[Picture], seed: int = 2013) -> list[Picture]:
    """FRAMEs as a webcam gives them: two pictures with faces, shrunk, in front of each backdrop without any."""
    rng = np.random.default_rng(seed)
    people = [one for one in pictures if (~one.faces.ignored).any()]
    empty = [one for one in pictures if not len(one.faces)]
    rooms = [filled(one.pixels) for one in empty] or [np.full((FRAME[1], FRAME[0], 3), 110, np.uint8)]
    made = []
    for i in range(0, len(people) - 1, 2):
        room, faces = rooms[i // 2 % len(rooms)].copy(), []
        for half, one in enumerate(people[i : i + 2]):
            faces.append(_put(room, one, half * FRAME[0] // 2, rng))
        made.append(Picture(f"{people[i].name} + {people[i + 1].name}", room, Faces.joined(faces)))
    return made


def filled(pixels: np.ndarray, times: float = 1.0) -> np.ndarray:
    """A picture as large as a FRAME, or so many `times` as large, cut to its shape."""
    width, height = (round(side * times) for side in FRAME)
    scale = max(width / pixels.shape[1], height / pixels.shape[0])
    large = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return cv2.resize(large[:height, :width], (width, height))


def _put(room: np.ndarray, picture: Picture, left: int, rng: np.random.Generator) -> Faces:
    """`picture`, so that its largest face has 50 to 240 pixels, somewhere in one half of the room."""
    wanted = math.exp(rng.uniform(math.log(50), math.log(240)))
    largest = picture.faces.boxes[~picture.faces.ignored, 2:].max()
    height, width = picture.pixels.shape[:2]
    scale = min(wanted / largest, FRAME[0] / 2 / width, FRAME[1] / height)
    small = cv2.resize(picture.pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    small = small[: FRAME[1], : FRAME[0] // 2]
    x = left + int(rng.integers(FRAME[0] // 2 - small.shape[1] + 1))
    y = int(rng.integers(FRAME[1] - small.shape[0] + 1))
    room[y : y + small.shape[0], x : x + small.shape[1]] = small
    return moved(picture.faces, np.array([[scale, 0, x], [0, scale, y]]))


VERSIONS: dict[str, Callable[[Picture], Picture]] = {
    "as given": lambda picture: picture,
    "turned +25 degrees": lambda picture: turned(picture, 25),
    "turned -25 degrees": lambda picture: turned(picture, -25),
    "dark (a quarter)": lambda picture: darkened(picture, 0.25),
    "blurred": blurred,
    "lower half hidden": half_hidden,
    "grey": grey,
    "grain": grainy,
    "backlit": backlit,
}
TILTS: dict[str, Callable[[Picture], Picture]] = {
    f"turned {degrees} degrees": partial(turned, degrees=degrees) for degrees in (10, 20, 30, 40)
}
LIGHTS: dict[str, Callable[[Picture], Picture]] = {
    f"{light:.0%} of the light": partial(darkened, light=light) for light in (0.5, 0.25, 0.12, 0.06)
}


def judged(find: Find, pictures: Iterable[Picture]) -> list[Judged]:
    """Every picture, judged."""
    return [judge(find, picture) for picture in pictures]
