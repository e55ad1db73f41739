"""Parity with torch: configurations are drawn from a seed, so that fresh ones can be tried."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity-seed", type=int, default=0, help="seed of the models that parity tests draw"
    )


@pytest.fixture(scope="session")
def parity_seed(pytestconfig: pytest.Config) -> int:
    """Seed of the configurations, weights and images of the parity tests."""
    return int(pytestconfig.getoption("--parity-seed", 0))
