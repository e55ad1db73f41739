from .manifest import (
    Manifest as Manifest,
)
from .manifest import (
    Stage as Stage,
)
from .manifest import (
    digest as digest,
)
from .manifest import (
    input_folder as input_folder,
)
from .manifest import (
    open_stage as open_stage,
)
from .manifest import (
    read_manifest as read_manifest,
)
from .pictures import (
    Tile as Tile,
)
from .pictures import (
    contact_sheet as contact_sheet,
)
from .pictures import (
    drawn_boxes as drawn_boxes,
)
from .tables import (
    Logged as Logged,
)
from .tables import (
    Table as Table,
)
from .tables import (
    check_shards as check_shards,
)
from .tables import (
    missing_shards as missing_shards,
)
from .tables import (
    read_logs as read_logs,
)
from .tables import (
    shard_range as shard_range,
)
from .tables import (
    shards_to_do as shards_to_do,
)
from .tables import (
    write_shard as write_shard,
)
from .tables import (
    write_table as write_table,
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
    "read_logs",
    "read_manifest",
    "shard_range",
    "shards_to_do",
    "write_shard",
    "write_table",
]
