"""Pictures of a face as a webcam's box would have cut them: moved, turned, darkened, blurred.

A detector's box is never FER2013's crop, and a room is never FER2013's light; the network is
trained on what it will meet.
"""

from __future__ import annotations

import cv2
import numpy as np

Picture = np.ndarray

ROTATION = 15.0  # degrees, either way
SCALE = (0.75, 1.2)  # of the face within the crop
SHIFT = 0.1  # of the picture's side, either way
BORDERS = (cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101, cv2.BORDER_CONSTANT)


def augment(pictures: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Each of the (n, side, side) uint8 grey pictures as another detector might have seen it.

    `strength` scales how far pictures are moved and how often they are changed; at 0 they are mirrored alone.
    """
    return np.stack([_one(picture, rng, strength) for picture in pictures])


def no_faces(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many pictures (n, side, side) uint8 that show no face, at the light and with the texture of `pictures`.

    A detector's false boxes are walls, folds and corners: slopes from grey to grey, blurs, noise, patches in disorder.
    """
    return np.stack([_no_face(picture, rng) for picture in pictures])


def _no_face(picture: Picture, rng: np.random.Generator) -> Picture:
    side, kind = picture.shape[0], rng.integers(4)
    if kind == 0:
        corners = rng.uniform(0, 256, (2, 2)).astype(np.float32)
        corners = picture.mean() + rng.choice((0.0, 0.3, 1.0)) * (corners - picture.mean())
        return cv2.resize(corners, (side, side), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    if kind == 1:
        return cv2.GaussianBlur(picture, (0, 0), rng.uniform(side / 6, side / 3))
    if kind == 2:
        few = int(rng.integers(3, side + 1))
        noise = rng.integers(0, 256, (few, few), np.uint8)
        return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return scrambled(picture, rng, int(rng.integers(3, 7)))


def scrambled(picture: Picture, rng: np.random.Generator, count: int) -> Picture:
    """Its count x count patches in another order: the light and texture of a face, without the face.

    What is left over at the right and below stays.
    """
    patch = picture.shape[0] // count
    corners = [(y * patch, x * patch) for y in range(count) for x in range(count)]
    made = picture.copy()
    for (y, x), other in zip(corners, rng.permutation(len(corners)), strict=True):
        v, u = corners[other]
        made[y : y + patch, x : x + patch] = picture[v : v + patch, u : u + patch]
    return made


def _one(picture: Picture, rng: np.random.Generator, strength: float) -> Picture:
    picture = _moved(picture, rng, strength)
    if rng.random() < 0.5 * strength:
        picture = _lit(picture, rng)
    if rng.random() < 0.2 * strength:
        picture = _degraded(picture, rng)
    if rng.random() < 0.3 * strength:
        picture = _covered(picture, rng)
    return picture


def _moved(picture: Picture, rng: np.random.Generator, strength: float) -> Picture:
    """Turned, scaled, shifted and perhaps mirrored, in one resampling."""
    side = picture.shape[0]
    centre = (side - 1) / 2
    angle, scale = rng.uniform(-ROTATION, ROTATION), rng.uniform(*SCALE)
    matrix = cv2.getRotationMatrix2D((centre, centre), angle * strength, scale**strength)
    matrix[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * side * strength
    if rng.random() < 0.5:
        matrix[0] = -matrix[0]
        matrix[0, 2] += side - 1
    border = BORDERS[rng.integers(len(BORDERS))]
    return cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=border)


def _lit(picture: Picture, rng: np.random.Generator) -> Picture:
    """Another gamma, contrast and brightness."""
    levels = np.linspace(0, 1, 256) ** np.exp(rng.uniform(-0.7, 0.7))
    levels = (levels - 0.5) * rng.uniform(0.5, 1.2) + 0.5 + rng.uniform(-0.15, 0.15)
    return cv2.LUT(picture, (levels.clip(0, 1) * 255).astype(np.uint8))


def _degraded(picture: Picture, rng: np.random.Generator) -> Picture:
    """Blurred, grainy, or seen from far away."""
    side, kind = picture.shape[0], rng.integers(3)
    if kind == 0:
        return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 1.5))
    if kind == 1:
        noise = rng.normal(0, rng.uniform(4, 16), picture.shape)
        return (picture + noise).clip(0, 255).astype(np.uint8)
    smaller = int(side * rng.uniform(0.4, 0.9))
    far = cv2.resize(picture, (smaller, smaller), interpolation=cv2.INTER_AREA)
    return cv2.resize(far, (side, side), interpolation=cv2.INTER_LINEAR)


def _covered(picture: Picture, rng: np.random.Generator) -> Picture:
    """With a patch erased: Zhong et al., "Random Erasing Data Augmentation", 2020."""
    side = picture.shape[0]
    height, width = rng.integers(side // 6, side // 2, 2)
    top, left = rng.integers(0, side - height), rng.integers(0, side - width)
    picture = picture.copy()
    picture[top : top + height, left : left + width] = rng.integers(0, 256)
    return picture
