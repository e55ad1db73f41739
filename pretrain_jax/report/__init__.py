"""The page that a run of the pipeline ends in, and the published numbers beside it."""

from pretrain_jax.report.bridge import Bridge, bridge
from pretrain_jax.report.page import write_report
from pretrain_jax.report.published import TABLES, PublishedTable
from pretrain_jax.report.v_information import Halves, SetInformation, set_information

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
