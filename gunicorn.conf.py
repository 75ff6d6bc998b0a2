"""How gunicorn serves the site: threads for its viewers and visitors, in one process or several that share a camera."""

import errno
import glob
import logging
import math
import os
import resource
import shutil
import signal
import socket
import stat
import struct
import sys
import tempfile
import time
from contextlib import suppress

from gunicorn.util import close_graceful
from gunicorn.workers.gthread import ThreadWorker

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from web.lanes import WAITING
from web.readings import signing_key
from web.settings import SettingsError, check_settings

_settings = check_settings()
_host = f"[{_settings['HOST']}]" if ":" in _settings["HOST"] else _settings["HOST"]
_send_buffer = 256 * 1024  # bytes: a slow viewer gets newer pictures, not a queue of old ones
_unfinished = 6 * _settings["STALL"]  # seconds that a request may take to come whole
_ends_with_terminal = os.isatty(0) and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN  # not under nohup

if not _settings["SECRET_KEY"]:
    try:
        os.environ["VISAGE_SECRET_KEY"] = signing_key(os.environ)  # one for all workers
    except SettingsError as error:
        raise SystemExit(f"Visage FM cannot start: {error}") from None


def _meeting_place():
    """A folder for the workers of this master alone; the same one after a reload. Those of killed masters go."""
    name = f"visage-fm-{os.getuid()}-"
    mine = os.path.join(tempfile.gettempdir(), name)
    if len(os.fsencode(mine)) > 80:  # a socket's name, in there, has 103 bytes at most on macOS, 107 on Linux
        mine = f"/tmp/{name}"  # noqa: S108 - what is made there is this user's alone
    for left in glob.glob(mine + "*"):
        with suppress(ValueError, OverflowError, PermissionError):  # no number of a process, or another's
            try:
                os.kill(int(left.removeprefix(mine)), 0)
            except ProcessLookupError:
                shutil.rmtree(left, ignore_errors=True)
    folder = f"{mine}{os.getpid()}"
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            return tempfile.mkdtemp(prefix="visage-fm-", dir=os.path.dirname(folder))
    return folder


class Worker(ThreadWorker):
    """Cuts off who leaves a request unfinished, and waits in the thread that served them for who does not hang up.

    A limit on each read alone would let somebody send a byte now and then; gunicorn's own worker waits for a hanging up
    in the one thread that all connections go through.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.begun = {}  # connection -> when its request began, and its body once the head is there

    def accept(self, listener):
        # All workers wake for a connection, and the same one would be first each time: who has more waits longer.
        if workers > 1:
            time.sleep(0.0004 * self.nr_conns**0.5)
        try:
            super().accept(listener)
        except OSError as error:  # no file is left for it: whoever waits there is let in when somebody has gone
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            time.sleep(0.1)

    def handle(self, conn):
        self.begun[conn] = time.monotonic(), None
        try:
            answer = super().handle(conn)
        finally:
            self.begun.pop(conn, None)
        if answer is False:
            close_graceful(conn.sock, timeout=1.0)
            conn.close = lambda graceful=False: None  # it is
        return answer

    def handle_request(self, req, conn):
        self.begun[conn] = self.begun[conn][0], req.body
        return super().handle_request(req, conn)

    def murder_pending(self):
        super().murder_pending()
        for conn, (begun, body) in list(self.begun.items()):
            if time.monotonic() - begun > _unfinished and not _is_whole(body):
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RDWR)  # its thread wakes, and closes it


def _is_whole(body):
    """Whether a request has come to its end: it may be a viewer's, who stays, or take its time to be answered."""
    return body is not None and getattr(body.reader, "length", None) == 0


def _cores():
    """How many cores this may use, at most as many as there may be workers; a container may have less than it sees."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with suppress(OSError, ValueError), open("/sys/fs/cgroup/cpu.max") as file:
        quota, period = map(int, file.read().split())  # "max" is no limit
        cores = min(cores, math.ceil(quota / period))
    return max(1, min(cores, 64))


def _open_files():
    """How many files a worker may open, raised as far as it may be: each connection is one.

    Not beyond 1024, where OpenCV waits for cameras with select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1024 if hard == resource.RLIM_INFINITY else min(hard, 1024)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


wsgi_app = "app:serve()"
bind = f"{_host}:{_settings['PORT']}"
workers = _settings["WORKERS"] or _cores()
worker_class = Worker
threads = _settings["VIEWERS"] + WAITING + 8  # a stream holds a thread; the page's other requests need some too
worker_connections = max(64, min(1000, _open_files() - 2 * threads - 100))
preload_app = False  # a camera's threads do not survive a fork
graceful_timeout = 2
timeout = 30
keepalive = 5  # seconds: a visitor's next picture comes sooner
control_socket_disable = True  # nobody uses it, and it lies in a home that may not be writable
loglevel = "warning"

_shared = _meeting_place() if workers > 1 else ""
if _shared:
    wsgi_app = f"app:serve({_shared!r})"
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")  # each has a core, and its threads would fight over the others


def when_ready(server):
    if _ends_with_terminal:  # gunicorn would start its workers anew, with nowhere to say that they cannot
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    # Connections inherit these: whoever neither reads nor finishes what was begun must not hold a thread for ever.
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _send_buffer)
        for limit in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            listener.sock.setsockopt(socket.SOL_SOCKET, limit, struct.pack("ll", _settings["STALL"], 0))


def _is_news(record):
    """Not that somebody did not finish a request, or did not read the answer."""
    return not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError))


def _apart_from_libraries(log):
    """What decoders print of each damaged picture reaches nobody; what Python says goes where it went."""
    error_output = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1, errors="backslashreplace")
    for handler in log.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.setStream(error_output)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    sys.stderr = error_output


def _own_address():
    """This computer's in its network, in numbers: a phone need not know its name."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # an address that nobody has; nothing is sent
        return probe.getsockname()[0]
    return socket.gethostname()


def _whereabouts():
    """The addresses at which the site answers, as people open them; a proxy's is the proxy's matter."""
    port = _settings["PORT"]
    if _settings["HOST"] not in ("0.0.0.0", "::"):  # noqa: S104 - what somebody has chosen; nobody's address
        return f"http://{bind}"
    name = _settings["NAMES"].partition(",")[0].strip() or _own_address()
    return f"http://127.0.0.1:{port}" + ("" if _settings["PROXIES"] else f"; from elsewhere http://{name}:{port}")


def post_worker_init(worker):
    worker.log.error_log.addFilter(_is_news)
    _apart_from_libraries(worker.log.error_log)
    if worker.age == 1:  # the first of all; only now is it certain that the site can start
        print(f"Visage FM is at {_whereabouts()} (Ctrl-C stops it)", flush=True)


def worker_exit(server, worker):
    if app := getattr(worker, "wsgi", None):  # None when it could not start
        app.extensions["visage"].close()


def on_exit(server):
    if _shared:
        shutil.rmtree(_shared, ignore_errors=True)
