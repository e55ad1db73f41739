"""Segmentation after pre-training: data sets, heads, fine-tuning, scores, leakage, annotations."""

from pretrain_jax.segmentation.annotations import (
    Annotation,
    coco_record,
    decode_rle,
    encode_rle,
    write_coco,
)
from pretrain_jax.segmentation.bootstrap import Interval, SetScore, score_set
from pretrain_jax.segmentation.burned_text import frames_with_text
from pretrain_jax.segmentation.config import FINETUNE_PRESETS, FinetuneConfig
from pretrain_jax.segmentation.dataset import Case, SegmentationSet, read_case, split
from pretrain_jax.segmentation.finetuning import finetune
from pretrain_jax.segmentation.layouts import (
    PRETRAINING,
    PUBLISHED,
    read_pair,
    read_pretraining,
    read_segmentation,
    write_image_list,
)
from pretrain_jax.segmentation.leakage import (
    Frame,
    LeakageError,
    check_leakage,
    find_leaks,
    frames_of,
)
from pretrain_jax.segmentation.metrics import boundary_f, confusion, dice, iou, normdel
from pretrain_jax.segmentation.proposals import write_proposals
from pretrain_jax.segmentation.segmenter import TrainedSegmenter, load_segmenter
from pretrain_jax.segmentation.shipped import Shipped, write_shipped_segmentation

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
