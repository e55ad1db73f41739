"""What `selection.experiments` offers; each name is imported when it is used."""

from .datasets import CONDITIONS as CONDITIONS
from .datasets import DATASETS as DATASETS
from .datasets import Dataset as Dataset
from .datasets import Task as Task
from .datasets import load_dataset as load_dataset
from .datasets import make_task as make_task
from .plans import PLANS as PLANS
from .plans import Entry as Entry
from .plans import Plan as Plan
from .results import Results as Results
from .runs import run_plan as run_plan

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
