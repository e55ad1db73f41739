from .erm.solver import ERMResult as ERMResult
from .erm.solver import ERMStatus as ERMStatus
from .examples import realised_spectrum as realised_spectrum
from .experiment import StudentMargins as StudentMargins
from .experiment import margins as margins
from .experiment import run as run
from .experiment import run_many as run_many
from .maxmargin.solver import MaxMarginResult as MaxMarginResult
from .maxmargin.solver import MaxMarginStatus as MaxMarginStatus
from .maxmargin.solver import max_margin as max_margin
from .separate import UserSolution as UserSolution
from .separate import solve_user_data as solve_user_data
from .verification import Verification as Verification
from .verification import verify as verify

__all__ = [
    "ERMResult",
    "ERMStatus",
    "MaxMarginResult",
    "MaxMarginStatus",
    "StudentMargins",
    "UserSolution",
    "Verification",
    "margins",
    "max_margin",
    "realised_spectrum",
    "run",
    "run_many",
    "solve_user_data",
    "verify",
]
