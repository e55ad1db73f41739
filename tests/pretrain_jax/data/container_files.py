"""Writes the same images as a folder and in every container, by the published layouts.

- WebDataset: POSIX tar files, a sample being files of one name up to the first dot
  (https://github.com/webdataset/webdataset, section "The WebDataset Format").
- Hugging Face: an image is struct<bytes: binary, path: string>, the features are JSON in the
  schema's metadata under `huggingface`, and `Dataset.save_to_disk` writes Arrow streams
  data-00000-of-00002.arrow, dataset_info.json, and state.json, whose `_data_files` names them
  (https://github.com/huggingface/datasets: features/image.py, arrow_writer.py, arrow_dataset.py).
"""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

FORMS = ("images.tar", "shards", "images.parquet", "tables", "saved", "list.txt")
IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def encoded(seed: int, kind: str = "PNG", size: tuple[int, int] = (40, 48)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def images(count: int = 6) -> dict[str, bytes]:
    """Images of two folders, and one array."""
    kinds = ("PNG", "JPEG")
    found = {
        f"{'ab'[number % 2]}/{number}.{'png' if number % 3 else 'jpg'}": encoded(
            number, kinds[not number % 3]
        )
        for number in range(count)
    }
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(9).random((40, 48)).astype(np.float32))
    return found | {"b/array.npy": buffer.getvalue()}


def write_tar(path: Path, files: Iterable[tuple[str, bytes]], **fields: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(content))
    return path


def table(
    files: Mapping[str, bytes] | Iterable[tuple[str | None, bytes | None]],
    features: Mapping[str, Any] | None = None,
    **columns: Any,
) -> pyarrow.Table:
    pairs = list(files.items()) if isinstance(files, Mapping) else list(files)
    rows = [{"bytes": content, "path": name} for name, content in pairs]
    made = pyarrow.table({"image": pyarrow.array(rows, IMAGE)} | columns)
    told = {"image": {"_type": "Image"}} | dict(features or {})
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": told}})})


def write_saved(path: Path, tables: Iterable[pyarrow.Table], **state: Any) -> Path:
    """Write what `save_to_disk` writes."""
    path.mkdir(parents=True)
    parts = list(tables)
    names = [f"data-{number:05d}-of-{len(parts):05d}.arrow" for number in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        with (
            pyarrow.OSFile(str(path / name), "wb") as file,
            pyarrow.ipc.new_stream(file, part.schema) as writer,
        ):
            writer.write_table(part, max_chunksize=2)
    told = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0"} | state
    (path / "state.json").write_text(json.dumps(told))
    (path / "dataset_info.json").write_text("{}")
    return path


def write_forms(root: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder called `folder`, and all of `FORMS`."""
    for name, content in files.items():
        (root / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "folder" / name).write_bytes(content)
    rows = list(files.items())
    write_tar(root / "images.tar", reversed(rows))
    write_tar(root / "shards" / "0.tar", rows[::2])
    write_tar(root / "shards" / "1.tar", [(f"./{name}", content) for name, content in rows[1::2]])
    whole = table(files)
    pyarrow.parquet.write_table(whole, root / "images.parquet", row_group_size=3)
    (root / "tables").mkdir()
    for number, part in enumerate((whole.slice(0, 2), whole.slice(2))):
        pyarrow.parquet.write_table(part, root / "tables" / f"{number}.parquet", compression="zstd")
    write_saved(root / "saved", (whole.slice(0, 5), whole.slice(5)))
    lines = "".join(f"images.tar/{name}\t{name[0]}\n" for name in sorted(files))
    (root / "list.txt").write_text(lines)
