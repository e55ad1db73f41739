"""What `selection` offers; each name is imported from its module when it is used."""

from .adapters import SelectionSampler as SelectionSampler
from .adapters import torch_sampler as torch_sampler
from .adapters import torch_subset as torch_subset
from .adapters import torch_weights as torch_weights
from .advice.estimates import Coordinates as Coordinates
from .advice.estimates import EffectiveDimension as EffectiveDimension
from .advice.estimates import LearningCurve as LearningCurve
from .advice.estimates import coordinates_of_overlap as coordinates_of_overlap
from .advice.estimates import effective_dimension as effective_dimension
from .advice.estimates import estimate_coordinates as estimate_coordinates
from .advice.probes import ProbeErrors as ProbeErrors
from .advice.probes import cross_validation as cross_validation
from .advice.probes import margin_overlap as margin_overlap
from .advice.probes import weight_overlap as weight_overlap
from .advice.recommendation import PolicyAdvice as PolicyAdvice
from .advice.recommendation import Recommendation as Recommendation
from .advice.recommendation import Verdict as Verdict
from .advice.recommendation import recommend as recommend
from .given import Given as Given
from .graph import Clusters as Clusters
from .graph import Graph as Graph
from .graph import kmeans as kmeans
from .graph import knn_graph as knn_graph
from .infomax import InfoMaxCertificate as InfoMaxCertificate
from .infomax import InfoMaxProblem as InfoMaxProblem
from .infomax import InfoMaxSolution as InfoMaxSolution
from .infomax import certify_infomax as certify_infomax
from .infomax import solve_infomax as solve_infomax
from .methods.clusters import BADGE as BADGE
from .methods.clusters import S2L as S2L
from .methods.clusters import ClusterTop as ClusterTop
from .methods.clusters import ssp as ssp
from .methods.dedup import D4 as D4
from .methods.dedup import MedDEL as MedDEL
from .methods.dedup import SemDeDup as SemDeDup
from .methods.diversity import CodingRate as CodingRate
from .methods.diversity import Herding as Herding
from .methods.diversity import HullVolume as HullVolume
from .methods.diversity import KCenter as KCenter
from .methods.facility import CRAIG as CRAIG
from .methods.facility import AdaCore as AdaCore
from .methods.facility import FacilityLocation as FacilityLocation
from .methods.gradients import Glister as Glister
from .methods.gradients import GradMatch as GradMatch
from .methods.graph import D2 as D2
from .methods.graph import InfoMax as InfoMax
from .methods.graph import KMedian as KMedian
from .methods.graph import redundancy as redundancy
from .methods.graph_cut import SAS as SAS
from .methods.graph_cut import ClipCov as ClipCov
from .methods.ranking import CCS as CCS
from .methods.ranking import EasiestFirst as EasiestFirst
from .methods.ranking import HardestFirst as HardestFirst
from .methods.ranking import ModerateCoreset as ModerateCoreset
from .methods.ranking import RandomSample as RandomSample
from .methods.ranking import TheoryWindow as TheoryWindow
from .methods.wrappers import Cutoff as Cutoff
from .methods.wrappers import Listed as Listed
from .methods.wrappers import Partitioned as Partitioned
from .methods.wrappers import Quotas as Quotas
from .methods.wrappers import ViaProxy as ViaProxy
from .online import CREST as CREST
from .online import SSM as SSM
from .online import GlisterOnline as GlisterOnline
from .online import GradMatchOnline as GradMatchOnline
from .online import ModelFunctions as ModelFunctions
from .online import OnlineSelector as OnlineSelector
from .pool import Pool as Pool
from .pool import Scores as Scores
from .registry import SCORES as SCORES
from .registry import SELECTORS as SELECTORS
from .registry import parse_method as parse_method
from .scoring.features import c_rho as c_rho
from .scoring.features import clip as clip
from .scoring.features import influence as influence
from .scoring.features import random_projection as random_projection
from .scoring.features import reconstruction as reconstruction
from .scoring.output import entropy as entropy
from .scoring.output import least_confidence as least_confidence
from .scoring.output import margin as margin
from .scoring.output import middle_perplexity as middle_perplexity
from .scoring.output import reducible_loss as reducible_loss
from .scoring.recorder import DynamicsRecorder as DynamicsRecorder
from .scoring.recorder import TrainingDynamics as TrainingDynamics
from .scoring.recorder import linen_features as linen_features
from .scoring.recorder import record_training as record_training
from .scoring.training import aum as aum
from .scoring.training import confidence as confidence
from .scoring.training import correctness as correctness
from .scoring.training import dyn_unc as dyn_unc
from .scoring.training import el2n as el2n
from .scoring.training import ensemble_errors as ensemble_errors
from .scoring.training import forgetting as forgetting
from .scoring.training import gradient_norms as gradient_norms
from .scoring.training import grand as grand
from .scoring.training import learnability as learnability
from .scoring.training import loss as loss
from .scoring.training import memorization as memorization
from .scoring.training import train_on_random_subsets as train_on_random_subsets
from .scoring.training import variability as variability
from .selector import Selector as Selector
from .subset import Subset as Subset

__all__ = [
    "BADGE",
    "CCS",
    "CRAIG",
    "CREST",
    "D2",
    "D4",
    "S2L",
    "SAS",
    "SCORES",
    "SELECTORS",
    "SSM",
    "AdaCore",
    "ClipCov",
    "ClusterTop",
    "Clusters",
    "CodingRate",
    "Coordinates",
    "Cutoff",
    "DynamicsRecorder",
    "EasiestFirst",
    "EffectiveDimension",
    "FacilityLocation",
    "Given",
    "Glister",
    "GlisterOnline",
    "GradMatch",
    "GradMatchOnline",
    "Graph",
    "HardestFirst",
    "Herding",
    "HullVolume",
    "InfoMax",
    "InfoMaxCertificate",
    "InfoMaxProblem",
    "InfoMaxSolution",
    "KCenter",
    "KMedian",
    "LearningCurve",
    "Listed",
    "MedDEL",
    "ModelFunctions",
    "ModerateCoreset",
    "OnlineSelector",
    "Partitioned",
    "PolicyAdvice",
    "Pool",
    "ProbeErrors",
    "Quotas",
    "RandomSample",
    "Recommendation",
    "Scores",
    "SelectionSampler",
    "Selector",
    "SemDeDup",
    "Subset",
    "TheoryWindow",
    "TrainingDynamics",
    "Verdict",
    "ViaProxy",
    "aum",
    "c_rho",
    "certify_infomax",
    "clip",
    "confidence",
    "coordinates_of_overlap",
    "correctness",
    "cross_validation",
    "dyn_unc",
    "effective_dimension",
    "el2n",
    "ensemble_errors",
    "entropy",
    "estimate_coordinates",
    "forgetting",
    "gradient_norms",
    "grand",
    "influence",
    "kmeans",
    "knn_graph",
    "learnability",
    "least_confidence",
    "linen_features",
    "loss",
    "margin",
    "margin_overlap",
    "memorization",
    "middle_perplexity",
    "parse_method",
    "random_projection",
    "recommend",
    "reconstruction",
    "record_training",
    "reducible_loss",
    "redundancy",
    "solve_infomax",
    "ssp",
    "torch_sampler",
    "torch_subset",
    "torch_weights",
    "train_on_random_subsets",
    "variability",
    "weight_overlap",
]
