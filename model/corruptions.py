"""Pictures as a poor webcam, a dark room or a loose box would give them, and pictures of no face at all.

To measure with, never to train with (that is `model.augment`): each change is fixed in strength, and
what is random in one follows from the seed.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from model.augment import scrambled

Picture = np.ndarray
"""A face: (48, 48) uint8, grey."""

PATCH = 12  # pixels of a side: what a scrambled face is cut into


def corrupted(pictures: np.ndarray, change: Change, seed: int = 2013) -> np.ndarray:
    """Each of the (n, 48, 48) uint8 pictures after one of CORRUPTIONS; the same seed gives the same pictures."""
    rng = np.random.default_rng(seed)
    return np.stack([change(picture, rng) for picture in pictures])


def faceless(pictures: np.ndarray, count: int = 256, seed: int = 2013) -> dict[str, np.ndarray]:
    """Pictures (count, 48, 48) uint8 that show no face, by name; the scrambled ones are made of `pictures`."""
    rng = np.random.default_rng(seed)
    side = pictures.shape[1]
    noise = rng.integers(0, 256, (count, side, side), np.uint8)
    levels = np.linspace(0, 255, count).astype(np.uint8)[:, None, None]
    chosen = pictures[rng.integers(0, len(pictures), count)]
    return {
        "noise": noise,
        "flat grey": np.broadcast_to(levels, noise.shape).copy(),
        "blurs": np.stack([cv2.GaussianBlur(cv2.equalizeHist(one), (0, 0), 6) for one in noise]),
        "scrambled faces": np.stack([scrambled(picture, rng, side // PATCH) for picture in chosen]),
    }


def _unchanged(picture: Picture, rng: np.random.Generator) -> Picture:
    return picture


def _dark(picture: Picture, rng: np.random.Generator) -> Picture:
    """A quarter of the light."""
    return (picture * 0.25).astype(np.uint8)


def _dark_and_grainy(picture: Picture, rng: np.random.Generator) -> Picture:
    """A quarter of the light, and sensor noise with a standard deviation of 4 grey levels."""
    return (picture * 0.25 + rng.normal(0, 4, picture.shape)).clip(0, 255).astype(np.uint8)


def _overexposed(picture: Picture, rng: np.random.Generator) -> Picture:
    """Half as bright again, with the highlights lost."""
    return (picture * 1.5).clip(0, 255).astype(np.uint8)


def _low_contrast(picture: Picture, rng: np.random.Generator) -> Picture:
    """30 % of the contrast, around middle grey."""
    return ((picture - 128.0) * 0.3 + 128).astype(np.uint8)


def _blurred(picture: Picture, rng: np.random.Generator) -> Picture:
    """Out of focus: a Gaussian of 1.5 pixels."""
    return cv2.GaussianBlur(picture, (0, 0), 1.5)


def _jpeg(picture: Picture, rng: np.random.Generator) -> Picture:
    """Saved as JPEG at quality 20."""
    _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 20])
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)


def _grainy(picture: Picture, rng: np.random.Generator) -> Picture:
    """Sensor noise with a standard deviation of 12 grey levels."""
    return (picture + rng.normal(0, 12, picture.shape)).clip(0, 255).astype(np.uint8)


def _far_away(picture: Picture, rng: np.random.Generator) -> Picture:
    """A face of 24 pixels, enlarged again."""
    small = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, picture.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _turned_left(picture: Picture, rng: np.random.Generator) -> Picture:
    """Rotated by 15 degrees against the clock."""
    return _moved(picture, degrees=15)


def _turned_right(picture: Picture, rng: np.random.Generator) -> Picture:
    """Rotated by 15 degrees with the clock."""
    return _moved(picture, degrees=-15)


def _shifted(picture: Picture, rng: np.random.Generator) -> Picture:
    """The box 5 pixels off, in any direction."""
    angle = rng.uniform(0, 2 * np.pi)
    return _moved(picture, shift=(5 * np.cos(angle), 5 * np.sin(angle)))


def _loose(picture: Picture, rng: np.random.Generator) -> Picture:
    """The box a quarter too large: the face fills 80 %."""
    return _moved(picture, scale=0.8)


def _tight(picture: Picture, rng: np.random.Generator) -> Picture:
    """The box a fifth too small: brow to chin, no hair."""
    return _moved(picture, scale=1.25)


def _moved(
    picture: Picture, degrees: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> Picture:
    """Turned and scaled around its middle, then shifted (x, y, pixels); its edges are repeated outwards."""
    side = picture.shape[0]
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, scale)
    matrix[:, 2] += shift
    return cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


Change = Callable[[Picture, np.random.Generator], Picture]

CORRUPTIONS: dict[str, Change] = {
    "as it is": _unchanged,
    "dark": _dark,
    "dark and grainy": _dark_and_grainy,
    "overexposed": _overexposed,
    "low contrast": _low_contrast,
    "blurred": _blurred,
    "JPEG noise": _jpeg,
    "grain": _grainy,
    "half resolution": _far_away,
    "rotated +15 degrees": _turned_left,
    "rotated -15 degrees": _turned_right,
    "shifted crop": _shifted,
    "loose crop": _loose,
    "tight crop": _tight,
}
