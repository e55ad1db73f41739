"""What `selection.experiments` offers; each name is imported when it is used."""

from .datasets import DATASETS, Dataset, load_dataset
from .plans import PLANS, Entry, Plan
from .results import Results
from .runs import run_plan
from .tasks import CONDITIONS, Task, make_task

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
