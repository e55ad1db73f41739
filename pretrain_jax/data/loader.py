"""Makes batches of images in a deterministic order.

Grain's workers decode the images, and unreadable ones are skipped.

Position p of the stream is image `order(p)` of epoch p // n, cropped with a generator seeded by
(seed, p). Batch b is the positions b B to (b + 1) B - 1. Neither depends on the number of workers
or hosts, so that a run can go on elsewhere.
"""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer, check_range
from pretrain_jax.data.decode import Pixels, UnreadableImageError, read_pixels
from pretrain_jax.data.opening import Remark
from pretrain_jax.data.skipping import reason_line, told
from pretrain_jax.data.sources import ImageSet
from pretrain_jax.data.transforms import Crop, MixedSizesError

# Draws of another image in the place of an unreadable one, before a batch is given up.
REPLACEMENTS = 50
LISTED = 10
BUFFERED_BATCHES = 2


class TooManySkippedError(ValueError):
    """Says that more images are unreadable than the user allows.

    Attributes:
        skipped: line with the reason by image name.
    """

    def __init__(self, skipped: dict[str, str], total: int, share: float) -> None:
        shown = "; ".join(" ".join(reason.split()) for reason in list(skipped.values())[:LISTED])
        more = f"; and {len(skipped) - LISTED} more" if len(skipped) > LISTED else ""
        counted = f" ({told(skipped.values())})"
        allowed = f"more than the share {share:g} that --data.skip-at-most allows"
        why = "" if len(skipped) == total else f", {allowed}"
        super().__init__(
            f"{len(skipped)} of {total} images cannot be read{counted}{why}: {shown}{more}"
        )
        self.skipped = skipped


class Batch(NamedTuple):
    """Holds one host's rows of a batch.

    Attributes:
        images: (rows, size, size, C), uint8 or uint16.
        indices: (rows,) int64, the image of each row.
    """

    images: Pixels
    indices: NDArray[np.int64]


@dataclass(frozen=True)
class _Decode:
    """Decodes this host's rows of a batch.

    It is a map of Grain from global positions and image indices to decoded rows.
    """

    images: ImageSet
    crop: Crop
    channels: int
    bits: int
    seed: int
    host: int
    hosts: int

    def __call__(self, drawn: dict[str, Any]) -> dict[str, Any]:
        positions, indices = np.asarray(drawn["position"]), np.array(drawn["index"], np.int64)
        rows = len(indices) // self.hosts
        mine = slice(self.host * rows, (self.host + 1) * rows)
        positions, indices = positions[mine], indices[mine]
        kind = np.uint8 if self.bits == 8 else np.uint16
        pixels = np.zeros((rows, self.crop.size, self.crop.size, self.channels), kind)
        skipped: dict[int, str] = {}
        stop = ""
        for row in range(rows):
            rng = np.random.default_rng([self.seed, int(positions[row])])
            try:
                indices[row] = self._fill(pixels[row], int(indices[row]), rng, skipped)
            except MixedSizesError as error:
                stop = str(error)
                break
            except UnreadableImageError:
                break  # `skipped` tells the consumer
        report = json.dumps({"skipped": skipped, "stop": stop, "whole": row == rows - 1})
        return {
            "images": pixels,
            "indices": indices,
            "report": np.frombuffer(report.encode(), np.uint8),
        }

    def _fill(
        self, out: Pixels, index: int, rng: np.random.Generator, skipped: dict[int, str]
    ) -> int:
        """Decode the image `index`, or another in its place, into `out`.

        It returns the number of the image that was decoded.
        """
        for attempt in range(REPLACEMENTS):
            path, frame = self.images.locate(index)
            try:
                found = read_pixels(path, frame, channels=self.channels, bits=self.bits)
            except UnreadableImageError as error:
                skipped[index] = reason_line(error.reason, str(error))
                if attempt == REPLACEMENTS - 1:
                    raise
                index = int(rng.integers(len(self.images)))
            else:
                out[:] = self.crop(found, rng, self.images.name(index))
                return index
        raise AssertionError("unreachable")


def _positions(position: int, index: int) -> dict[str, int]:
    return {"position": position, "index": index}


class Loader:
    """Gives batches without end.

    Its state can be saved and set.

    Args:
        images: what is drawn from; every epoch in another order.
        crop: how images come to the model's size.
        batch_size: rows of the global batch, a multiple of `hosts`.
        channels: 1 or 3.
        bits: 8 or 16.
        seed: of the order and of the crops.
        workers: worker processes that decode; 0 decodes on threads of this process.
        skip_at_most: the share of `images` that may be unreadable, in [0, 1].
        host: number of this host; it decodes the rows that are its own.
        hosts: number of hosts.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        images: ImageSet,
        crop: Crop,
        *,
        batch_size: int,
        channels: int = 3,
        bits: int = 8,
        seed: int = 0,
        workers: int = 0,
        skip_at_most: float = 0.01,
        host: int = 0,
        hosts: int = 1,
    ) -> None:
        check_integer("workers", workers, 0, 4096)
        check_range("skip_at_most", skip_at_most, 0.0, 1.0)
        if batch_size < 1 or batch_size % hosts:
            raise ValueError(
                f"batch_size = {batch_size} is not a positive multiple of {hosts} host(s)"
            )
        self._images = images
        self._decode = _Decode(images, crop, channels, bits, seed, host, hosts)
        self._batch_size = batch_size
        self._seed = seed
        self._workers = workers
        self._share = skip_at_most
        self._start = self._next_batch = 0
        self.skipped: dict[str, str] = {}
        self._iterator = self._open()

    def __iter__(self) -> "Loader":
        """Return the loader itself."""
        return self

    def __next__(self) -> Batch:
        """Return the next batch.

        Raises:
            TooManySkippedError: more unreadable images than allowed, with their list; those whose
            pixels are no numbers in range are among them.
            ValueError: mixed sizes; names the file.
        """
        found = next(self._iterator)
        report = json.loads(found["report"].tobytes())
        for index, reason in report["skipped"].items():
            self.skipped[self._images.name(int(index))] = reason
        if report["stop"]:
            raise ValueError(report["stop"])
        if len(self.skipped) > self._share * len(self._images) or not report["whole"]:
            raise TooManySkippedError(self.skipped, len(self._images), self._share)
        self._next_batch += 1
        return Batch(found["images"], found["indices"])

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to go on from here.

        It goes on after the batches handed out so far. The state is JSON-able.
        """
        return {
            "next_batch": self._next_batch,
            "workers": self._workers,
            "grain": self._iterator.get_state(),
            "grain_start": self._start,
            "skipped": dict(self.skipped),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken.

        The number of workers may differ.
        """
        # Grain's state is per worker; the stream itself is not.
        same = state["workers"] == self._workers
        self._next_batch = int(state["next_batch"])
        self._start = int(state["grain_start"]) if same else self._next_batch
        self.skipped = dict(state["skipped"])
        self._iterator.close()
        self._iterator = self._open()
        if same:
            self._iterator.set_state(state["grain"])

    def close(self) -> None:
        """End the worker processes."""
        self._iterator.close()

    def _open(self) -> Any:
        grain = _grain()
        stream = (
            grain.MapDataset.range(len(self._images))
            .shuffle(self._seed % 2**32)
            .repeat()
            .map_with_index(_positions)
            .batch(self._batch_size, drop_remainder=True)
        )
        if self._start:
            stream = stream[self._start :]
        stream = stream.map(self._decode).to_iter_dataset(
            grain.ReadOptions(
                num_threads=1 if self._workers else 2, prefetch_buffer_size=BUFFERED_BATCHES
            )
        )
        if self._workers:
            stream = stream.mp_prefetch(
                grain.MultiprocessingOptions(
                    num_workers=self._workers, per_worker_buffer_size=BUFFERED_BATCHES
                ),
                worker_init_fn=_outlive_interrupts,
            )
        return iter(stream)


def _outlive_interrupts(worker: int, workers: int) -> None:
    """Make a worker ignore Ctrl-C.

    A terminal sends it to all processes; the main one saves first.
    """
    del worker, workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def decode_all(
    images: ImageSet,
    crop: Crop,
    *,
    channels: int = 3,
    bits: int = 8,
    advance: Callable[[int], Any] = lambda count: None,
    remarks: list[tuple[str, Remark]] | None = None,
) -> tuple[Batch, dict[str, str]]:
    """Decode every readable image once, in order.

    It is for validation sets, which stay in memory.

    Args:
        images: the set.
        crop: deterministic ("centre" or "none").
        channels: 1 or 3.
        bits: 8 or 16.
        advance: called with 1 after each image.
        remarks: gets what is to be noticed, with the images' names.

    Returns:
        The images that could be read, with their indices, and the reasons of the others by name.

    Raises:
        TooManySkippedError: none is readable.
        ValueError: mixed sizes.
    """
    decoded: list[Any] = []
    indices: list[int] = []
    skipped: dict[str, str] = {}
    for index in range(len(images)):
        path, frame = images.locate(index)
        noticed: list[Remark] = []
        try:
            pixels = read_pixels(path, frame, channels=channels, bits=bits, remarks=noticed)
        except UnreadableImageError as error:
            skipped[images.name(index)] = reason_line(error.reason, str(error))
        else:
            if remarks is not None:
                remarks += [(images.name(index), one) for one in noticed]
            decoded.append(crop(pixels, np.random.default_rng(0), images.name(index)))
            indices.append(index)
        advance(1)
    if not decoded:
        raise TooManySkippedError(skipped, len(images), 1.0)
    return Batch(np.stack(decoded), np.array(indices, np.int64)), skipped


def measure_statistics(pixels: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure mean and standard deviation of each channel.

    The scale has the integer type's maximum as 1.

    Args:
        pixels: shape (n, H, W, C).

    Raises:
        ValueError: a channel is constant.
    """
    flat = pixels.reshape(-1, pixels.shape[-1]).astype(np.float64) / np.iinfo(pixels.dtype).max
    mean, std = flat.mean(axis=0), flat.std(axis=0)
    if (std == 0).any():
        raise ValueError(
            f"channel {int(np.argmin(std))} is constant over all images looked at; there is "
            "nothing to learn from it (give --data.mean and --data.std to train all the same)"
        )
    return tuple(mean.tolist()), tuple(std.tolist())


def _grain() -> Any:
    try:
        import grain
        from absl import flags
    except ImportError:
        raise ValueError(
            "training data needs the package grain, which is not installed: "
            "pip install 'hardset[pretrain]'"
        ) from None
    if not flags.FLAGS.is_parsed():
        # Grain reads its settings from absl, which nobody parses in a program that is not absl's.
        flags.FLAGS.mark_as_parsed()
    return grain
