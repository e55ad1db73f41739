"""What `pretrain_jax.report` offers: each name is imported when it is used."""

from .page import write_report as write_report
from .published import TABLES as TABLES
from .published import PublishedTable as PublishedTable
from .toy_model import Bridge as Bridge
from .toy_model import bridge as bridge
from .v_information import Halves as Halves
from .v_information import SetInformation as SetInformation
from .v_information import set_information as set_information

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
