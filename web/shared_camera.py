"""One camera for several processes that serve one site."""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import suppress
from dataclasses import replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from threading import Lock, Thread
from typing import IO

from camera import Camera, Snapshot, TooManyViewersError, Viewer


class SharedCamera:
    """A Camera for each of several processes, one of which has it: the first that needs it, as long as it lives.

    That one holds the lock of a file in `folder` (private to these processes) and serves its Snapshots to the others
    at a socket beside it. When it dies, the next that needs the camera takes the lock. `_lock` guards what changes.
    """

    PATIENCE = 3.0  # seconds to wait for whoever is just taking the camera, or giving it up

    def __init__(self, camera: Camera, folder: Path, key: bytes) -> None:
        self._camera, self._file, self._socket, self._key = camera, folder / "camera.lock", folder / "camera", key
        self._lock = Lock()
        self._held: IO[bytes] | None = None
        self._listener: Listener | None = None
        self.closed = False

    @property
    def snapshot(self) -> Snapshot:
        """The newest Snapshot, without its picture where another process has the camera; "idle" where none has."""
        if held := self._held:
            with suppress(OSError, ValueError):  # it is being given up
                os.utime(held.fileno())  # or whoever tidies /tmp takes the lock for old, and two would have the camera
            return self._camera.snapshot
        answer = self._asked("snapshot")
        return answer if isinstance(answer, Snapshot) else self._camera.snapshot

    def watch(self) -> Viewer:
        """A new viewer, as of a Camera. Raises TooManyViewersError past the cap, or when no process answers."""
        end = time.monotonic() + self.PATIENCE
        while time.monotonic() < end:
            if self._take():
                return self._camera.watch()
            with suppress(OSError, EOFError, AuthenticationError):  # it comes or goes just now
                line = self._call("watch")
                if refusal := line.recv():
                    line.close()
                    raise TooManyViewersError(refusal)
                return Viewer(_Line(self, line))
            time.sleep(0.05)
        raise TooManyViewersError("the camera does not answer: try again in a moment")

    def release_soon(self) -> None:
        """As of a Camera."""
        if self._held:
            self._camera.release_soon()
        else:
            self._asked("release")

    def close(self) -> None:
        """Stop for good; viewers' streams end, and another process may take the camera."""
        with self._lock:
            self.closed = True
            self._camera.close()
            if self._listener and self._held:
                with suppress(OSError), socket.socket(socket.AF_UNIX) as caller:
                    caller.connect(str(self._socket))  # wakes `_answer_calls`; a Client would wait for an answer
                with suppress(FileNotFoundError):  # somebody has tidied up
                    self._listener.close()
                self._held.close()
                self._held = None

    # of the process that has the camera

    def _take(self) -> bool:
        """Whether the camera is, or now becomes, this process's."""
        import fcntl

        with self._lock:
            if self._held or self.closed:
                return True  # of a closed Camera the streams end at once
            self._file.parent.mkdir(mode=0o700, exist_ok=True)  # whoever tidies /tmp may have removed it
            file = self._file.open("ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                return False
            self._socket.unlink(missing_ok=True)  # a killed process leaves its own
            self._listener = Listener(str(self._socket), "AF_UNIX", backlog=64, authkey=self._key)
            self._held = file
            Thread(target=self._answer_calls, args=(self._listener,), name="camera-calls", daemon=True).start()
            return True

    def _answer_calls(self, listener: Listener) -> None:
        while not self.closed:
            try:
                line = listener.accept()
                Thread(target=self._answer, args=(line,), name="camera-line", daemon=True).start()
            except (OSError, EOFError, AuthenticationError, RuntimeError):
                time.sleep(0.02)  # somebody left at once, or there are too many open files or threads

    def _answer(self, line: Connection) -> None:
        with line, suppress(OSError, EOFError):
            asked = line.recv()
            if asked == "watch":
                self._show(line)
            elif asked == "release":
                self._camera.release_soon()
                line.send(None)
            else:
                line.send(replace(self._camera.snapshot, jpeg=b""))

    def _show(self, line: Connection) -> None:
        """Each number that comes is the last picture that the other process has; it gets the newest one."""
        try:
            viewer = self._camera.watch()
        except TooManyViewersError as error:
            line.send(str(error))
            return
        with viewer:
            line.send("")
            while True:
                line.send(self._camera.newer(line.recv(), Viewer.REPEAT))

    # of the others

    def _call(self, what: str) -> Connection:
        """A line to the process that has the camera, as Client makes it, on which nothing waits longer than PATIENCE.

        Raises OSError, EOFError or AuthenticationError, on reading from it too.
        """
        limit = struct.pack("ll", int(self.PATIENCE), int(self.PATIENCE % 1 * 1e6))
        with socket.socket(socket.AF_UNIX) as caller:
            for kind in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                caller.setsockopt(socket.SOL_SOCKET, kind, limit)
            caller.connect(str(self._socket))
            line = Connection(caller.detach())
        answer_challenge(line, self._key)
        deliver_challenge(line, self._key)
        line.send(what)
        return line

    def _asked(self, what: str) -> object:
        try:
            with self._call(what) as line:
                return line.recv()
        except (OSError, EOFError, AuthenticationError):
            return None


class _Line:
    """A viewer's place at a camera that another process has."""

    def __init__(self, camera: SharedCamera, line: Connection) -> None:
        self._camera, self._line, self._lock = camera, line, Lock()

    def newer(self, than: int, timeout: float) -> Snapshot | None:
        with self._lock, suppress(OSError, EOFError):
            if self._camera.closed:
                return None
            self._line.send(than)
            end = time.monotonic() + timeout + self._camera.PATIENCE
            while not self._line.poll(0.1):
                if self._camera.closed or time.monotonic() > end:
                    return None
            newest: Snapshot | None = self._line.recv()
            return newest
        return None  # the process has gone or hangs, and the stream ends

    def leave(self, viewer: Viewer) -> None:
        with self._lock:
            self._line.close()
