"""What `pretrain_jax.segmentation` offers: each name is imported when it is used."""

from .annotations import Annotation, coco_record, decode_rle, encode_rle, write_coco
from .bootstrap import Interval, SetScore, score_set
from .burned_text import frames_with_text
from .config import FINETUNE_PRESETS, FinetuneConfig
from .dataset import Case, SegmentationSet, read_case, split
from .finetuning import finetune
from .layouts import (
    PRETRAINING,
    PUBLISHED,
    read_pair,
    read_pretraining,
    read_segmentation,
    write_image_list,
)
from .leakage import Frame, LeakageError, check_leakage, find_leaks, frames_of
from .metrics import boundary_f, confusion, dice, iou, normdel
from .proposals import write_proposals
from .segmenter import TrainedSegmenter, load_segmenter
from .shipped import Shipped, write_shipped_segmentation

__all__ = [
    "FINETUNE_PRESETS",
    "PRETRAINING",
    "PUBLISHED",
    "Annotation",
    "Case",
    "FinetuneConfig",
    "Frame",
    "Interval",
    "LeakageError",
    "SegmentationSet",
    "SetScore",
    "Shipped",
    "TrainedSegmenter",
    "boundary_f",
    "check_leakage",
    "coco_record",
    "confusion",
    "decode_rle",
    "dice",
    "encode_rle",
    "find_leaks",
    "finetune",
    "frames_of",
    "frames_with_text",
    "iou",
    "load_segmenter",
    "normdel",
    "read_case",
    "read_pair",
    "read_pretraining",
    "read_segmentation",
    "score_set",
    "split",
    "write_coco",
    "write_image_list",
    "write_proposals",
    "write_shipped_segmentation",
]
