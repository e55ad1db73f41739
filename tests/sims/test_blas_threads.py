"""BLAS gets one thread for small products only."""

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from sims.machine import one_blas_thread


def threads():
    np.eye(2) @ np.eye(2)  # BLAS is loaded
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_large_products_keep_their_threads():
    with threadpool_limits(2, user_api="blas"):
        before = threads()  # a library may have been built for one alone
        assert 2 in before
        with one_blas_thread():
            assert threads() == {1}
        with one_blas_thread(1e6):
            assert threads() == {1}
        with one_blas_thread(1e9):
            assert threads() == before
        assert threads() == before
