"""What all stages of the pipeline share: manifests, sharded tables, contact sheets."""

from hardset.lock import alone
from pretrain_jax.stages.manifest import (
    Manifest,
    Stage,
    digest,
    input_folder,
    open_stage,
    read_manifest,
)
from pretrain_jax.stages.pictures import Tile, contact_sheet, drawn_boxes
from pretrain_jax.stages.tables import (
    Logged,
    Table,
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
    "alone",
    "contact_sheet",
    "digest",
    "drawn_boxes",
    "input_folder",
    "missing_shards",
    "open_stage",
    "read_logs",
    "read_manifest",
    "shard_range",
    "shards_to_do",
    "write_shard",
    "write_table",
]
