"""Narrow products of matrices get few threads: with as many as there are cores they wait for each other."""

import numpy as np
from threadpoolctl import ThreadpoolController

from components.blas import MOST_THREADS, few_blas_threads


def count_threads() -> set[int]:
    np.ones([2, 2]) @ np.ones([2, 2])
    return {library.num_threads for library in ThreadpoolController().select(user_api="blas").lib_controllers}


def test_a_block_has_few_threads_and_leaves_what_was() -> None:
    with ThreadpoolController().limit(limits=16, user_api="blas"):
        with few_blas_threads():
            assert count_threads() == {MOST_THREADS}
        assert few_blas_threads()(count_threads)() == {MOST_THREADS}
        assert count_threads() == {16}


def test_who_asks_for_fewer_gets_fewer() -> None:
    with ThreadpoolController().limit(limits=1, user_api="blas"), few_blas_threads():
        assert count_threads() == {1}
