"""How a learner is called: what it gets, what it may answer, and the random generators around it.

A learner is any object with `adapt(support_x, support_y, ways) -> classifier`, or a function of that shape; `classifier(query_x)`
gives scores [n, ways]. Optional attributes say what it wants and what it can tell:

    representation, layout, dtype, device   as for `EpisodeLoader`; dtype may be a string ("uint8")
    numpy                                   True for numpy arrays instead of tensors
    parameters                              their number, or what holds them (a module, tensors), or a function that gives either
    spikes_per_sample,
    synaptic_operations_per_sample          numbers, or functions that give them, read after the last episode; means over all
                                            samples seen
    seen, overlap                           what the weights were trained on (a dictionary), what of the test was among it (text);
                                            `overlap` may be a function of the dataset, which may refuse it (UsageError)

When learners are run, and on what, is left to `metaevents.benchmark.evaluation`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass


def seed_generators(seed: int) -> None:
    """Seed the global generators of torch (CPU, and CUDA where it is in use), numpy and Python, which learners may draw from."""
    import torch

    # torch.manual_seed would note a call stack, each time anew, for every kind of device that is not in use.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  the legacy generator is the global one
    random.seed(seed)


@contextmanager
def generators_restored() -> Iterator[None]:
    """Put the global generators of torch, numpy and Python back as they were, whatever happens."""
    import torch

    ours = (torch.get_rng_state(), np.random.get_state(), random.getstate())  # noqa: NPY002
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.set_rng_state(ours[0])
        np.random.set_state(ours[1])  # noqa: NPY002
        random.setstate(ours[2])
        if on_gpu:
            torch.cuda.set_rng_state_all(on_gpu)
