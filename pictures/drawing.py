"""Pictures that the site makes: frames with boxes and labels, and what is said in place of one; as JPEG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from model.faces import Frame
from pictures.following import SeenFace
from pictures.sources import HEIGHT, WIDTH
from pictures.stills import Still

JPEG_QUALITY = 80
WIDEST = 1280  # pixels: larger frames are shrunk, for the readers' sake and the network's
INK, PAPER = (38, 30, 28), (245, 247, 250)


def encode_jpeg(frame: Frame) -> bytes:
    """The frame as a JPEG file."""
    done, content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise ValueError(f"a picture of shape {frame.shape} cannot be encoded as JPEG")
    return content.tobytes()


def annotate(frame: Frame, faces: Sequence[SeenFace]) -> Frame:
    """A copy of the frame with a box and a label on every face."""
    picture = frame.copy()
    thickness = max(2, frame.shape[0] // 240)
    for face in faces:
        x, y, width, height = face.box
        cv2.rectangle(picture, (x, y), (x + width, y + height), PAPER, thickness, cv2.LINE_AA)
        _label(picture, f"{face.emotion} {face.confidence:.0%}", x, y)
    return picture


def draw_still(still: Still, faces: Sequence[SeenFace]) -> bytes:
    """A still with its faces marked, no larger than WIDEST, as a JPEG file; boxes in pixels of its frame."""
    picture = fitted(still.frame)
    scale = picture.shape[1] / still.frame.shape[1]
    return encode_jpeg(annotate(picture, [replace(face, box=face.box.scaled(scale)) for face in faces]))


def fitted(frame: Frame) -> Frame:
    """The frame, or a copy of it no larger than WIDEST."""
    height, width = frame.shape[:2]
    shrink = WIDEST / max(width, height)
    size = max(1, round(shrink * width)), max(1, round(shrink * height))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if shrink < 1 else frame


def message_picture(title: str, message: str) -> Frame:
    """A plain picture that says what is wrong."""
    picture = np.full((HEIGHT, WIDTH, 3), INK, np.uint8)
    cv2.putText(picture, _ascii(title), (40, 190), cv2.FONT_HERSHEY_DUPLEX, 0.9, PAPER, 1, cv2.LINE_AA)
    for row, line in enumerate(textwrap.wrap(_ascii(message), 54)[:7]):
        cv2.putText(picture, line, (40, 235 + 28 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.6, PAPER, 1, cv2.LINE_AA)
    return picture


def _label(picture: Frame, text: str, x: int, y: int) -> None:
    scale = max(0.5, picture.shape[0] / 900)
    stroke = max(1, round(scale))
    across, down = (round(pixels * max(1.0, scale)) for pixels in (7, 5))  # around the text
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, stroke)
    top = y - height - below - 2 * down
    top = top if top >= 0 else max(y, 0)
    left = max(0, min(x, picture.shape[1] - width - 2 * across))
    corner = left + width + 2 * across, top + height + below + 2 * down
    cv2.rectangle(picture, (left, top), corner, INK, cv2.FILLED)
    place = left + across, top + height + down + 1
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_DUPLEX, scale, PAPER, stroke, cv2.LINE_AA)


def _ascii(text: str) -> str:
    """OpenCV's fonts draw ASCII alone."""
    return text.encode("ascii", "replace").decode()
