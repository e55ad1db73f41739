from .experiment import run as run
from .experiment import run_many as run_many
from .kept_margins import StudentMargins as StudentMargins
from .kept_margins import margins as margins
from .maxmargin import MaxMarginResult as MaxMarginResult
from .maxmargin import MaxMarginStatus as MaxMarginStatus
from .maxmargin import max_margin as max_margin
from .userdata import UserSolution as UserSolution
from .userdata import solve_user_data as solve_user_data
from .verify_theory import Verification as Verification
from .verify_theory import verify as verify

__all__ = [
    "MaxMarginResult",
    "MaxMarginStatus",
    "StudentMargins",
    "UserSolution",
    "Verification",
    "margins",
    "max_margin",
    "run",
    "run_many",
    "solve_user_data",
    "verify",
]
