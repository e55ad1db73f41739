"""What `pretrain_jax.synthesis` offers: each name is imported when it is used."""

from .images import index_images as index_images
from .importing.dicom import import_dicom as import_dicom
from .importing.nifti import import_nifti as import_nifti
from .margins import ProbeModel as ProbeModel
from .margins import load_probe as load_probe
from .margins import read_features as read_features
from .methods import METHODS as METHODS
from .methods import Method as Method
from .parts import Images as Images
from .parts import Patches as Patches
from .picking import toy_model_ratio as toy_model_ratio
from .proposers import PROPOSERS as PROPOSERS
from .proposers import Proposer as Proposer
from .proposers import RandomCrop as RandomCrop
from .proposers import Saliency as Saliency
from .proposers import proposer_from_name as proposer_from_name
from .proposing import propose as propose
from .sam import Sam as Sam
from .scoring import score as score
from .selecting import select as select
from .synthesising import synthesise as synthesise

__all__ = [
    "METHODS",
    "PROPOSERS",
    "Images",
    "Method",
    "Patches",
    "ProbeModel",
    "Proposer",
    "RandomCrop",
    "Saliency",
    "Sam",
    "import_dicom",
    "import_nifti",
    "index_images",
    "load_probe",
    "propose",
    "proposer_from_name",
    "read_features",
    "score",
    "select",
    "synthesise",
    "toy_model_ratio",
]
