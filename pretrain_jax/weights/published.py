"""Reads and writes published weights with the JSON files beside them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hardset.cli import one_line
from hardset.datafile import write_bytes_atomic
from pretrain_jax.weights.reader import read_state, write_safetensors
from pretrain_jax.weights.torch_file import WeightsError, names

WEIGHTS = "model.safetensors"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
INDEX = ".index.json"
# Files of trainers that lie beside weights and are none.
OTHERS = frozenset({"optimizer.pt", "optimizer.bin", "scheduler.pt", "training_args.bin"})
LONGEST_JSON = 1 << 26  # bytes


@dataclass(frozen=True)
class Published:
    """Holds what a file or folder says about a model.

    Attributes:
        path: the file of the arrays, or the list of its shards.
        state: name -> array.
        config: entries of config.json, none where it is missing.
        preprocessing: entries of preprocessor_config.json, or those of timm's config.json under
            the same names; none where there are none.
    """

    path: Path
    state: Mapping[str, NDArray]
    config: Mapping[str, Any]
    preprocessing: Mapping[str, Any]

    def statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Return mean and standard deviation of channels where the largest pixel is 1.

        Returns:
            None where nothing tells them.

        Raises:
            WeightsError: they do not fit the channels, are no numbers or not positive.
        """
        entries = self.preprocessing
        if entries.get("do_normalize", True) is False:
            return (0.0,) * channels, (1.0,) * channels
        factor = entries.get("rescale_factor", 1 / 255)
        if factor != 1 / 255 and not math.isclose(255 * _number(factor), 1, rel_tol=1e-6):
            raise WeightsError(
                f"{PREPROCESSOR} beside it has rescale_factor = {one_line(factor)}; only 1/255 is "
                "known"
            )
        if "image_mean" not in entries or "image_std" not in entries:
            return None
        mean, std = (_numbers(entries[name], channels) for name in ("image_mean", "image_std"))
        if mean is None or std is None or min(std) <= 0:
            raise WeightsError(
                f"{PREPROCESSOR} beside it has image_mean = {one_line(entries['image_mean'])} and "
                f"image_std = {one_line(entries['image_std'])}; {channels} numbers each are "
                "needed, the latter above 0"
            )
        return mean, std

    def side(self) -> int | None:
        """Return the side of the images that preprocessing makes, None where it is not told."""
        entries = self.preprocessing
        cropped = "crop_size" in entries and entries.get("do_center_crop", True)
        size = entries["crop_size"] if cropped else entries.get("size")
        if isinstance(size, Mapping):
            size = size.get("height") if size.get("height") == size.get("width") else None
        return size if isinstance(size, int) and size > 0 else None


def read_published(source: Path) -> Published:
    """Read the arrays of a file or folder, and the JSON files beside them.

    Args:
        source: a file of weights, the list of its shards (.index.json), or a folder with one of
            them.

    Raises:
        WeightsError: no such file, none or several in the folder, a damaged one.
    """
    path = weights_file(source) if source.is_dir() else source
    state = _shards(path) if path.name.endswith(INDEX) else read_state(path)
    config = read_json(path.with_name(CONFIG))
    preprocessing = read_json(path.with_name(PREPROCESSOR))
    timm = config.get("pretrained_cfg")
    if not preprocessing and isinstance(timm, Mapping):
        preprocessing = {"image_" + name: timm[name] for name in ("mean", "std") if name in timm}
    return Published(path, state, config, preprocessing)


def write_published(folder: Path, published: Published) -> None:
    """Write a folder in the layout of transformers.

    It has model.safetensors, config.json and preprocessor_config.json.

    Args:
        folder: is there; files of these names are replaced.
        published: what they hold; its path is not used.
    """
    # The arrays come last: a folder without them is not taken for a whole one.
    for name, content in ((CONFIG, published.config), (PREPROCESSOR, published.preprocessing)):
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        write_bytes_atomic(folder / name, text.encode())
    write_safetensors(folder / WEIGHTS, published.state, {"format": "pt"})


def weights_file(folder: Path) -> Path:
    """Find the file of weights in a folder.

    Raises:
        WeightsError: there is none, or more than one.
    """
    files = sorted(one for one in folder.iterdir() if one.is_file() and one.name not in OTHERS)
    found = [one for one in files if one.name.endswith(INDEX)]
    shards = {shard for one in found for shard in _weight_map(one).values()}
    found += [one for one in files if one.suffix in SUFFIXES and one.name not in shards]
    if not found:
        raise WeightsError(
            f"{folder} holds no weights: a file ending in {', '.join(SUFFIXES)} is expected"
        )
    if len(found) > 1:
        raise WeightsError(
            f"{folder} holds {len(found)} files of weights, {names(one.name for one in found)}: "
            "name the one that you mean"
        )
    return found[0]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that somebody else wrote, empty where there is no such file.

    Raises:
        WeightsError: it cannot be read, or is no object.
    """
    try:
        if path.stat().st_size > LONGEST_JSON:
            raise WeightsError(f"{path} has more than {LONGEST_JSON >> 20} MiB")
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    except WeightsError:
        raise
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is no JSON: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds no JSON object")
    return content


def _weight_map(path: Path) -> dict[str, str]:
    """Return which array is in which shard."""
    found = read_json(path).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise WeightsError(f"{path} has no weight_map, which says where each array is")
    for shard in found.values():
        if not isinstance(shard, str) or shard != Path(shard).name or shard in ("", ".", ".."):
            raise WeightsError(
                f"{path} names the shard {one_line(shard)}, which is no file beside it"
            )
    return found


def _shards(path: Path) -> dict[str, NDArray]:
    """Read the arrays of all shards."""
    where = _weight_map(path)
    state: dict[str, NDArray] = {}
    for shard in sorted(set(where.values())):
        arrays = read_state(path.with_name(shard))
        strange = [name for name in arrays if where.get(name) != shard]
        lacking = [name for name, place in where.items() if place == shard and name not in arrays]
        if strange or lacking:
            raise WeightsError(
                f"{path} and {shard} do not fit each other: {names(strange or lacking)} "
                f"{'are in the shard alone' if strange else 'are not in the shard'}"
            )
        state |= arrays
    return state


def _number(value: Any) -> float:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if real else math.nan


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Return that many finite numbers, or None."""
    values = value if isinstance(value, list) else [value] * count
    found = tuple(map(_number, values))
    return found if len(found) == count and all(map(math.isfinite, found)) else None
