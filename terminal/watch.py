"""The faces and moods of a camera, a clip, an address or photos, line by line: `python camera.py SOURCE`.

docs/command-line.md shows it. Exit codes: 0 fine, 1 a source that cannot be read or has stopped, 2 wrong usage,
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import zip_longest
from pathlib import Path
from types import FrameType
from typing import ClassVar

import pictures  # noqa: F401 - first, or OpenCV is loaded without its settings
from model.demo import demo_frame
from model.emotions import Smoothing
from model.faces import Frame
from model.files import folder_fault
from model.recognizer import Recognizer, WeightsError, load_recognizer
from pictures.drawing import annotate
from pictures.following import Follower, seen_once
from pictures.recording import Recording, save_picture
from pictures.sources import FPS, Showing, SourceError, is_address, is_device, public_name, shown_once
from pictures.stills import PictureError, Still, decode_image, decode_still
from songs.catalog import Catalog
from songs.dotenv import DotenvError, own_lists
from terminal.report import Every, Lines, Sight, Terminal
from terminal.saving import UsageError, film_for, path_of, photo_for, photos_for
from terminal.stdio import close_output, fault_of_file, open_closed_streams, take_any_title, without_noise

READ_EVERY = 0.1  # seconds between the frames that are read: ten a second follow any expression
FOLLOWED = 0.2  # seconds: in frames further apart, faces are looked for anew
SETTLES = 0.5  # seconds before "no face" is worth a line: who follows faces wants to see one twice
LARGEST_PHOTO = 200_000_000  # bytes of a file
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
READ_PHOTOS = (".jpg", ".jpeg", ".png", ".webp")
PHOTOS = (*READ_PHOTOS, ".heic", ".heif", ".avif", ".bmp", ".tif", ".tiff")  # the others are refused by name

EXAMPLES = """
examples:
  .venv/bin/python camera.py 0                          the first camera, until Ctrl-C
  .venv/bin/python camera.py demo --songs 3             the built-in face, with three songs for each mood
  .venv/bin/python camera.py clip.mp4 --every 1         a clip, a line for each second of it
  .venv/bin/python camera.py clip.mp4 --save out.mp4    the clip again, with boxes and labels
  .venv/bin/python camera.py photos --json              a folder of photos, one JSON object a photo
  .venv/bin/python camera.py rtsp://192.168.1.20/live   a camera in the network

exit codes: 0 fine, 1 a source that cannot be read or has stopped, 2 wrong usage, 130 stopped by Ctrl-C
"""


class Stopped(KeyboardInterrupt):
    """Somebody wants an end, by a signal."""

    asked: ClassVar[int] = 0

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


Load = Callable[[str], Recognizer]
"""The recognizer on an engine; raises WeightsError."""


def main(arguments: Sequence[str] | None = None, load: Load = load_recognizer) -> int:
    """Watch what the command line names; the exit code."""
    made = parser()
    options = made.parse_args(arguments)
    if options.more:
        made.error("one source at a time: of several photos, give the folder they are in")
    Stopped.asked = 0
    open_closed_streams()
    take_any_title(sys.stdout, sys.stderr)
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup, or a shell's background
            signal.signal(number, _stop)
    terminal = Terminal()
    try:
        return watch(options, terminal, load)
    except UsageError as error:
        terminal.complain(str(error))
        return 2
    except (SourceError, WeightsError) as error:
        terminal.complain(str(error).replace("VISAGE_SOURCE=demo", "demo"))
        return 1
    except BrokenPipeError:  # whoever read the lines has seen enough
        close_output()
        return 0
    except OSError as error:
        close_output()
        terminal.complain(fault_of_file(error, "the output"))
        return 1
    except Stopped as stop:
        close_output()
        return 128 + stop.number


def watch(options: argparse.Namespace, terminal: Terminal, load: Load = load_recognizer) -> int:
    """Show what is seen in a source until it ends; the exit code. Raises SourceError, UsageError and their like."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "8")  # fatal: that a source fails is said here, in words
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors
    if options.source == "demo" or is_device(options.source) or is_address(options.source):
        return _watch_film(options, terminal, load, None)
    path = path_of(options.source)
    if options.source and path.is_dir():
        photos = _photos_in(path)
        return _watch_photos(options, terminal, load, photos, photos_for(options.save, path, photos))
    if not (options.source and path.is_file()):
        raise SourceError(f"no file or folder at {options.source!r}: check its name (a camera is a number such as 0)")
    if not path.stat().st_size:
        raise SourceError(f"{path} is empty: there is neither a film nor a picture in it")
    if is_photo(path):
        return _watch_photos(options, terminal, load, [path], photo_for(options.save, path))
    return _watch_film(options, terminal, load, path)


def is_photo(path: Path) -> bool:
    """Whether a file is a picture, by its name or by its first bytes. Raises OSError."""
    if path.suffix.lower() in PHOTOS:
        return True
    with path.open("rb") as file:
        start = file.read(12)
    return start.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n")) or start[8:] == b"WEBP"


# -- films and cameras ---------------------------------------------------------------------------


def _watch_film(options: argparse.Namespace, terminal: Terminal, load: Load, path: Path | None) -> int:
    """A film once, by its own clock; what is live until it stops. `path` is the film's, if it is a file."""
    target, catalog = film_for(options.save, path), _catalog(options)
    recognizer, showing = _loaded(load, options.engine), shown_once(options.source)
    apart = max(_gap(options), 1 / showing.rate if showing.rate else 0.0)
    settles = SETTLES if apart <= FOLLOWED and (options.every is None or options.every > FOLLOWED) else 0.0
    lines = Lines(terminal, options.every, options.songs, catalog, settles=settles, in_json=options.json)
    recording = Recording(target, showing.rate or FPS, live=not showing.rate) if target else None
    with _kept(recording, showing, terminal), terminal.counting(showing.length, "frames"):
        _watch_frames(options, apart, terminal.counted(showing.frames), recognizer, lines, recording)
    return 0


def _watch_frames(
    options: argparse.Namespace,
    apart: float,
    frames: Iterator[tuple[float, Frame]],
    recognizer: Recognizer,
    lines: Lines,
    recording: Recording | None,
) -> None:
    """Read a frame now and then, say what is new, record every frame with what is known by then.

    Those that are read are `apart` seconds, or more.
    """
    rules = Smoothing()
    if apart <= FOLLOWED:
        recognizer = recognizer.for_video()
    else:  # the time between two pictures is time that a new mood has lasted
        rules = Smoothing(hold=max(0.0, rules.hold - apart))
    follower, reads, name = Follower(rules), Every(_gap(options)), public_name(options.source)
    for at, frame in frames:
        _stop_if_asked()
        if reads.due(at):
            follower.follow(recognizer.recognize(frame), at)
            lines.watch(Sight(name, at, follower.faces, follower.reading, _size(frame)))
        if recording:
            _record(recording, annotate(frame, follower.faces), at)
    lines.end()


@contextmanager
def _kept(recording: Recording | None, showing: Showing, terminal: Terminal) -> Iterator[None]:
    """Keep what was recorded of a live source, wherever it stops, and of a film as far as it can be read."""
    whole = not showing.rate
    try:
        yield
        whole = True
    except SourceError:
        whole = True
        raise
    finally:
        if recording and recording.frames and whole:
            _hear_no_more()
            recording.keep()
            terminal.complain(f"{recording.path}: {recording.frames / recording.rate:.1f} seconds saved")
        elif recording:
            recording.drop()
            if recording.frames:
                terminal.complain(f"{recording.path} is not saved: the film was stopped before its end")


def _record(recording: Recording, picture: Frame, at: float) -> None:
    with nullcontext() if recording.frames else without_noise():
        recording.add(picture, at)


# -- photos --------------------------------------------------------------------------------------


def _watch_photos(
    options: argparse.Namespace, terminal: Terminal, load: Load, photos: Sequence[Path], targets: Sequence[Path]
) -> int:
    """Each photo on its own; those that cannot be read are named, and the others read."""
    lines = Lines(terminal, songs=options.songs, catalog=_catalog(options), in_json=options.json)
    recognizer = _loaded(load, options.engine)
    broken = saved = 0
    with terminal.counting(len(photos), "photos"):
        for photo, target in zip_longest(terminal.counted(photos), targets):
            _stop_if_asked()
            try:
                still, picture = _read_photo(photo, whole=target is not None)
            except SourceError as error:
                terminal.complain(str(error))
                broken += 1
                continue
            faces = tuple(seen_once(face, still.scale) for face in recognizer.recognize(still.frame))
            reading = faces[0].reading if faces else None
            if target:
                save_picture(annotate(picture, faces), target)
                saved += 1
            try:
                lines.show(Sight(str(photo), None, faces, reading, (still.width, still.height)))
            except BrokenPipeError:
                if saved < len(targets):
                    terminal.complain(f"{saved} of {len(targets)} photos saved: nobody takes the lines any more")
                raise
    if broken and len(photos) > 1:
        terminal.complain(f"{broken} of {len(photos)} pictures could not be read")
    return 1 if broken else 0


def _read_photo(path: Path, whole: bool) -> tuple[Still, Frame]:
    """The picture in a file, and a frame to draw on: all its pixels if it is to be `whole`. Raises SourceError."""
    try:
        if (size := path.stat().st_size) > LARGEST_PHOTO:
            most = LARGEST_PHOTO // 1_000_000
            raise SourceError(f"{path}: the picture has {size // 1_000_000} MB, it may have {most}")
        content = path.read_bytes()
        with without_noise():
            still = decode_still(content)
            return still, decode_image(content) if whole else still.frame
    except PictureError as error:
        raise SourceError(f"{path}: {error}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be opened ({error.strerror}): may you read it?") from None


def _photos_in(folder: Path) -> list[Path]:
    """The pictures in a folder by their names, its own only. Raises SourceError if there are none, and OSError."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    if photos := sorted(path for path in files if path.suffix.lower() in PHOTOS):
        return photos
    raise SourceError(f"no pictures in {folder}: it takes {', '.join(READ_PHOTOS)}, and looks into no folders inside")


# -- the command line ----------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python camera.py",
        description="Read the faces in a source and say what mood is on each. Nothing is stored unless you say so.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "source",
        metavar="SOURCE",
        help="a camera (0, /dev/video0), a clip, an http or rtsp address, a photo, a folder of photos, or demo",
    )
    made.add_argument("more", nargs="*", default=[], help=argparse.SUPPRESS)
    made.add_argument("--json", action="store_true", help="one JSON object a line")
    made.add_argument("--songs", type=_count, default=0, metavar="N", help="N songs for each new mood")
    made.add_argument("--lists", type=Path, metavar="DIR", help="where the song lists are (default: the site's)")
    made.add_argument(
        "--every",
        type=_seconds,
        metavar="SECONDS",
        help="read a picture, and say what is there, every so often (0: every picture; without it: 10 a second are"
        " read, and a line says what has changed)",
    )
    made.add_argument(
        "--save",
        metavar="PATH",
        help=f"with boxes and labels: {', '.join(Recording.CODECS)}; photos: .jpg, .png or a folder",
    )
    made.add_argument("--engine", choices=("litert", "keras"), default="litert", help="what runs the network")
    return made


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of songs: 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds: 0 or more")
    return seconds


def _catalog(options: argparse.Namespace) -> Catalog | None:
    """The lists that songs are from, if there are to be any. Raises UsageError."""
    if not options.songs:
        return None
    try:
        folder = options.lists or own_lists()
    except DotenvError as error:
        raise UsageError(str(error)) from None
    if fault := folder_fault(folder):
        raise UsageError(f"{'--lists ' if options.lists else 'VISAGE_SONGS='}{folder}: {fault}")
    return Catalog(folder)


def _gap(options: argparse.Namespace) -> float:
    """Seconds between the frames that are read. A film that is saved needs boxes that move with the faces."""
    if options.every is None or (options.save and options.every > READ_EVERY):
        return READ_EVERY
    return float(options.every)


def _loaded(load: Load, engine: str) -> Recognizer:
    with without_noise():
        recognizer = load(engine)
        recognizer.recognize(demo_frame(0.0))  # a network is built, and talks, when it is first used
    _stop_if_asked()
    return recognizer


def _size(frame: Frame) -> tuple[int, int]:
    return frame.shape[1], frame.shape[0]


def _stop(number: int, at: FrameType | None) -> None:
    if number == signal.SIGINT and sys.stderr.isatty():
        os.write(2, b"\n")  # the terminal has just shown ^C; a print could meet another in the middle
    Stopped.asked = number
    _hear_no_more()
    raise Stopped(number)


def _hear_no_more() -> None:
    """Let no further signal, and some come twice, break off what is left to do before the end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _stop_if_asked() -> None:
    """Stop after all, if a library took the exception of a signal for a failure of its own."""
    if Stopped.asked:
        raise Stopped(Stopped.asked)
