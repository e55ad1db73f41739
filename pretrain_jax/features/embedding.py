"""Runs the stage `embed`, the features of all images of a source."""

import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.cli import printable
from hardset.folder import Input, Made, Manifest, Stage
from pretrain_jax.data import BadPixelsError, UnreadableImageError, read_pixels
from pretrain_jax.data.decode import TooLargeImageError
from pretrain_jax.data.listing import (
    STILL,
    Located,
    Tally,
    image_root,
    iterate_images,
    split_layout,
)
from pretrain_jax.data.options import READING, Pages, reading, set_reading
from pretrain_jax.data.skipping import reason_line
from pretrain_jax.features.encoder import Encoder, open_encoder
from pretrain_jax.features.fitting import FITS, Fit
from pretrain_jax.features.forward import Forward, feature_width
from pretrain_jax.features.options import Precision, Tokens, check_embedding
from pretrain_jax.synthesis.source import check_outside, survey
from pretrain_jax.synthesis.tables import Logged, Make, Shards

Pixels = NDArray[np.uint8]
EMBED = Stage(
    "embed",
    inputs=("source", "root", "weights"),
    parameters=(
        *("kind", "image_size", "tokens", "dtype", "frame_stride"),
        *("images", "shards", "layout", *READING),
    ),
)
AHEAD = 2  # batches that are decoded ahead
SHOWN = 10  # sentences of an error
# Digits of a frame in an image's id, so that ids stand in the order of frames.
FRAME_DIGITS = 6


def feature_columns(width: int, dtype: Precision) -> dict[str, str]:
    """Name the table's columns.

    `id` is the image's name, with `#` and the number of the frame where it is one of a video;
    `frame` is that number, or -1.
    """
    texts = {"id": "string", "frame": "int32", "group": "string", "label": "string"}
    return texts | {"features": f"{dtype}[{width}]"}


def image_id(name: str, frame: int) -> str:
    """Name an image, which may be a frame of a video."""
    return name if frame == STILL else f"{name}#{frame:0{FRAME_DIGITS}d}"


def image_name(own: str, frame: int) -> str:
    """Return the name of the file of an image, given its id and frame."""
    return own if frame == STILL else own.rpartition("#")[0]


def embed(
    source: str | Path,
    out: str | Path,
    *,
    weights: str | Path,
    model: str = "auto",
    image_size: int | None = None,
    tokens: Tokens = "class",
    dtype: Precision = "float16",
    frame_stride: int = 1,
    batch_size: int = 32,
    workers: int | None = None,
    skip_at_most: float = 0.0,
    max_megapixels: float | None = None,
    pages: Pages | None = None,
    bits: int | None = None,
    shards: int | None = None,
    progress: bool = False,
) -> Manifest:
    """Compute the features of all images of a source by a pre-trained encoder.

    They lie in Parquet files of 5000 rows or less, in the order of the source, with the columns of
    `feature_columns`. A file is written whole or not at all, and a later call goes on with the
    missing ones. No number depends on batches or devices beyond rounding. Images come to the
    encoder's size as `FITS` says. skipped.txt names every image that is left out.

    Args:
        source: a folder, LAYOUT:FOLDER, an image list, an image or a video, see
            `pretrain_jax.data.listing.entries`.
        out: the stage's folder.
        weights: a run, or a file of weights, see `open_encoder`.
        model: kind of the encoder; "auto" recognises it.
        image_size: side of the images that the encoder gets; default its own.
        tokens: "class" (class token), "mean" (mean of the patches), or "both", one after the other.
        dtype: of the stored numbers, "float16" or "float32".
        frame_stride: every how many frames of a video are taken.
        batch_size: images at once, on all devices together.
        workers: threads that decode images; default one for each processor, 16 at most.
        skip_at_most: share of the images that may be unreadable, in [0, 1].
        max_megapixels: of the largest image that is decoded, default 100.
        pages: whether "all" pictures of a file with several are images, or the "first" only;
            default all.
        bits: that 16-bit images use where their file does not say, 10 to 16.
        shards: number of files; default one for 5000 images.
        progress: whether to draw a progress bar.

    Returns:
        The manifest with the counts images (that have features), width, skipped and, by reason,
        unreadable, too_large and bad_pixels; and the rates images_per_second, and
        images_per_second_without_decoding where this call has computed any.

    Raises:
        ValueError: no readable image, more unreadable ones than allowed (what is done stays, and a
            call that allows more goes on with it), numbers beyond the range of `dtype`, unfit
            weights, arguments out of range.
    """
    check_embedding(tokens, dtype, frame_stride, batch_size, workers, skip_at_most, image_size)
    set_reading(max_megapixels=max_megapixels, pages=pages, bits=bits)
    layout, path = split_layout(source)
    check_outside(source, out)
    encoder = open_encoder(weights, model=model, image_size=image_size)
    tally = Tally()
    found = survey(source, frame_stride, tally)
    for linked in tally.linked:
        check_outside(linked, out)
    divided = Shards.of(found.images, shards)
    parameters: dict[str, Any] = {
        "kind": encoder.kind,
        "image_size": encoder.image_size,
        "tokens": tokens,
        "dtype": dtype,
        "frame_stride": frame_stride,
        "images": found.images,
        "shards": divided.count,
    }
    work = EMBED.open(
        out,
        parameters | ({"layout": layout} if layout else {}) | reading().parameters(),
        None,
        {
            "source": Input(found.digest, path),
            "root": Input(None, image_root(source)),
            "weights": Input(encoder.sha256, weights),
        },
    )
    threads = min(16, os.cpu_count() or 1) if workers is None else workers
    making = _Making(source, frame_stride, encoder, tokens, dtype, batch_size, threads)
    return work.run(lambda work: making.fill(work.folder, divided, tally, skip_at_most, progress))


class _Making(NamedTuple):
    """Holds what the rows of all parts are made of."""

    source: str | Path
    frame_stride: int
    encoder: Encoder
    tokens: Tokens
    dtype: Precision
    batch_size: int
    workers: int

    def fill(
        self, folder: Path, divided: Shards, tally: Tally, share: float, progress: bool
    ) -> Made:
        """Make the missing parts, and sum up what all of them counted."""
        files = divided.rows + len(tally.refused)
        # Names that cannot be used are known before any work is done.
        _check_skipped(self.source, tally.refused, files, share)
        rates: dict[str, float] = {}

        def begin() -> Make:
            forward = Forward(self.encoder, self.side, self.tokens, self.batch_size)
            # While nothing is decoded beside it.
            rates["images_per_second_without_decoding"] = forward.rate()
            images = enumerate(iterate_images(self.source, self.frame_stride, Tally()))

            def make(
                _: int, first: int, end: int, logged: Logged, bar: Any
            ) -> Iterator[dict[str, Any]]:
                wanted = (image for number, image in images if number >= first)
                return self.rows(itertools.islice(wanted, end - first), forward, logged, bar)

            return make

        width = feature_width(self.encoder, self.tokens)
        columns = feature_columns(width, self.dtype)
        made = divided.fill(folder, columns, begin, name="embed", unit="image", progress=progress)
        assert made is not None  # all parts are this process's
        table, total = made
        total.skipped = tally.lines() + total.skipped
        if not table.rows:
            first = "; ".join(printable(one) for one in total.skipped[:SHOWN])
            raise ValueError(f"none of the {files} images of {self.source} can be read: {first}")
        _check_skipped(self.source, total.skipped, files, share)
        if total.seconds:
            rates["images_per_second"] = divided.rows / total.seconds
        fit = FITS[self.encoder.kind]
        notes = [*self.encoder.notes, fit.sentence(self.side), *total.write_skipped(folder)]
        counts = {"images": table.rows, "width": width, "skipped": len(total.skipped)}
        counts |= total.counts
        if tally.refused:
            counts["names_refused"] = len(tally.refused)
        if tally.passed_over:
            counts["passed_over"] = tally.passed_over.total()
        notes += tally.notices()
        return Made(
            counts,
            notes,
            seconds=total.seconds,
            compile_seconds=total.compile_seconds,
            rates=rates,
        )

    @property
    def side(self) -> int:
        """Return the side of the square images that the encoder gets."""
        return self.encoder.image_size

    def rows(
        self, images: Iterable[Located], forward: Forward, logged: Logged, bar: Any
    ) -> Iterator[dict[str, Any]]:
        """Give the rows of one part, a batch at a time."""
        before: tuple[list[Located], Any] | None = None
        with ThreadPoolExecutor(self.workers) as pool:
            for held, pixels in self.batches(images, forward.shape, pool, logged, bar):
                # The devices compute this batch while the one before it is written.
                running = held, forward(pixels)
                if before is not None:
                    yield self.table_rows(*before)
                before = running
            if before is not None:
                yield self.table_rows(*before)

    def batches(
        self,
        images: Iterable[Located],
        shape: tuple[int, int, int, int],
        pool: Executor,
        logged: Logged,
        bar: Any,
    ) -> Iterator[tuple[list[Located], Pixels]]:
        """Decode images into batches of one shape; rows beyond the images are zero."""
        pixels, held = np.zeros(shape, np.uint8), list[Located]()
        for image, found in self.decoded(images, AHEAD * shape[0], pool):
            bar.update()
            if isinstance(found, UnreadableImageError):
                reason = str(found).replace(f"{image_root(self.source)}{os.sep}", "")
                logged.skip(reason_line(found.reason, reason), _reason(found))
                continue
            pixels[len(held)] = found
            held.append(image)
            if len(held) == shape[0]:
                yield held, pixels
                pixels, held = np.zeros(shape, np.uint8), []
        if held:
            yield held, pixels

    def decoded(
        self, images: Iterable[Located], ahead: int, pool: Executor
    ) -> Iterator[tuple[Located, Pixels | UnreadableImageError]]:
        """Decode images in their order, some of them ahead."""
        root, fit = image_root(self.source), FITS[self.encoder.kind]
        waiting: deque[tuple[Located, Future[Pixels | UnreadableImageError]]] = deque()
        for image in images:
            path = str(root / image.name)
            own = (path, image.frame, self.encoder.channels, fit, self.side)
            waiting.append((image, pool.submit(_decode, *own)))
            if len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()

    def table_rows(self, held: list[Located], found: Any) -> dict[str, Any]:
        """Make columns of a batch's features, for which it waits.

        Raises:
            ValueError: numbers that are not finite, or beyond the range of the stored type.
        """
        values = np.asarray(found)[: len(held)]
        largest = np.finfo(self.dtype).max
        beyond = ~(np.abs(values) <= largest).all(axis=1)
        if beyond.any():
            row = int(np.argmax(beyond))
            worst = values[row][np.argmax(~(np.abs(values[row]) <= largest))]
            remedy = "its weights are of no use" if not np.isfinite(worst) else "take float32"
            raise ValueError(
                f"the encoder's features of {held[row].name} hold {worst}, which {self.dtype} "
                f"cannot hold: {remedy}"
            )
        return {
            "id": [image_id(one.name, one.frame) for one in held],
            "frame": [one.frame for one in held],
            "group": [one.group for one in held],
            "label": [one.label for one in held],
            "features": values.astype(self.dtype),
        }


def _decode(
    path: str, frame: int, channels: int, fit: Fit, side: int
) -> Pixels | UnreadableImageError:
    try:
        pixels = read_pixels(path, frame, channels=channels)
    except UnreadableImageError as error:
        return error
    return fit(pixels, side).astype(np.uint8, copy=False)


def _reason(error: UnreadableImageError) -> str:
    if isinstance(error, TooLargeImageError):
        return "too_large"
    return "bad_pixels" if isinstance(error, BadPixelsError) else "unreadable"


def _check_skipped(source: str | Path, skipped: list[str], files: int, share: float) -> None:
    """Raise ValueError where more images are of no use than may be left out."""
    if len(skipped) <= share * files:
        return
    more = f"; and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
    needed = np.ceil(1e4 * len(skipped) / files) / 1e4
    raise ValueError(
        f"{len(skipped)} of the {files} images of {source} cannot be used, more than the share "
        f"{share:g} that may be skipped: "
        f"{'; '.join(printable(one) for one in skipped[:SHOWN])}{more}. Allow them with "
        f"--skip-at-most {needed:g}, which goes on with what is done, or mend them and name "
        "another folder"
    )
