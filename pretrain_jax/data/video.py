"""Reads frames of video files by number, through PyAV."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data.opening import check_pixels, regular_file

# Containers of the endings below. By content FFmpeg would also open lists of files and addresses.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,h264,hevc,m4v"


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise ValueError(
            "videos need the package av, which is not installed: pip install 'hardset[pretrain]'"
        ) from None
    return av


def _opened(path: str) -> Any:
    """Open a video of one of the known kinds.

    Its frames have a size that may be held.

    Raises:
        ValueError: a size beyond `check_pixels`, or no regular file.
        OSError: no such file, or it cannot be decoded, which is also IndexError.
    """
    file: Any = regular_file(path)
    if Path(path).is_file():  # FFmpeg itself reads it faster
        file.close()
        file = path
    container = _av().open(file, options={"format_whitelist": CONTAINERS})
    try:
        context = container.streams.video[0].codec_context
        check_pixels(context.height, context.width)
    except BaseException:
        container.close()
        raise
    return container


@lru_cache(maxsize=256)
def frame_times(path: str) -> tuple[int, ...]:
    """Return the presentation times of a video's frames, ascending.

    They are in the stream's time base.

    Nothing is decoded. An unreadable video has no frames.
    """
    av = _av()
    try:
        with _opened(path) as container:
            packets = container.demux(container.streams.video[0])
            return tuple(sorted(packet.pts for packet in packets if packet.pts is not None))
    except (av.FFmpegError, IndexError, OSError, ValueError):
        return ()


@lru_cache(maxsize=1)
def frame_sizes(path: str) -> tuple[tuple[int, int] | None, ...]:
    """Return height and width of every frame of a video.

    All frames are decoded in one go.

    A size is None where that gives no frame. `read_frame` may give one, as it begins anew at the
    key frame before.
    """
    av = _av()
    times = frame_times(path)
    sizes: dict[int, tuple[int, int]] = {}
    try:
        with _opened(path) as container:
            for found in container.decode(container.streams.video[0]):
                if found.pts is not None:
                    sizes[found.pts] = found.height, found.width
    except (av.FFmpegError, IndexError, OSError, ValueError):
        pass  # the frames behind the damage are missing
    return tuple(sizes.get(time) for time in times)


def read_frame(path: str, frame: int) -> NDArray[np.uint8]:
    """Read frame number `frame` of a video, shape (H, W, 3).

    Raises:
        ValueError: the video holds no such frame or cannot be decoded.
    """
    av = _av()
    times = frame_times(path)
    if not times:
        try:
            _opened(path).close()
        except (av.FFmpegError, IndexError, OSError, ValueError) as error:
            reason = "it holds no video" if isinstance(error, IndexError) else error
            raise ValueError(f"cannot be decoded: {reason}") from None
    if frame >= len(times):
        raise ValueError(f"has no readable frame {frame}")
    wanted = times[frame]
    try:
        with _opened(path) as container:
            stream = container.streams.video[0]
            container.seek(wanted, stream=stream, backward=True)
            for found in container.decode(stream):
                if found.pts is not None and found.pts >= wanted:
                    return np.asarray(found.to_ndarray(format="rgb24"))
    except (av.FFmpegError, IndexError, OSError) as error:
        raise ValueError(f"frame {frame} cannot be decoded: {error}") from None
    raise ValueError(f"frame {frame} cannot be decoded: the file ends before it")
