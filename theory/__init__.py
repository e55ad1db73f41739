"""What is studied: problems, policies, probes and the closed forms around them."""

from theory.angles import (
    angle_from_components,
    angle_from_error,
    angle_from_overlap,
    error_from_angle,
    error_from_overlap,
    overlap_complement,
    overlap_from_error,
)
from theory.asymptotics import (
    bayes_constant,
    bayes_error,
    gardner_capacity,
    gibbs_constant,
    gibbs_error,
    gibbs_overlap,
    max_margin_constant,
)
from theory.densities import (
    plane_coordinates,
    probe_field_density,
    student_margin_density,
    support_mass,
    teacher_margin_density,
)
from theory.information_gain import GainStatus, InformationGain, expected_gain, information_gain
from theory.policies import (
    POLICY_NAMES,
    Custom,
    Easy,
    EasySigned,
    Hard,
    HardSigned,
    Mixture,
    Moderate,
    Policy,
    Random,
    Window,
    policy_from_name,
)
from theory.probes import FixedAngle, Independent, InSample, Probe
from theory.problem import DownstreamShift, PerceptronProblem
from theory.v_information import conditional_entropy, v_information
from theory.weights import kept_mass

__all__ = [
    "POLICY_NAMES",
    "Custom",
    "DownstreamShift",
    "Easy",
    "EasySigned",
    "FixedAngle",
    "GainStatus",
    "Hard",
    "HardSigned",
    "InSample",
    "Independent",
    "InformationGain",
    "Mixture",
    "Moderate",
    "PerceptronProblem",
    "Policy",
    "Probe",
    "Random",
    "Window",
    "angle_from_components",
    "angle_from_error",
    "angle_from_overlap",
    "bayes_constant",
    "bayes_error",
    "conditional_entropy",
    "error_from_angle",
    "error_from_overlap",
    "expected_gain",
    "gardner_capacity",
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
    "student_margin_density",
    "support_mass",
    "teacher_margin_density",
    "v_information",
]
