"""JAX: episodes as NumPy arrays, and a learner that answers with JAX arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from support.packages import import_or_skip
from support.simple_learners import ClassMeans

import metaevents as me

jnp = import_or_skip("jax.numpy", "pip install jax")


class JaxMeans:
    representation, numpy = "sum", True

    def adapt(self, support_x: np.ndarray, support_y: np.ndarray, ways: int) -> Any:
        support = jnp.asarray(support_x).reshape(len(support_x), -1)
        means = jnp.stack([support[support_y == label].mean(0) for label in range(ways)])
        return lambda x: -((jnp.asarray(x).reshape(len(x), 1, -1) - means) ** 2).sum(-1)


def test_a_learner_in_jax_scores_as_in_numpy(nmnist_root: Path) -> None:
    test = me.DoubleNMNIST(nmnist_root, split="test")
    arrays = me.EpisodeLoader(test, queries=2, representation="sum")[0].numpy()
    classify = JaxMeans().adapt(arrays["support_x"], arrays["support_y"], 5)
    expected = ClassMeans().adapt(arrays["support_x"], arrays["support_y"], 5)
    assert np.allclose(classify(arrays["query_x"]), expected(arrays["query_x"]))
    report = me.evaluate(JaxMeans(), test, protocol="sample-5way-1shot", episodes=2)
    assert len(report.per_episode) == 2
