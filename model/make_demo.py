"""Make the faces of the demo: `python -m model.make_demo --data fer2013.zip --ferplus ferplus.csv`.

Each of the seven faces is an average of 30 to 90 training pictures that people agreed on: a
face of nobody. Averages are crisp when what is averaged lies on top of each other, so pictures
are laid over their common mean (congealing: Learned-Miller, "Data Driven Image Models through
Continuous Joint Alignment", 2006; one step is `cv2.findTransformECC`: Evangelidis and Psarakis,
2008), then bent onto it by optical flow (`cv2.DISOpticalFlow`: Kroeger et al., 2016). Dozens
of pictures of 48 pixels, each with a grid of its own, carry more detail than one.

Nothing is random: the same data gives the same file.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from model import fer2013
from model.demo import ATLAS, DARKEST, TILE
from model.emotions import EMOTIONS, Emotion
from model.ferplus import Ballot, load_ballot

logger = logging.getLogger(__name__)

CANDIDATES = {Emotion.DISGUST: 130, Emotion.FEAR: 285}  # people agree on few of these
MANY = 500  # candidates of any other emotion
AVERAGED = 90  # pictures in one face, at most
# Caricature: the rival whom a face is drawn away from, how far, and how much of its eyes the rival lends.
APART = {Emotion.DISGUST: (Emotion.NEUTRAL, 0.3, 0.0), Emotion.FEAR: (Emotion.SURPRISE, 0.5, 0.7)}
FINER = 4  # atlas pixels a picture pixel
MARGIN = (TILE // FINER - fer2013.SIZE) // 2  # picture pixels of the atlas around a picture's edge
CORE = (slice(3, 46), slice(5, 43))  # rows and columns of the mean that pictures are laid over
FACE = (slice(76, 236), slice(82, 206))  # rows and columns of brows to chin in the atlas

Picture = np.ndarray
"""48 x 48 float32 grey, its light evened out."""
Warp = np.ndarray
"""2 x 3 float32, from a place in the common mean to the same place in a picture, in pixels."""


@dataclass(frozen=True)
class Aligned:
    """A training picture and where the common face lies in it; `likeness` to the mean, -1 to 1."""

    pixels: np.ndarray
    picture: Picture
    emotion: Emotion
    warp: Warp
    likeness: float = -1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Make the atlas; the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = _parser().parse_args(argv)
    cv2.setNumThreads(1)
    try:
        faces = fer2013.load(args.data, "train")
        ballot = load_ballot(args.ferplus, faces.names)
    except (fer2013.DataError, OSError) as error:
        logger.error("make_demo: %s", error)
        return 1
    averages = make_faces(choose(faces, ballot))
    atlas = np.hstack([portrait(average) for average in averages])
    if not cv2.imwrite(str(args.out), atlas, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        logger.error("make_demo: cannot write %s", args.out)
        return 1
    logger.info("%s: %d kB", args.out, args.out.stat().st_size // 1000)
    return 0


def choose(faces: fer2013.FaceSet, ballot: Ballot) -> list[Aligned]:
    """The pictures of each emotion that people agree most on, no picture twice."""
    chosen, shares = [], ballot.shares
    for label, emotion in enumerate(EMOTIONS):
        mine = np.flatnonzero((faces.labels == label) & (ballot.saw_no_face == 0) & (shares[:, label] > 0))
        lead = shares[mine, label] - np.delete(shares[mine], label, axis=1).max(axis=1)
        surest = mine[np.argsort(-lead, kind="stable")][: CANDIDATES.get(emotion, MANY)]
        chosen += [Aligned(one, even_light(one), emotion, _about_centre()) for one in _unlike(faces.pixels[surest])]
    return chosen


def _unlike(pixels: np.ndarray) -> list[np.ndarray]:
    """The pictures that are no copy of one before: one person's series would be the face of somebody."""
    kept: list[np.ndarray] = []
    for one in pixels:
        if not kept or not fer2013.near_copies(one[None], np.stack(kept), distance=10.0, moved=False)[0]:
            kept.append(one)
    return kept


def make_faces(chosen: Sequence[Aligned]) -> list[np.ndarray]:
    """The seven averages in the order of EMOTIONS, TILE x TILE float32, eyes at the same place."""
    aligned = congeal(chosen)
    faces = {
        emotion: _in_contrast(
            bend_together(narrow([one for one in aligned if one.emotion is emotion and one.likeness > 0]))
        )
        for emotion in tqdm(EMOTIONS, desc="average", unit="face")
    }
    apart = {
        emotion: caricature(faces[emotion], faces[rival], share, lent)
        for emotion, (rival, share, lent) in APART.items()
    }
    return list((faces | apart).values())


def even_light(pixels: np.ndarray) -> Picture:
    """A picture with slow changes of brightness and of contrast (over 12 pixels) taken out."""
    grey = pixels.astype(np.float32)
    detail = grey - cv2.GaussianBlur(grey, (0, 0), 12)
    return detail / (np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 12)) + 8)


def congeal(aligned: Sequence[Aligned], rounds: int = 6, searching: Iterable[int] = (1, 3)) -> list[Aligned]:
    """Lay all pictures over their evolving mean; in rounds of `searching` from many places to start.

    The half of each emotion that fits best makes the next mean, all emotions with the same weight.
    """
    mean = _symmetric(np.mean([one.picture for one in aligned], axis=0))
    aligned, starts = list(aligned), [_about_centre(s, x, y) for s in (0.85, 1.0, 1.15) for x, y in SHIFTS]
    for turn in range(rounds):
        blur, tries = (5, 3)[turn > 2], starts if turn in searching else []
        aligned = [
            max((_lay_over(mean, one, start, blur) for start in [one.warp, *tries]), key=lambda one: one.likeness)
            for one in tqdm(aligned, desc=f"align {turn + 1}/{rounds}", unit="picture", leave=False)
        ]
        best = [one for emotion in EMOTIONS for one in _best_half(aligned, emotion)]
        aligned = _recentred(aligned, _mean_warp(best), np.eye(3))
        mean = _mean([_mean(_best_half(aligned, emotion)) for emotion in EMOTIONS])
    return aligned


SHIFTS = ((0, 0), (0, -3), (0, 3), (3, 0), (-3, 0))


def narrow(aligned: Sequence[Aligned]) -> list[Aligned]:
    """The pictures of one emotion that look most alike, laid over their own mean; no hands, no profiles."""
    kept = sorted(aligned, key=lambda one: -one.likeness)[: max(60, round(len(aligned) * 0.45))]
    mean = _mean(kept)
    for size in (300, 200, 140):
        before = _mean_warp(kept)
        found = [_lay_over(mean, one, one.warp, 3) for one in kept]
        scored = [replace(one, likeness=one.likeness * _core_likeness(one, mean)) for one in found]
        kept = sorted(scored, key=lambda one: -one.likeness)[: min(size, round(len(kept) * 0.8))]
        kept = _recentred(kept, _mean_warp(kept), before)
        mean = _mean(kept)
    return kept[:AVERAGED]


def bend_together(aligned: Sequence[Aligned]) -> np.ndarray:
    """The average of pictures bent onto it by optical flow; pictures that stay unlike it lose weight."""
    places = [_finer(one.warp) for one in aligned]
    pictures = [_to_contrast(one.pixels, at) for one, at in zip(aligned, places, strict=True)]
    flows = [np.zeros((TILE, TILE, 2), np.float32)] * len(pictures)
    weights = np.ones(len(pictures), np.float32)
    flow_of = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow_of.setFinestScale(2)
    unbent = [_sample(picture, at, flows[0]) for picture, at in zip(pictures, places, strict=True)]
    mean = _weighted_mean(unbent, weights)
    for turn, smoothness in enumerate((10, 7, 5, 4)):  # atlas pixels
        target = _as_uint8(_sharper(mean, 0.8, 4))
        flows = []
        for seen, inside in unbent:
            flow = flow_of.calc(target, _as_uint8(cv2.GaussianBlur(seen, (0, 0), 1.5)), None)
            flows.append(cv2.GaussianBlur(flow, (0, 0), smoothness) * inside[..., None])
        drift = np.mean(flows, axis=0)
        drift = (drift + drift[:, ::-1] * (-1, 1)) / 2
        bent = [_sample(picture, at, flow - drift) for picture, at, flow in zip(pictures, places, flows, strict=True)]
        mean = _weighted_mean(bent, weights)
        if turn < 3:
            weights = _weights([seen for seen, _ in bent], mean)
    return mean


def caricature(face: np.ndarray, rival: np.ndarray, share: float, lent: float = 0.0) -> np.ndarray:
    """A face with `share` of what tells it from its rival added, in shape and in light.

    Averaging over where people look washes pupils out: `lent` is the share of the rival's eyes (0 to 1).
    """
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(_as_uint8(face), _as_uint8(rival), None)
    flow = cv2.GaussianBlur((flow + flow[:, ::-1] * (-1, 1)) / 2, (0, 0), 6.5).astype(np.float32)
    y, x = np.mgrid[0:TILE, 0:TILE].astype(np.float32)
    same_shape = cv2.remap(rival, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC)
    right, down = x - TILE / 2, y - TILE / 2
    eyes = lent * np.exp(-(((np.abs(right) - 35) / 14) ** 4) - ((down + 27) / 9) ** 4)
    stronger = face + share * cv2.GaussianBlur(face - same_shape, (0, 0), 2) * (1 - eyes)
    stronger += eyes * (same_shape - face)
    return _symmetric(cv2.remap(stronger, x + share * flow[..., 0], y + share * flow[..., 1], cv2.INTER_CUBIC))


def portrait(average: np.ndarray) -> np.ndarray:
    """An average as a tile of the atlas: contrast stretched, sharpened a little, with drawn hair and neck.

    Averages of hair, necks and walls are no use; at the tile's edges the brightness is zero.
    """
    face = 130 + 42.5 * _sharper(_in_contrast(average), 0.6, 2.5)
    inside = _oval(76, 106, 106, 0.12)
    return (np.clip(face, DARKEST, 255) * inside + _hair_and_neck() * (1 - inside)).round().astype(np.uint8)


HAIR = ((0, -137), (44, -130), (78, -108), (97, -70), (103, -20), (101, 40), (106, 95), (92, 122), (66, 134), (40, 128))
NECK = ((0, 60), (52, 60), (46, 112), (54, 136), (0, 138))


def _hair_and_neck() -> np.ndarray:
    """Brightness of what is around a face, TILE x TILE."""
    y, x = _from_middle()
    strands = np.cos(np.hypot(x, y * 0.6 + 30) * 0.5) + np.cos(np.hypot(x, y * 0.5 + 40) * 0.93)
    sheen = np.exp(-(((np.abs(x) - 66) / 30) ** 2) - ((y + 84) / 46) ** 2)
    hair = _shape(HAIR, 7) * (DARKEST + 6 + (2 + 5 * sheen) * (strands + 1) / 2 + 14 * sheen)
    neck = _shape(NECK, 6)
    return hair * (1 - neck) + (72 + 40 * np.exp(-((x / 30) ** 2))) * neck * np.clip((140 - y) / 22, 0, 1)


def _shape(right_half: Sequence[tuple[int, int]], rounding: float) -> np.ndarray:
    """1 inside an outline given from the middle of the tile, and its mirror image; 0 outside; corners rounded."""
    middle = TILE // 2
    outline = [(middle + x, middle + y) for x, y in right_half]
    outline += [(middle - x, middle + y) for x, y in reversed(right_half)]
    filled = cv2.fillPoly(np.zeros((TILE, TILE), np.float32), [np.array(outline, np.int32)], 1.0)
    return _smooth(cv2.GaussianBlur(filled, (0, 0), rounding) * 2 - 0.5)


def _oval(across: float, up: float, down: float, softness: float) -> np.ndarray:
    """1 inside an oval around the middle, 0 outside; radii in pixels, the edge softened by a share of them."""
    y, x = _from_middle()
    radius = np.hypot(x / across, y / np.where(y < 0, up, down))
    return _smooth((1 + softness - radius) / (2 * softness))


def _smooth(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _from_middle() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:TILE, 0:TILE].astype(np.float32) - (TILE - 1) / 2
    return y, x


def _about_centre(scale: float = 1.0, right: float = 0.0, down: float = 0.0) -> Warp:
    half = fer2013.SIZE / 2
    return np.array([[scale, 0, half - half * scale + right], [0, scale, half - half * scale + down]], np.float32)


def _lay_over(mean: Picture, one: Aligned, start: Warp, blur: int) -> Aligned:
    """`one` aligned to the mean from `start`; its likeness is -1 where that fails or leaves a likely pose."""
    corner = np.array([[1, 0, CORE[1].start], [0, 1, CORE[0].start], [0, 0, 1]])
    first = (_square(start) @ corner)[:2].astype(np.float32)
    steps = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-3)
    template = np.ascontiguousarray(mean[CORE], np.float32)
    try:
        likeness, found = cv2.findTransformECC(template, one.picture, first, cv2.MOTION_AFFINE, steps, None, blur)
    except cv2.error:  # how OpenCV says that it did not converge
        return replace(one, warp=start, likeness=-1.0)
    warp = (_square(found) @ np.linalg.inv(corner))[:2].astype(np.float32)
    return replace(one, warp=warp, likeness=likeness) if _likely(warp) else replace(one, warp=start, likeness=-1.0)


def _likely(warp: Warp) -> bool:
    """Whether a warp is one that a face looking at the camera can ask for."""
    larger, smaller = np.linalg.svd(warp[:, :2].astype(float), compute_uv=False)
    half = fer2013.SIZE / 2
    moved = np.abs(warp @ np.array([half, half, 1.0]) - half).max()
    return bool(larger < 1.5 and smaller > 0.6 and larger / smaller < 1.3 and moved < 10)


def _best_half(aligned: Sequence[Aligned], emotion: Emotion) -> list[Aligned]:
    mine = sorted((one for one in aligned if one.emotion is emotion), key=lambda one: -one.likeness)
    return [one for one in mine[: len(mine) // 2] if one.likeness > 0]


def _mean_warp(aligned: Sequence[Aligned]) -> np.ndarray:
    return _square(np.mean([one.warp for one in aligned], axis=0))


def _recentred(aligned: Sequence[Aligned], now: np.ndarray, wanted: np.ndarray) -> list[Aligned]:
    """The same alignment with the mean face moved so that the mean warp `now` becomes `wanted`."""
    fix = np.linalg.inv(now) @ wanted
    return [replace(one, warp=(_square(one.warp) @ fix)[:2].astype(np.float32)) for one in aligned]


def _laid(one: Aligned) -> Picture:
    size = (fer2013.SIZE, fer2013.SIZE)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(one.picture, one.warp, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _mean(pictures: Sequence[Aligned] | Sequence[Picture]) -> Picture:
    laid = [_laid(one) if isinstance(one, Aligned) else one for one in pictures]
    return _symmetric(np.mean(laid, axis=0))


def _symmetric(picture: np.ndarray) -> np.ndarray:
    """The mean of a picture and its mirror image: a face looks straight ahead then."""
    return ((picture + picture[:, ::-1]) / 2).astype(np.float32)


def _core_likeness(one: Aligned, mean: Picture) -> float:
    core = (slice(8, 44), slice(8, 40))
    return _correlation(cv2.GaussianBlur(_laid(one), (0, 0), 0.7)[core], mean[core])


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def _square(warp: np.ndarray) -> np.ndarray:
    return np.vstack([warp, [0, 0, 1]])


def _finer(warp: Warp) -> np.ndarray:
    """The warp from a place in the atlas."""
    step = 1 / FINER
    shift = (step - 1) / 2 - MARGIN
    return (_square(warp) @ np.array([[step, 0, shift], [0, step, shift], [0, 0, 1]]))[:2]


def _sample(picture: np.ndarray, at: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture on the atlas' grid, and how far (0 to 1) each place lies inside it."""
    y, x = np.mgrid[0:TILE, 0:TILE].astype(np.float32)
    x, y = x + flow[..., 0], y + flow[..., 1]
    across = (at[0, 0] * x + at[0, 1] * y + at[0, 2]).astype(np.float32)
    down = (at[1, 0] * x + at[1, 1] * y + at[1, 2]).astype(np.float32)
    last = fer2013.SIZE - 1
    outside = np.maximum.reduce([-across, across - last, -down, down - last])
    seen = cv2.remap(picture, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return seen, np.clip(1 - outside / 2, 0, 1)


def _to_contrast(pixels: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A picture whose face has mean 0 and deviation about 1."""
    grey = pixels.astype(np.float32)
    face = _sample(grey, at, np.zeros((TILE, TILE, 2), np.float32))[0][76:226, 86:202]
    return (grey - face.mean()) / (face.std() + 5)


def _in_contrast(average: np.ndarray) -> np.ndarray:
    """An average with the darkest places of its face at -2 and the brightest at 2."""
    dark, bright = np.percentile(average[86:241, 88:200], (2, 95))
    return ((average - dark) / (bright - dark) * 4 - 2).astype(np.float32)


def _weighted_mean(samples: Sequence[tuple[np.ndarray, np.ndarray]], weights: np.ndarray) -> np.ndarray:
    total = sum(weight * seen * inside for weight, (seen, inside) in zip(weights, samples, strict=True))
    share = sum(weight * inside for weight, (_, inside) in zip(weights, samples, strict=True))
    return _symmetric(total / (share + 1e-3))


def _weights(bent: Sequence[np.ndarray], mean: np.ndarray) -> np.ndarray:
    """0 for the quarter of the pictures least like the mean, 1 for the quarter most like it."""
    alike = np.array([_correlation(seen[FACE], mean[FACE]) for seen in bent])
    low, high = np.quantile(alike, (0.25, 0.75))
    return np.clip((alike - low) / (high - low), 0, 1).astype(np.float32)


def _sharper(picture: np.ndarray, amount: float, radius: float) -> np.ndarray:
    return picture + amount * (picture - cv2.GaussianBlur(picture, (0, 0), radius))


def _as_uint8(picture: np.ndarray) -> np.ndarray:
    return np.clip(128 + 45 * picture, 0, 255).astype(np.uint8)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model.make_demo", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="FER2013: the folder, a zip of it, or fer2013.csv")
    parser.add_argument("--ferplus", type=Path, required=True, help="the FER+ votes, ferplus.csv")
    parser.add_argument("--out", type=Path, default=ATLAS, help="where to write the atlas (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
