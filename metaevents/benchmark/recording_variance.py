"""Variance of an accuracy over fresh recordings and fresh episodes.

The episodes of a protocol share recordings. A recording stands in many samples, on either side, as
a query and as a support sample. So the episodes are not independent, and the spread over episodes
says how precise an accuracy is only on these recordings. Here every recording is a random effect,
in both of its roles, and so is every episode. Whether query u is answered correctly is

    y_u = effect of its class + effects of the classes of its episode
          + sum of a_j over its own recordings j
          + sum of b_j over the recordings j in the support of its episode + episode + rest

with fixed effects of classes, and random a_j, b_j of variances q and s and covariance c. Queries of
different episodes then have the covariance

    q A_uv + s B_uv + c C_uv

with A the number of query recordings that u and v share, B the number of support recordings that
their episodes share, and C the number of recordings that are a query recording of one and a support
recording of the other's episode. q, s and c are estimated by the method of moments: the quadratic
forms r'Ar, r'Br, r'Cr, r'Er and r'r are set equal to their expectations under the model. Here r are
the residuals from a least-squares fit of the classes, whose loss of degrees of freedom the
expectations account for, and E = 1 for queries of one episode. A, B and C are 0 within an episode,
where the covariance is left free. The variance of the accuracy is the sum of two parts: the
variance of the mean over independent episodes, and the covariance between episodes,
(q 1'A1 + s 1'B1 + c 1'C1) / N^2 for N queries.

This is the multiway clustering of Cameron, Gelbach and Miller (2011), "Robust inference with
multiway clustering", Journal of Business & Economic Statistics 29:238-249, with a recording as one
cluster in all of its places; the moments are those of Rao (1971), "Estimation of variance and
covariance components: MINQUE theory", Journal of Multivariate Analysis 1:257-275, with unit
weights. `cards/statistics.md` has the measured coverage.

Intervals and tests are left to `metaevents.benchmark.statistics` and
`metaevents.benchmark.significance`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from metaevents.benchmark.protocols import EpisodeList

Floats: TypeAlias = npt.NDArray[np.float64]

_MODEL_EPISODES = 1000
_MODEL_QUERIES = 100_000
_MODEL_PRODUCTS = 2_000_000_000
"""Episodes, queries, and queries times the square of the number of fixed effects from which the
components are estimated at most. All episodes count for the mean. With these limits it takes about
a second.
"""

_CHUNK = 1 << 22
"""Numbers held in memory at a time."""

_EPISODES_PER_CLASS = 3
"""With fewer episodes per class the effects of the classes of an episode are left out."""

_ROUNDING = 1e-15
"""Variance below which the part of the recordings is rounding."""

_RANK = 1e-9
"""Relative size below which a direction of the moment equations counts as undetermined."""


@dataclass(frozen=True)
class MeanVariance:
    """The covariance of the mean accuracies of m methods on the same episodes.

    Attributes:
        means: [m] mean accuracies.
        n_episodes: Number of episodes.
        effective_samples: Number of query samples without a common recording that the queries
            amount to; see `RecordingDesign.effective_samples`.
        between_episodes: [m, m] covariance of the means over independent episodes.
        components: [3, m, m] components q, s and c.
        shares: [3, recordings] what each recording contributes per unit of a component; the sums
            over recordings are 1'A1 / N^2, 1'B1 / N^2 and 1'C1 / N^2.
    """

    means: Floats
    n_episodes: int
    effective_samples: float
    between_episodes: Floats = field(repr=False)
    components: Floats = field(repr=False)
    shares: Floats = field(repr=False)

    def of(self, contrast: npt.ArrayLike) -> tuple[float, float]:
        """Return the variance of a linear combination of the means, and its degrees of freedom.

        Args:
            contrast: [m] weights of the methods: one method has [1], a difference [1, -1].

        Returns:
            The variance, at least that over independent episodes and query recordings; and the
            degrees of freedom by Satterthwaite's formula, where each recording and each episode has
            one.
        """
        w = np.asarray(contrast, np.float64)
        episodes = max(0.0, float(w @ self.between_episodes @ w))  # rounding may be below 0
        by_component = np.einsum("kij,i,j->k", self.components, w, w)[:, None] * self.shares
        # The component of the query recordings is the best determined one. Others, where many
        # support recordings are shared, may be estimated as negative; they never cancel it.
        per_recording = max(by_component.sum(axis=0), by_component[0], key=np.sum)
        recordings = float(per_recording.sum())
        if recordings <= _ROUNDING:
            return episodes, float(self.n_episodes - 1)
        total = episodes + recordings
        # Relative to the total, since squares of tiny variances would be zero.
        parts, part = per_recording / total, episodes / total
        squares = part**2 / (self.n_episodes - 1) + float(parts @ parts)
        # The sum never has more degrees of freedom than its part over episodes.
        return total, min(max(1.0, 1 / squares), float(self.n_episodes - 1))


class RecordingDesign:
    """Which recordings the queries and the supports of a list of episodes consist of.

    Args:
        queries: [episodes, n, sides] recording of every query on each side, as whole numbers.
        support: [episodes, k, sides] the same for the support.
        classes: [episodes, n] class of every query, as whole numbers.
    """

    def __init__(self, queries: np.ndarray, support: np.ndarray, classes: np.ndarray) -> None:
        episodes = len(queries)
        _, codes = np.unique(
            np.concatenate([queries.reshape(-1), support.reshape(-1)]), return_inverse=True
        )
        codes = codes.reshape(-1)
        self._queries: np.ndarray = codes[: queries.size].reshape(queries.shape)
        self._support = codes[queries.size :].reshape(episodes, -1)
        self._recordings = int(codes.max(initial=-1)) + 1
        self._classes = np.unique(classes, return_inverse=True)[1].reshape(classes.shape)
        self._shares = self._contributions()
        n_queries, n_effects = classes.shape[1], 2 * (int(self._classes.max(initial=0)) + 1)
        n_modeled = min(_MODEL_QUERIES, _MODEL_PRODUCTS // n_effects**2) // n_queries
        n_model = min(episodes, _MODEL_EPISODES, max(2, n_modeled))
        self._modeled = np.unique(np.linspace(0, episodes - 1, n_model).astype(np.int64))
        self._model = _Model(
            self._queries[self._modeled],
            self._support[self._modeled],
            self._classes[self._modeled],
            self._recordings,
        )

    @classmethod
    def of(cls, episodes: EpisodeList, pairing: str) -> RecordingDesign:
        """Return the design of a protocol's episodes.

        Args:
            episodes: The episodes.
            pairing: "all" or "published". With pairing "published", the loader pairs every right
                recording with the first one or two recordings of the left label. They are part of
                its definition and stay as they are; only the right recordings are random.
        """
        first = 1 if pairing == "published" else 0
        return cls(
            episodes.queries[..., first:], episodes.support[..., first:], episodes.query_classes
        )

    @property
    def effective_samples(self) -> float:
        """Number of samples without a common recording that the query samples amount to.

        It is Kish's effective number of query recordings, divided by the number of sides.
        """
        counts = np.bincount(self._queries.reshape(-1)).astype(np.float64)
        return float(counts.sum() ** 2 / (counts @ counts) / self._queries.shape[2])

    def mean_variance(self, correct: np.ndarray) -> MeanVariance:
        """Return the variance of mean accuracies.

        Args:
            correct: [m, episodes, n] whether each of m methods answers each query correctly.

        Returns:
            The covariance of the m means. There must be at least two episodes.
        """
        per_episode = correct.mean(axis=2, dtype=np.float64)  # [m, episodes]
        n_methods, n_episodes = per_episode.shape
        between = np.cov(per_episode).reshape(n_methods, n_methods) / n_episodes
        # The spread over episodes is that about a mean which moves with the shared recordings.
        return MeanVariance(
            per_episode.mean(axis=1),
            n_episodes,
            self.effective_samples,
            between,
            self._model.components(correct[:, self._modeled]),
            self._shares * (n_episodes / (n_episodes - 1)),
        )

    def _contributions(self) -> Floats:
        """Return [3, recordings]: each recording's part of 1'A1, 1'B1 and 1'C1, by N^2."""
        episodes, n, sides = self._queries.shape
        total = np.zeros((2, self._recordings))
        products = np.zeros((3, self._recordings))
        step = max(1, _CHUNK // max(1, self._recordings))
        for first in range(0, episodes, step):
            some = slice(first, first + step)
            own = _counts(self._queries[some].reshape(-1, n * sides), self._recordings)
            given = n * _counts(self._support[some], self._recordings)
            total += own.sum(axis=0), given.sum(axis=0)
            products += (own**2).sum(axis=0), (given**2).sum(axis=0), (own * given).sum(axis=0)
        a, b = total
        within = products * np.array([[1.0], [1.0], [2.0]])
        return np.asarray((np.stack([a * a, b * b, 2 * a * b]) - within) / (episodes * n) ** 2)


def _counts(codes: np.ndarray, size: int) -> Floats:
    """Return how often each code occurs in each row, [rows, size]."""
    rows = len(codes)
    flat = (np.arange(rows)[:, None] * size + codes).reshape(-1)
    return np.bincount(flat, minlength=rows * size).reshape(rows, size).astype(np.float64)


class _Model:
    """The moment equations of a list of episodes.

    The five matrices of the module's docstring are numbered 0 (A), 1 (B), 2 (C), 3 (E) and 4 (the
    identity).

    Args:
        queries: [episodes, n, sides] codes of recordings.
        support: [episodes, k * sides] codes of recordings.
        classes: [episodes, n] codes of classes.
        recordings: Number of codes of recordings.
    """

    def __init__(
        self, queries: np.ndarray, support: np.ndarray, classes: np.ndarray, recordings: int
    ) -> None:
        self._queries, self._classes = queries, classes
        n_classes = int(classes.max(initial=0)) + 1
        self._one_hot = np.eye(n_classes)
        in_class = _counts(classes, n_classes)  # [episodes, classes]
        self._present = (in_class > 0).astype(np.float64)
        if len(classes) < _EPISODES_PER_CLASS * n_classes:
            self._present[:] = 0  # too few episodes to fit the effects of the classes in them
        # [episodes, effects] sums of the columns of the fixed effects: own class, classes present
        self._fixed_sums = np.hstack([in_class, classes.shape[1] * self._present])
        own, seen = np.diag(in_class.sum(axis=0)), in_class.T @ self._present
        both = classes.shape[1] * self._present.T @ self._present
        self._fit = np.linalg.pinv(np.block([[own, seen], [seen.T, both]]), _RANK, hermitian=True)
        self._support = _counts(support, recordings)  # [episodes, recordings]
        self._support_square = (self._support**2).sum(axis=1)
        episode = np.arange(len(queries))[:, None, None]
        # [episodes, n] sum of the counts of a query's recordings in its own episode's support
        self._own_support = self._support[episode, queries].sum(axis=2)
        self._incidence = self._local_incidence(recordings)
        products, adjustment = self._moment_equations()
        self._equations, self._unfitted = products + adjustment, np.diag(products)

    def components(self, correct: np.ndarray) -> Floats:
        """Return [3, m, m] the components q, s and c of m methods and their covariances."""
        moments = self._moments(correct)
        solution = np.zeros((5, moments[0].size))
        # A component that the fit of the classes leaves nothing of, or of no pairs, stays 0.
        known = np.flatnonzero(np.diag(self._equations) > _RANK * self._unfitted)
        equations = self._equations[np.ix_(known, known)]
        scale = np.sqrt(np.diag(equations))
        target = moments.reshape(5, -1)[known] / scale[:, None]
        scaled = np.linalg.lstsq(equations / np.outer(scale, scale), target, rcond=_RANK)[0]
        solution[known] = scaled / scale[:, None]
        return solution[:3].reshape(3, *moments.shape[1:])

    def _local_incidence(self, recordings: int) -> tuple[Any, Any, np.ndarray]:
        """Return the incidence of queries and recordings as sparse matrices.

        Returns:
            [N, recordings], [N, pairs] and [pairs]: the queries by recording; by pair of episode
            and recording; and the recording of each pair.
        """
        from scipy.sparse import csr_array

        episodes, n, sides = self._queries.shape
        rows = np.repeat(np.arange(episodes * n), sides)
        codes = self._queries.reshape(-1)
        ones = np.ones(len(codes))
        pair = np.repeat(np.arange(episodes), n * sides) * recordings + codes
        pairs, place = np.unique(pair, return_inverse=True)
        by_recording = csr_array((ones, (rows, codes)), (episodes * n, recordings))
        by_pair = csr_array((ones, (rows, place.reshape(-1))), (episodes * n, len(pairs)))
        return by_recording, by_pair, pairs

    def _moments(self, correct: np.ndarray) -> Floats:
        """Return [5, m, m] the quadratic forms of the residuals from the fit of the classes."""
        by_recording, by_pair, _ = self._incidence
        m, episodes, n = correct.shape
        values = correct.reshape(m, -1).astype(np.float64).T  # [N, m]
        n_classes = len(self._one_hot)
        classes = self._classes.reshape(-1)
        own = np.stack([np.bincount(classes, column, n_classes) for column in values.T], axis=1)
        seen = self._present.T @ values.reshape(episodes, n, m).sum(axis=1)
        effects = self._fit @ np.vstack([own, seen])  # [effects, m]
        residual = values - effects[:n_classes][classes]
        residual -= np.repeat(self._present @ effects[n_classes:], n, axis=0)
        per_episode = residual.reshape(episodes, n, m).sum(axis=1)
        of_query, of_pair = by_recording.T @ residual, by_pair.T @ residual
        of_support = self._support.T @ per_episode
        own = (residual * self._own_support.reshape(-1, 1)).reshape(episodes, n, m).sum(axis=1)
        mixed = of_query.T @ of_support - own.T @ per_episode
        return np.stack(
            [
                of_query.T @ of_query - of_pair.T @ of_pair,
                of_support.T @ of_support
                - per_episode.T @ (self._support_square[:, None] * per_episode),
                mixed + mixed.T,
                per_episode.T @ per_episode,
                residual.T @ residual,
            ]
        )

    def _moment_equations(self) -> tuple[Floats, Floats]:
        """Return [5, 5] tr(X M Y M) of the five matrices, with I - M the projection on the classes.

        With P = I - M, tr(X M Y M) = <X, Y> - 2 tr(X P Y) + tr(P X P Y). The second and the third
        term need only the images of the columns of the fixed effects.

        Returns:
            The first term, and the sum of the others.
        """
        n_effects = len(self._fit)
        inner = np.zeros((5, 5, n_effects, n_effects))
        forms = np.zeros((5, n_effects, n_effects))
        single = np.zeros((5, 5))
        episodes = len(self._queries)
        own_to_other = np.zeros((episodes, episodes))
        query_to_query = np.zeros((episodes, episodes))
        for some, columns, images, cross, support_hits, query_hits in self._chunks():
            flat = images.transpose(1, 0, 2).reshape(len(columns), -1)
            inner += (flat.T @ flat).reshape(5, n_effects, 5, n_effects).transpose(0, 2, 1, 3)
            forms += (columns.T @ flat).reshape(n_effects, 5, n_effects).transpose(1, 0, 2)
            single += cross
            own_to_other[some], query_to_query[some] = support_hits, query_hits
        once = np.einsum("klgh,gh->kl", inner, self._fit)
        fitted = self._fit @ forms  # [5, effects, effects]
        twice = np.einsum("kgh,lhg->kl", fitted, fitted)
        return self._products(single, own_to_other, query_to_query), np.asarray(twice - 2 * once)

    def _products(self, cross: Floats, own_to_other: Floats, query_to_query: Floats) -> Floats:
        """Return [5, 5] the sums <X, Y> over all pairs of queries.

        Args:
            cross: [5, 5] with the parts of <A, C> and <C, C> that are sums over single queries.
            own_to_other: [episodes, episodes] sum over the queries of one episode of the counts of
                their recordings in the support of another.
            query_to_query: [episodes, episodes] number of query recordings that two episodes share.
        """
        by_recording, by_pair, _ = self._incidence
        episodes, n = self._classes.shape
        between = ~np.eye(episodes, dtype=bool)
        shared = self._support @ self._support.T
        all_pairs, own_pairs = by_recording.T @ by_recording, by_pair.T @ by_pair
        table = np.zeros((5, 5))
        table[0, 0] = (all_pairs.data**2).sum() - (own_pairs.data**2).sum()
        table[0, 1] = (query_to_query * shared)[between].sum()
        table[0, 2] = 2 * cross[0, 2]
        table[1, 1] = (shared[between] ** 2).sum() * n * n
        table[1, 2] = 2 * n * (shared * own_to_other)[between].sum()
        table[2, 2] = 2 * n * cross[2, 2] + 2 * (own_to_other * own_to_other.T)[between].sum()
        table[3, 3], table[3, 4], table[4, 4] = episodes * n * n, episodes * n, episodes * n
        return np.asarray(table + np.triu(table, 1).T)

    def _chunks(self) -> Iterator[tuple[slice, Floats, Floats, Floats, Floats, Floats]]:
        """Yield what `_moment_equations` sums up, for some episodes at a time.

        Yields:
            The episodes; [queries, effects] the columns of the fixed effects; [5, queries, effects]
            their images; [5, 5] as in `_products`; and the rows of its two other arguments.
        """
        from scipy.sparse import csr_array

        by_recording, by_pair, pairs = self._incidence
        episodes, n, _ = self._queries.shape
        recordings = by_recording.shape[1]
        n_classes, sums = len(self._one_hot), self._fixed_sums
        query_counts = _counts(self._queries.reshape(episodes, -1), recordings)
        flat = (self._queries * n_classes + self._classes[..., None]).reshape(-1)
        own = np.bincount(flat, minlength=recordings * n_classes).reshape(recordings, n_classes)
        of_query = np.hstack([own, query_counts.T @ self._present])  # [recordings, effects]
        of_support = self._support.T @ sums
        by_support = self._support @ of_support - self._support_square[:, None] * sums
        by_query = self._support @ of_query
        to_support_of = csr_array(self._support.T)  # [recordings, episodes]
        step = max(1, _CHUNK // (n * max(episodes, 5 * sums.shape[1])))
        for first in range(0, episodes, step):
            some = slice(first, min(first + step, episodes))
            count = some.stop - first
            rows = slice(first * n, some.stop * n)
            own_support = self._own_support[some].reshape(-1, 1)
            episode_of = np.repeat(np.arange(first, some.stop), n)
            columns = np.hstack(
                [self._one_hot[self._classes[some].reshape(-1)], self._present[episode_of]]
            )
            used = slice(*np.searchsorted(pairs, [first * recordings, some.stop * recordings]))
            local = by_pair[rows, used]
            own_sums = (own_support * columns).reshape(count, n, -1).sum(axis=1)
            images = np.stack(
                [
                    by_recording[rows] @ of_query - local @ (local.T @ columns),
                    by_support[episode_of],
                    by_recording[rows] @ of_support
                    - own_support * sums[episode_of]
                    + np.repeat(by_query[some] - own_sums, n, axis=0),
                    sums[episode_of],
                    columns,
                ]
            )
            hits = (by_recording[rows] @ to_support_of).tocoo()  # [queries, episodes]
            other = hits.col != first + hits.row // n
            hits = csr_array((hits.data[other], (hits.row[other], hits.col[other])), hits.shape)
            cross = np.zeros((5, 5))
            cross[0, 2] = ((hits.T @ by_recording[rows]).multiply(query_counts)).sum()
            cross[2, 2] = (hits.data**2).sum()
            yield (
                some,
                columns,
                images,
                cross,
                query_counts[some] @ self._support.T,
                query_counts[some] @ query_counts.T,
            )
