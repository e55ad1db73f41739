"""InfoMax: its objective, solvers and certificate."""
