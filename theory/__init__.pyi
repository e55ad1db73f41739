"""What is studied: problems, policies, probes and the closed forms around them."""

from .angles import angle_from_components as angle_from_components
from .angles import angle_from_error as angle_from_error
from .angles import angle_from_overlap as angle_from_overlap
from .angles import error_from_angle as error_from_angle
from .angles import error_from_overlap as error_from_overlap
from .angles import overlap_complement as overlap_complement
from .angles import overlap_from_error as overlap_from_error
from .asymptotics import bayes_constant as bayes_constant
from .asymptotics import bayes_error as bayes_error
from .asymptotics import gardner_capacity as gardner_capacity
from .asymptotics import gibbs_constant as gibbs_constant
from .asymptotics import gibbs_error as gibbs_error
from .asymptotics import gibbs_overlap as gibbs_overlap
from .asymptotics import max_margin_constant as max_margin_constant
from .densities import plane_coordinates as plane_coordinates
from .densities import probe_field_density as probe_field_density
from .densities import student_margin_density as student_margin_density
from .densities import support_mass as support_mass
from .densities import teacher_margin_density as teacher_margin_density
from .densities import teacher_margin_shares as teacher_margin_shares
from .field_information import conditional_entropy as conditional_entropy
from .field_information import v_information as v_information
from .gain import GainStatus as GainStatus
from .gain import InformationGain as InformationGain
from .gain import expected_gain as expected_gain
from .gain import information_gain as information_gain
from .inputs import Isotropic as Isotropic
from .inputs import PowerLaw as PowerLaw
from .inputs import Spectrum as Spectrum
from .labels import Clean as Clean
from .labels import Flip as Flip
from .labels import LabelSteps as LabelSteps
from .labels import Logit as Logit
from .labels import Probit as Probit
from .policies import Custom as Custom
from .policies import Easy as Easy
from .policies import EasySigned as EasySigned
from .policies import Hard as Hard
from .policies import HardSigned as HardSigned
from .policies import Mixture as Mixture
from .policies import Moderate as Moderate
from .policies import Policy as Policy
from .policies import Power as Power
from .policies import Random as Random
from .policies import Steps as Steps
from .policies import Window as Window
from .policies import WindowSigned as WindowSigned
from .policies import policy_from_name as policy_from_name
from .policy_names import LOSSES as LOSSES
from .policy_names import POLICY_NAMES as POLICY_NAMES
from .probe_field import FieldLaw as FieldLaw
from .probe_field import NormalField as NormalField
from .problem import CrossFitted as CrossFitted
from .problem import DownstreamShift as DownstreamShift
from .problem import FixedAngle as FixedAngle
from .problem import Independent as Independent
from .problem import InSample as InSample
from .problem import OutOfFold as OutOfFold
from .problem import PerceptronProblem as PerceptronProblem
from .problem import Probe as Probe
from .students import ERM as ERM
from .students import MaxMargin as MaxMargin
from .v_estimates import VInformationEstimate as VInformationEstimate
from .v_estimates import classifier_v_information as classifier_v_information
from .v_estimates import estimate_v_information as estimate_v_information
from .v_estimates import gaussian_v_information as gaussian_v_information
from .v_estimates import reconstruction_v_information as reconstruction_v_information
from .weights import kept_mass as kept_mass

__all__ = [
    "ERM",
    "LOSSES",
    "POLICY_NAMES",
    "Clean",
    "CrossFitted",
    "Custom",
    "DownstreamShift",
    "Easy",
    "EasySigned",
    "FixedAngle",
    "Flip",
    "GainStatus",
    "Hard",
    "HardSigned",
    "InSample",
    "Independent",
    "InformationGain",
    "Isotropic",
    "LabelSteps",
    "Logit",
    "MaxMargin",
    "Mixture",
    "Moderate",
    "PerceptronProblem",
    "Policy",
    "Power",
    "PowerLaw",
    "Probe",
    "Probit",
    "Random",
    "Spectrum",
    "Steps",
    "VInformationEstimate",
    "Window",
    "WindowSigned",
    "angle_from_components",
    "angle_from_error",
    "angle_from_overlap",
    "bayes_constant",
    "bayes_error",
    "classifier_v_information",
    "conditional_entropy",
    "error_from_angle",
    "error_from_overlap",
    "estimate_v_information",
    "expected_gain",
    "gardner_capacity",
    "gaussian_v_information",
    "gibbs_constant",
    "gibbs_error",
    "gibbs_overlap",
    "information_gain",
    "kept_mass",
    "max_margin_constant",
    "overlap_complement",
    "overlap_from_error",
    "plane_coordinates",
    "policy_from_name",
    "probe_field_density",
    "reconstruction_v_information",
    "student_margin_density",
    "support_mass",
    "teacher_margin_density",
    "teacher_margin_shares",
    "v_information",
]
