"""How many threads multiply the matrices of NumPy and SciPy; TensorFlow has threads of its own."""

import contextlib
from collections.abc import Iterator

from threadpoolctl import ThreadpoolController

MOST_THREADS = 2
"""On a machine of 16 cores, choosing the strength for 1,444 x 1,472 features and 10 classes takes 0.35 s with two
threads and 7.7 s with 16, which wait for each other in a loop: the products are narrow. Others were not measured."""


@contextlib.contextmanager
def few_blas_threads() -> Iterator[None]:
    """Lets at most two threads multiply, in the block or, as a decorator, in the function; fewer where fewer may."""
    blas = ThreadpoolController().select(user_api="blas")
    threads = min([MOST_THREADS, *(library.num_threads for library in blas.lib_controllers)])
    with blas.limit(limits=threads):
        yield
