"""What goes in and out of the site as pictures. It knows OpenCV and the faces, and nothing of Flask.

Import it before anything that loads OpenCV, which takes its settings from the environment at that moment.
"""

import os

MOST_PIXELS = 51_000_000  # of a picture that is read: 8192 x 6144 is what phones call 50 megapixels

# macOS: OpenCV asks for permission on the main thread only; the system itself asks when the camera opens.
os.environ.setdefault("OPENCV_AVFOUNDATION_SKIP_AUTH", "1")
# Linux: a camera that falls silent holds a read for so many seconds, and its light stays on; OpenCV would say 10.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")
# What stills.read_header did not see through ends here.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MOST_PIXELS))
