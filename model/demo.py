"""The demo: a face of nobody that goes through the seven emotions, for when no camera is plugged in.

Real pixels for the real pipeline, never a script of labels: what the site shows for them is what
the network reads. `demo_faces.png` holds the seven faces side by side (see `model.make_demo`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from model.emotions import EMOTIONS, Emotion
from model.litert import WeightsError

ATLAS = Path(__file__).parent / "demo_faces.png"
TILE = 288  # pixels of one face in the atlas, both ways
DARKEST = 34  # brightness of a head's darkest pixel in the atlas; below it, how far the background shows
WIDTH, HEIGHT = 640, 480

ORDER = (
    Emotion.HAPPY,
    Emotion.SURPRISE,
    Emotion.FEAR,
    Emotion.DISGUST,
    Emotion.ANGRY,
    Emotion.SAD,
    Emotion.NEUTRAL,
)
SECONDS_EACH = 9.0
BLEND_SECONDS = 1.5  # the last of SECONDS_EACH
LOOP_SECONDS = SECONDS_EACH * len(ORDER)

MIDDLE = (320.0, 238.0)  # where in the frame the middle of the face rests, pixels
SIZE = TILE * 3 // 2  # frame pixels of a face and its surroundings, when it is neither near nor far
SKIN = {  # brightness in the atlas: colour (red, green, blue); the tint of an old photograph
    0: (0, 0, 0),
    DARKEST: (24, 17, 25),
    90: (104, 60, 54),
    140: (167, 110, 86),
    190: (221, 169, 138),
    225: (245, 207, 178),
    255: (255, 238, 221),
}
WALL, GLOW = (38, 44, 58), (104, 120, 140)  # colour (red, green, blue) at the corners and behind the head
CLOTHES = (30, 30, 44)


class DemoError(WeightsError):
    """The demo's faces cannot be read; the message says why and what to do."""


def demo_frame(seconds: float) -> np.ndarray:
    """The picture at a time of the loop: 480 x 640 x 3, BGR, uint8."""
    stage = _stage()
    head = cv2.warpAffine(_face_at(stage, seconds), _pose(seconds), (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
    behind = cv2.multiply(stage.wall, cv2.applyColorMap(head, stage.gaps), scale=1 / 255)
    return cv2.add(behind, cv2.applyColorMap(head, stage.colours))


def emotion_at(seconds: float) -> Emotion:
    """The emotion meant at a time of the loop; amid a blend, the one that has the larger part."""
    index, blend = _moment(seconds)
    return ORDER[(index + (blend > 0.5)) % len(ORDER)]


@dataclass(frozen=True)
class _Stage:
    """What every frame is made of: faces in ORDER, SIZE x SIZE, flows to the next face and back, background.

    `colours` and `gaps` give the colour of each brightness and how much of the background shows there.
    """

    faces: list[np.ndarray]
    onward: list[np.ndarray]
    back: list[np.ndarray]
    colours: np.ndarray
    gaps: np.ndarray
    wall: np.ndarray


@cache
def _stage(atlas: Path = ATLAS) -> _Stage:
    tiles = dict(zip(EMOTIONS, _read_tiles(atlas), strict=True))
    faces = [tiles[emotion] for emotion in ORDER]
    following = faces[1:] + faces[:1]
    return _Stage(
        faces,
        onward=[_flow(a, b) for a, b in zip(faces, following, strict=True)],
        back=[_flow(b, a) for a, b in zip(faces, following, strict=True)],
        colours=_colours(),
        gaps=_gaps(),
        wall=_wall(),
    )


def _read_tiles(atlas: Path) -> list[np.ndarray]:
    remedy = "restore it from the repository, or make it with .venv/bin/python -m model.make_demo"
    try:
        content = np.fromfile(atlas, np.uint8)
    except OSError as error:
        raise DemoError(f"the demo's faces {atlas} cannot be read ({error.strerror}): {remedy}") from error
    picture = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE) if content.size else None
    if picture is None or picture.shape != (TILE, TILE * len(EMOTIONS)):
        raise DemoError(f"the demo's faces {atlas} are not {len(EMOTIONS)} pictures of {TILE} pixels: {remedy}")
    tiles = np.split(picture, len(EMOTIONS), axis=1)
    return [cv2.resize(tile, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for tile in tiles]


def _flow(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """For each pixel of `start`, how far away it lies in `end` (x and y, pixels)."""
    small = [cv2.resize(face, (TILE, TILE), interpolation=cv2.INTER_AREA) for face in (start, end)]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*small, None)
    flow = (flow + flow[:, ::-1] * np.array((-1, 1), np.float32)) / 2  # faces are symmetric: nothing may slide sideways
    return cv2.resize(cv2.GaussianBlur(flow, (0, 0), 5), (SIZE, SIZE)) * np.float32(SIZE / TILE)


def _moment(seconds: float) -> tuple[int, float]:
    """Which face of ORDER, and how far (0 to 1) on the way to the next."""
    index, into = divmod(seconds % LOOP_SECONDS, SECONDS_EACH)
    share = max(0.0, 1 - (SECONDS_EACH - into) / BLEND_SECONDS)
    return int(index) % len(ORDER), share * share * (3 - 2 * share)


def _face_at(stage: _Stage, seconds: float) -> np.ndarray:
    """The face, SIZE x SIZE; amid a blend both faces are bent to the shape between them, then mixed."""
    index, blend = _moment(seconds)
    face = stage.faces[index]
    if blend == 0:
        return face
    start = _bent(face, stage.back[index], blend)
    end = _bent(stage.faces[(index + 1) % len(ORDER)], stage.onward[index], 1 - blend)
    return cv2.addWeighted(start, 1 - blend, end, blend, 0)


def _bent(face: np.ndarray, flow: np.ndarray, share: float) -> np.ndarray:
    """A face bent by a share of the flow that leads from its neighbour to it."""
    return cv2.remap(face, cv2.scaleAdd(flow, share, _places()), None, cv2.INTER_LINEAR)


@cache
def _places() -> np.ndarray:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    return np.dstack([x, y])


def _pose(seconds: float) -> np.ndarray:
    """Where the head is: a slow sway, nod and breath, each a whole number of times a loop."""
    turn = 2 * math.pi * seconds / LOOP_SECONDS
    tilt = 1.6 * math.sin(7 * turn) + 0.5 * math.sin(11 * turn + 1)  # degrees
    scale = 1.01 * (1 + 0.012 * math.sin(15 * turn) + 0.012 * math.sin(4 * turn + 2))
    middle = (SIZE - 1) / 2
    pose = cv2.getRotationMatrix2D((middle, middle), tilt, scale)
    pose[0, 2] += MIDDLE[0] - middle + 9 * math.sin(5 * turn + 0.5)
    pose[1, 2] += MIDDLE[1] - middle + 4 * math.sin(9 * turn)
    return pose


def _colours() -> np.ndarray:
    """The colour of each brightness, as `cv2.applyColorMap` takes it."""
    channels = [np.interp(np.arange(256), list(SKIN), [rgb[channel] for rgb in SKIN.values()]) for channel in (2, 1, 0)]
    return np.stack(channels, axis=-1).round().astype(np.uint8).reshape(256, 1, 3)


def _gaps() -> np.ndarray:
    """How much of the background shows (0 to 255) at each brightness, as `cv2.applyColorMap` takes it."""
    shows = np.clip(255 * (1 - np.arange(256) / DARKEST), 0, 255).round().astype(np.uint8)
    return np.repeat(shows, 3).reshape(256, 1, 3)


def _wall() -> np.ndarray:
    """The background: a wall with a glow, and shoulders."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    glow = np.exp(-(((x - MIDDLE[0]) / 290) ** 2) - ((y - MIDDLE[1] + 30) / 230) ** 2)[..., None]
    colour = _bgr(WALL) * (1 - glow) + _bgr(GLOW) * glow
    clothed = _shoulders()[..., None]
    colour = colour * (1 - clothed) + _bgr(CLOTHES) * (0.75 + 0.25 * glow) * clothed
    grain = np.random.default_rng(7).uniform(-0.5, 0.5, colour.shape)  # or slow changes show as bands
    return (colour + grain).round().clip(0, 255).astype(np.uint8)


def _shoulders() -> np.ndarray:
    """Where there are clothes, 0 to 1."""
    middle, bottom = MIDDLE[0], HEIGHT + 20
    right = [(56, 408), (92, 420), (150, 432), (214, 452), (256, bottom)]  # from the middle of the neck
    outline = [(middle + x, y) for x, y in right] + [(middle - x, y) for x, y in reversed(right)]
    shape = cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.float32), [np.array(outline, np.int32)], 1.0)
    return cv2.GaussianBlur(shape, (0, 0), 4)


def _bgr(rgb: tuple[int, int, int]) -> np.ndarray:
    return np.array(rgb[::-1], np.float32)
