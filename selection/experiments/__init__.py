"""Experiments with selection methods on real data: accuracy against the kept fraction."""

from selection.experiments.datasets import DATASETS, Dataset, load_dataset
from selection.experiments.plans import PLANS, Entry, Plan
from selection.experiments.results import Results
from selection.experiments.runs import run_plan
from selection.experiments.tasks import CONDITIONS, Task, make_task

__all__ = [
    "CONDITIONS",
    "DATASETS",
    "PLANS",
    "Dataset",
    "Entry",
    "Plan",
    "Results",
    "Task",
    "load_dataset",
    "make_task",
    "run_plan",
]
