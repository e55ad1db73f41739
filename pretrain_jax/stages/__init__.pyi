"""What `pretrain_jax.stages` offers: each name is imported when it is used."""

from .manifest import Manifest, Stage, digest, input_folder, open_stage, output, read_manifest
from .pictures import Tile, contact_sheet, drawn_boxes
from .tables import (
    Logged,
    Table,
    check_shards,
    missing_shards,
    read_logs,
    shard_range,
    shards_to_do,
    write_shard,
    write_table,
)

__all__ = [
    "Logged",
    "Manifest",
    "Stage",
    "Table",
    "Tile",
    "check_shards",
    "contact_sheet",
    "digest",
    "drawn_boxes",
    "input_folder",
    "missing_shards",
    "open_stage",
    "output",
    "read_logs",
    "read_manifest",
    "shard_range",
    "shards_to_do",
    "write_shard",
    "write_table",
]
