"""Made scenes to train the face detector on: what a webcam may see, put together from pictures with faces.

A scene is a view of one picture, or a backdrop without faces, with faces of other pictures pasted onto it:
turned, shrunk, half covered, badly lit, blurred. Patches without faces are pasted the same way, so that an
edge in the picture is no sign of a face.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

from model.augment import BORDERS
from model.detector_set import Faces, LabelError, Picture

T = TypeVar("T")

SMALLEST, LARGEST = 12.0, 120.0  # pixels of a scene: the longer side of the boxes that are asked for
ENORMOUS = 420.0  # pixels: faces of which only a part is seen, so that parts are not taken for faces
OUTSIZE = 1.35  # of the scene's side: parts of larger faces are no faces
TILT = 15.0  # degrees: the standard deviation of a face's roll, unless told otherwise
MOST_TILT = 42.0
COVERED = 0.25  # share of a box under a paste from which the face is no longer asked for
GONE = 0.85  # share under a paste from which nothing of the face is left
VISIBLE = 0.6  # share of a box inside the scene from which the face is asked for
AGAIN = 0.25  # share of the faces shown that are taken from those missed
ROOMY = {"coco128", "maskds", "sliding", "vhuman"}  # sources that show people, not only heads
MIRRORED = (1, 0, 2, 4, 3)  # landmarks of a mirrored face


@dataclass(frozen=True)
class Patch:
    """A place in a picture: one that was taken for a face and is none, or a face that was missed."""

    picture: Picture
    box: tuple[float, float, float, float]


class Album:
    """What scenes are made of: pictures with faces, roomy ones apart, pictures without, and hard patches.

    `tilt` is the standard deviation of a face's roll, in degrees; `missed` are the faces to show more often.
    Raises LabelError when no picture has a face that counts.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        hard: Sequence[Patch] = (),
        tilt: float = TILT,
        missed: Sequence[Patch] = (),
    ) -> None:
        self.faces = [one for one in pictures if (~one.faces.ignored).any()]
        if not self.faces:
            raise LabelError(
                f"none of the {len(pictures)} pictures of a split has a face that counts: label some with ignore 0, "
                "for train and for val"
            )
        self.empty = [one for one in pictures if not len(one.faces)] or self.faces
        self.roomy = [one for one in self.faces if one.source in ROOMY] or self.faces
        self.hard, self.tilt, self.missed = list(hard), tilt, list(missed)

    def face(self, rng: np.random.Generator, roomy: bool = False) -> tuple[Picture, np.ndarray]:
        """A picture and the box (4,) of one of its faces."""
        if self.missed and rng.random() < AGAIN:
            patch = _pick(self.missed, rng)
            return patch.picture, np.array(patch.box, np.float32)
        picture = _pick(self.roomy if roomy else self.faces, rng)
        return picture, picture.faces.boxes[_pick(np.flatnonzero(~picture.faces.ignored), rng)]


def make_scene(album: Album, side: int, rng: np.random.Generator) -> tuple[np.ndarray, Faces]:
    """A scene (side, side, 3) uint8 BGR, and its faces."""
    canvas = _backdrop(album, side, rng)
    faces = Faces.none()
    view = rng.random() < 0.5
    if view:
        roomy = bool(rng.random() < 0.6)
        canvas, faces = _with_view(canvas, *album.face(rng, roomy), album.tilt, rng)
    for _ in range(rng.integers(0, 3) if view else rng.integers(0, 6)):
        paste = _bare if rng.random() < 0.2 else _face
        canvas, faces = paste(canvas, faces, album, rng)
    if album.hard and rng.random() < 0.5:
        canvas, faces = _hard(canvas, faces, album, rng)
    for i in np.flatnonzero(~faces.ignored):
        _cover(canvas, faces.boxes[i], album, rng)
    return _seen_badly(canvas, rng), _asked_for(faces, side)


def _pick(several: Sequence[T] | np.ndarray, rng: np.random.Generator) -> T:
    return several[int(rng.integers(len(several)))]


def _backdrop(album: Album, side: int, rng: np.random.Generator) -> np.ndarray:
    """A part of a picture without faces that fills the scene."""
    pixels = _pick(album.empty, rng).pixels
    if album.empty is album.faces:
        return np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8)
    shortest = min(pixels.shape[:2])
    part = max(8, int(shortest * rng.uniform(0.4, 1.0)))
    top, left = rng.integers(0, pixels.shape[0] - part + 1), rng.integers(0, pixels.shape[1] - part + 1)
    cut = pixels[top : top + part, left : left + part]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    return cv2.resize(cut, (side, side), interpolation=cv2.INTER_LINEAR)


def _size(smallest: float, largest: float, rng: np.random.Generator) -> float:
    return float(math.exp(rng.uniform(math.log(smallest), math.log(largest))))


def _tilt(spread: float, rng: np.random.Generator) -> float:
    tilt = rng.normal(0, spread) if rng.random() < 0.75 else rng.uniform(-MOST_TILT, MOST_TILT)
    return float(np.clip(tilt, -MOST_TILT, MOST_TILT))


def _with_view(
    canvas: np.ndarray, picture: Picture, box: np.ndarray, tilt: float, rng: np.random.Generator
) -> tuple[np.ndarray, Faces]:
    """The scene as a view of `picture`, its face in `box` somewhere in it and of a chosen size."""
    side = canvas.shape[0]
    size = _size(LARGEST, ENORMOUS, rng) if rng.random() < 0.15 else _size(14, LARGEST, rng)
    scale = min(size / max(box[2], box[3]), 2.5)
    at = rng.uniform(0.08, 0.92, 2) * side
    pixels, matrix = _placed(
        picture.pixels, box[:2] + box[2:] / 2, at, scale, _tilt(tilt, rng), bool(rng.random() < 0.5)
    )
    border = cv2.BORDER_TRANSPARENT if rng.random() < 0.6 else _pick(BORDERS, rng)
    cv2.warpAffine(pixels, matrix[0], (side, side), dst=canvas, flags=cv2.INTER_LINEAR, borderMode=border)
    return canvas, moved(picture.faces, matrix[1])


def _placed(
    pixels: np.ndarray, middle: np.ndarray, at: np.ndarray, scale: float, tilt: float, mirror: bool
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Pixels, perhaps shrunk first, with the warp of these; and the warp of the picture as it was: `middle` to `at`."""
    turn = math.radians(tilt)
    linear = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    if mirror:
        linear = linear @ np.diag([-1.0, 1.0])
    whole = np.hstack([linear, (at - linear @ middle)[:, None]])
    if scale >= 0.6:
        return pixels, (whole, whole)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    factor = np.array([small.shape[1] / pixels.shape[1], small.shape[0] / pixels.shape[0]])
    return small, (np.hstack([linear / factor, whole[:, 2:]]), whole)


def moved(faces: Faces, matrix: np.ndarray) -> Faces:
    """Faces after a warp: a box is taken for the oval inside it, and is the box of the turned oval again."""
    boxes, linear = faces.boxes, matrix[:, :2]
    middles = (boxes[:, :2] + boxes[:, 2:] / 2) @ linear.T + matrix[:, 2]
    sizes = np.sqrt((boxes[:, 2:] ** 2) @ (linear**2).T)
    landmarks = faces.landmarks @ linear.T + matrix[:, 2]
    if np.linalg.det(linear) < 0:
        landmarks = landmarks[:, MIRRORED]
    moved = np.hstack([middles - sizes / 2, sizes])
    return Faces(moved.astype(np.float32), landmarks.astype(np.float32), faces.ignored)


def _face(canvas: np.ndarray, faces: Faces, album: Album, rng: np.random.Generator) -> tuple[np.ndarray, Faces]:
    """A face of another picture, with some of what surrounds it, pasted."""
    side = canvas.shape[0]
    picture, box = album.face(rng)
    scale = min(_size(SMALLEST + 1, 0.6 * side, rng) / max(box[2], box[3]), 2.0)
    return _paste(canvas, faces, album, picture, box, scale, rng, own=picture.faces)


def _bare(canvas: np.ndarray, faces: Faces, album: Album, rng: np.random.Generator) -> tuple[np.ndarray, Faces]:
    """A patch without a face, pasted as faces are."""
    picture = _pick(album.empty, rng)
    if album.empty is album.faces:
        return canvas, faces
    size = np.array(picture.pixels.shape[1::-1]) * rng.uniform(0.2, 0.9)
    corner = (np.array(picture.pixels.shape[1::-1]) - size) * rng.random(2)
    scale = _size(SMALLEST, 0.6 * canvas.shape[0], rng) / max(size)
    return _paste(canvas, faces, album, picture, np.concatenate([corner, size]), scale, rng)


def _hard(canvas: np.ndarray, faces: Faces, album: Album, rng: np.random.Generator) -> tuple[np.ndarray, Faces]:
    """Patches that were taken for faces, at about the size at which they were."""
    for _ in range(rng.integers(1, 4)):
        patch = _pick(album.hard, rng)
        scale = float(np.clip(_size(0.5, 1.6, rng), 14 / max(patch.box[2:]), 130 / max(patch.box[2:])))
        box = np.array(patch.box, np.float32)
        canvas, faces = _paste(canvas, faces, album, patch.picture, box, scale, rng, own=patch.picture.faces, least=1.5)
    return canvas, faces


def _paste(
    canvas: np.ndarray,
    faces: Faces,
    album: Album,
    picture: Picture,
    box: np.ndarray,
    scale: float,
    rng: np.random.Generator,
    own: Faces | None = None,
    least: float = 1.05,
) -> tuple[np.ndarray, Faces]:
    """`box` of `picture` and a margin of it pasted somewhere, as a rectangle or an oval with a soft edge."""
    side = canvas.shape[0]
    at = rng.uniform(0.03, 0.97, 2) * side
    middle = box[:2] + box[2:] / 2
    tilt, mirror = _tilt(album.tilt, rng), bool(rng.random() < 0.5)
    pixels, (warp, whole) = _placed(picture.pixels, middle, at, scale, tilt, mirror)
    margin = rng.uniform(least, 2.6)
    mask = _mask(picture.pixels.shape, pixels.shape, box, margin, rng)
    reach = math.ceil(0.9 * margin * scale * float(max(box[2:]))) + 2  # no mask is wider
    left, top = (max(0, int(edge) - reach) for edge in at)
    right, bottom = (min(side, int(edge) + reach) for edge in at)
    warp = warp - np.array([[0, 0, left], [0, 0, top]])
    size = (right - left, bottom - top)
    over = cv2.warpAffine(pixels, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(mask, warp, size, flags=cv2.INTER_LINEAR)
    under = canvas[top:bottom, left:right]
    weight = share.astype(np.float32) / 255
    canvas[top:bottom, left:right] = cv2.blendLinear(over, np.ascontiguousarray(under), weight, 1 - weight)
    shown = np.zeros((side, side), np.uint8)
    shown[top:bottom, left:right] = share
    kept = _uncovered(faces, shown)
    return canvas, Faces.joined([kept, _inside(moved(own, whole), shown)] if own is not None else [kept])


def _mask(
    full: tuple[int, ...], size: tuple[int, ...], box: np.ndarray, margin: float, rng: np.random.Generator
) -> np.ndarray:
    """What of a picture is pasted: 255 inside, in pixels of the picture shrunk from `full` to `size`."""
    factor = size[1] / full[1]
    mask = np.zeros(size[:2], np.uint8)
    middle, half = (box[:2] + box[2:] / 2) * factor, box[2:] / 2 * margin * factor
    if rng.random() < 0.5:
        low, high = (middle - half).astype(int).clip(0), (middle + half).astype(int).clip(0)
        mask[low[1] : high[1] + 1, low[0] : high[0] + 1] = 255
    else:
        whole = tuple(int(edge) for edge in middle), tuple(max(1, int(edge * 1.15)) for edge in half)
        cv2.ellipse(mask, whole[0], whole[1], 0, 0, 360, 255, -1)
    if rng.random() < 0.5:
        blur = 2 * int(max(half) * 0.06) + 3
        mask = cv2.blur(mask, (blur, blur))
    return mask


def _shares(faces: Faces, shown: np.ndarray) -> np.ndarray:
    """The share of each box that lies in `shown` (side, side), 0 to 255; what is outside the scene does not."""
    sums = cv2.integral(shown)
    edges = np.concatenate([faces.boxes[:, :2], faces.boxes[:, :2] + faces.boxes[:, 2:]], axis=1).round()
    left, top, right, bottom = edges.astype(int).clip(0, shown.shape[0]).T
    total = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return total / (255 * np.maximum(1, (right - left) * (bottom - top)))


def _uncovered(faces: Faces, shown: np.ndarray) -> Faces:
    shares = _shares(faces, shown)
    rest = faces.only(shares < GONE)
    return Faces(rest.boxes, rest.landmarks, rest.ignored | (shares[shares < GONE] > COVERED))


def _inside(faces: Faces, shown: np.ndarray) -> Faces:
    """The faces of what was pasted: those of which a part came along."""
    shares = _shares(faces, shown)
    rest = faces.only(shares > 1 - GONE)
    return Faces(rest.boxes, rest.landmarks, rest.ignored | (shares[shares > 1 - GONE] < 0.8))


def _asked_for(faces: Faces, side: int) -> Faces:
    """Faces in the scene; ignored where they are too small, too large or cut off, left out where little is seen."""
    corners = np.concatenate([faces.boxes[:, :2], faces.boxes[:, :2] + faces.boxes[:, 2:]], axis=1)
    inside = np.prod(corners.clip(0, side)[:, 2:] - corners.clip(0, side)[:, :2], axis=1)
    visible = inside / np.maximum(1, np.prod(faces.boxes[:, 2:], axis=1))
    longest = faces.boxes[:, 2:].max(axis=1) if len(faces) else np.zeros(0)
    ignored = faces.ignored | (visible < VISIBLE) | (longest < SMALLEST) | (longest > LARGEST)
    return Faces(faces.boxes, faces.landmarks, ignored).only((visible > 0.1) & (longest < OUTSIZE * side))


# -- what hides a face, and what spoils a picture


def _cover(canvas: np.ndarray, box: np.ndarray, album: Album, rng: np.random.Generator) -> None:
    """Now and then something in front of a face: over mouth and chin, brows, eyes, or a side of it."""
    kind = rng.random()
    if kind < 0.15:
        _put(canvas, box, (-0.15, rng.uniform(0.48, 0.62), 1.15, rng.uniform(1.0, 1.4)), album, rng)
    elif kind < 0.21:
        _put(canvas, box, (-0.2, rng.uniform(-0.5, -0.2), 1.2, rng.uniform(0.05, 0.25)), album, rng)
    elif kind < 0.25:
        _put(canvas, box, (0.05, rng.uniform(0.22, 0.3), 0.95, rng.uniform(0.4, 0.5)), album, rng)
    elif kind < 0.29:
        edge = rng.uniform(0.2, 0.4)
        across = (-0.2, edge) if rng.random() < 0.5 else (1 - edge, 1.2)
        _put(canvas, box, (across[0], rng.uniform(-0.1, 0.5), across[1], rng.uniform(0.7, 1.2)), album, rng)


def _put(
    canvas: np.ndarray,
    box: np.ndarray,
    shares: tuple[float, float, float, float],
    album: Album,
    rng: np.random.Generator,
) -> None:
    """Skin, a colour, or a piece of a picture over a part of `box` (shares of it), as a rectangle or an oval."""
    side = canvas.shape[0]
    edges = np.array([box[0], box[1]] * 2) + np.array(shares) * np.array([box[2], box[3]] * 2)
    left, top, right, bottom = edges.round().astype(int).clip(0, side)
    if right - left < 2 or bottom - top < 2:
        return
    part = canvas[top:bottom, left:right]
    cover = _cloth(part, box, canvas, album, rng)
    mask = np.full(part.shape[:2], 255, np.uint8)
    if rng.random() < 0.5:
        mask[:] = 0
        middle = ((right - left) // 2, (bottom - top) // 2)
        cv2.ellipse(mask, middle, (int(middle[0] * 1.15) + 1, int(middle[1] * 1.1) + 1), 0, 0, 360, 255, -1)
    cv2.copyTo(cover, mask, part)


def _cloth(part: np.ndarray, box: np.ndarray, canvas: np.ndarray, album: Album, rng: np.random.Generator) -> np.ndarray:
    kind, size = rng.random(), part.shape[1::-1]
    if kind < 0.35 and album.empty is not album.faces:
        pixels = _pick(album.empty, rng).pixels
        half = max(4, min(pixels.shape[:2]) // 3)
        top, left = rng.integers(0, pixels.shape[0] - half), rng.integers(0, pixels.shape[1] - half)
        return cv2.resize(pixels[top : top + half, left : left + half], size, interpolation=cv2.INTER_LINEAR)
    if 0.35 <= kind < 0.7:
        x, y, width, height = (max(0, int(edge)) for edge in box)
        skin = canvas[y + height // 3 : y + height * 2 // 3 + 1, x + width // 4 : x + width * 3 // 4 + 1]
        colour = skin.reshape(-1, 3).mean(axis=0) * rng.uniform(0.7, 1.2) if skin.size else np.full(3, 128.0)
    else:
        colour = rng.integers(0, 256, 3).astype(float)
    shade = np.linspace(rng.uniform(0.7, 1.1), rng.uniform(0.7, 1.1), size[1])[:, None, None]
    rows = (colour * shade).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(rows, part.shape))


def _seen_badly(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The scene as a camera gives it: other light and colours, blur, grain, JPEG."""
    if rng.random() < 0.12:
        canvas = _backlit(canvas, rng)
    if rng.random() < 0.7:
        canvas = _lit(canvas, rng)
    if rng.random() < 0.25:
        canvas = cv2.cvtColor(cv2.cvtColor(canvas, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    kind = rng.random()
    if kind < 0.12:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.5, 2.0))
    elif kind < 0.2:
        canvas = cv2.filter2D(canvas, -1, _motion(rng))
    elif kind < 0.26:
        small = cv2.resize(canvas, None, fx=(share := rng.uniform(0.4, 0.8)), fy=share, interpolation=cv2.INTER_AREA)
        canvas = cv2.resize(small, canvas.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.3:
        grain = np.empty(canvas.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(1 << 30)))
        cv2.randn(grain, 0, rng.uniform(2, 20))
        canvas = cv2.add(canvas, grain, dtype=cv2.CV_8U)
    if rng.random() < 0.2:
        _, content = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 75))])
        canvas = cv2.imdecode(content, cv2.IMREAD_COLOR)
    return canvas


def _lit(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another gamma, contrast and brightness, a little different for each colour; one in five in the dark."""
    levels = np.linspace(0, 1, 256)[:, None] ** np.exp(rng.uniform(-0.7, 0.7) + rng.normal(0, 0.08, 3))
    levels = (levels - 0.5) * rng.uniform(0.4, 1.3) + 0.5 + rng.uniform(-0.15, 0.15) + rng.normal(0, 0.03, 3)
    if rng.random() < 0.2:
        levels = levels.clip(0, 1) * rng.uniform(0.15, 0.6)
    return cv2.LUT(canvas, (levels.clip(0, 1) * 255).astype(np.uint8).reshape(256, 1, 3))


def _backlit(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light from one place, mostly behind: gain that falls or rises across the scene."""
    side = canvas.shape[0]
    y, x = np.mgrid[0:16, 0:16].astype(np.float32) / 15
    at = rng.uniform(-0.2, 1.2, 2)
    glow = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * rng.uniform(0.2, 0.6) ** 2))
    low, high = rng.uniform(0.25, 0.8), rng.uniform(1.0, 2.2)
    gain = low + (high - low) * (glow if rng.random() < 0.6 else 1 - glow)
    gain = cv2.resize(gain.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(canvas, cv2.merge([gain] * 3), dtype=cv2.CV_8U)


def _motion(rng: np.random.Generator) -> np.ndarray:
    """The kernel of a camera or a head that moved by 3 to 7 pixels."""
    kernel = np.zeros((7, 7), np.float32)
    angle, reach = rng.uniform(0, math.pi), rng.uniform(1.5, 3.5)
    step = np.array([math.cos(angle), math.sin(angle)]) * reach
    low, high = (np.array([3, 3]) - step).round().astype(int), (np.array([3, 3]) + step).round().astype(int)
    cv2.line(kernel, tuple(map(int, low)), tuple(map(int, high)), 1.0, 1)
    return kernel / kernel.sum()
