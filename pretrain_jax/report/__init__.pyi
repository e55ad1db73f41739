"""What `pretrain_jax.report` offers: each name is imported when it is used."""

from .page import write_report
from .published import TABLES, PublishedTable
from .toy_model import Bridge, bridge
from .v_information import Halves, SetInformation, set_information

__all__ = [
    "TABLES",
    "Bridge",
    "Halves",
    "PublishedTable",
    "SetInformation",
    "bridge",
    "set_information",
    "write_report",
]
