"""What `pretrain_jax.segmentation` offers: each name is imported when it is used."""

from .burned_text import frames_with_text as frames_with_text
from .coco import Annotation as Annotation
from .coco import coco_record as coco_record
from .coco import encode_rle as encode_rle
from .coco import write_coco as write_coco
from .coco import write_proposals as write_proposals
from .config import FINETUNE_PRESETS as FINETUNE_PRESETS
from .config import FinetuneConfig as FinetuneConfig
from .dataset import Case as Case
from .dataset import SegmentationSet as SegmentationSet
from .dataset import read_case as read_case
from .dataset import split as split
from .finetuning import finetune as finetune
from .folds import cross_validate as cross_validate
from .layouts import PUBLISHED as PUBLISHED
from .layouts import read_pair as read_pair
from .layouts import read_pretraining as read_pretraining
from .layouts import read_segmentation as read_segmentation
from .layouts import write_image_list as write_image_list
from .leakage import Frame as Frame
from .leakage import LeakageError as LeakageError
from .leakage import check_leakage as check_leakage
from .leakage import find_leaks as find_leaks
from .leakage import frames_of as frames_of
from .metrics import Interval as Interval
from .metrics import SetScore as SetScore
from .metrics import boundary_f as boundary_f
from .metrics import confusion as confusion
from .metrics import dice as dice
from .metrics import iou as iou
from .metrics import normdel as normdel
from .metrics import score_set as score_set
from .predicting import predict as predict
from .segmenter import TrainedSegmenter as TrainedSegmenter
from .segmenter import load_segmenter as load_segmenter
from .shipped import Shipped as Shipped
from .shipped import write_shipped_segmentation as write_shipped_segmentation

__all__ = [
    "FINETUNE_PRESETS",
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
    "cross_validate",
    "dice",
    "encode_rle",
    "find_leaks",
    "finetune",
    "frames_of",
    "frames_with_text",
    "iou",
    "load_segmenter",
    "normdel",
    "predict",
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
