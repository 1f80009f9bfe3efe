"""Component matching: a frozen network compares samples side by side, after alignment.

The network was trained on single components, so it never saw what the components of a test class
look like. Its layers still describe strokes and edges, which unknown components have too. The
features of a side are the outputs of its convolutions. By each lower convolution, the distance of
two sides is one minus the greatest cosine of the first one's features and those of shifted, turned
and scaled versions of the second one (`metaevents.benchmark.alignment`). What an upper convolution
describes depends less on such changes, and is compared as it is. The distances by all convolutions
are added, each in units of its standard deviation between the support's sides.

Classes of an episode share components: "78" and "97" both have a 7. So a query's side is compared
with every support side of the episode, on whichever side and of whichever class. If it is as near
to and as far from them all as the class's own side is, it shows the same component. Training is
left to `training`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from baselines.inference_mode import leaves_inference_mode, ordinary
from baselines.network_learner import NetworkLearner
from baselines.networks import ConvNet, SpikingNet
from metaevents.benchmark.alignment import Versions, sides_of
from metaevents.errors import UsageError

_CPU_CHUNK = 32  # sides per forward pass on a CPU

_AT_ONCE = 512  # about the number of versions of sides that are made before they are compared

_REMEMBERED = 1000  # sides whose features are kept

_SMALL = 1e-12


@dataclass(frozen=True)
class MatchingConfig:
    """How components are compared.

    Attributes:
        aligned: Number of the first convolutions that are compared after alignment.
        versions: The shifts, turns and scales of the support's sides.
        sharing: Weight of the comparison with all support sides, relative to the distance to the
            class's own side in units of the standard deviation of the distances between support
            sides. With 0 the own sides alone count.
    """

    aligned: int = 2
    versions: Versions = field(default_factory=Versions)
    sharing: float = 0.0


class ComponentMatching(NetworkLearner):
    """A learner that compares the components of samples.

    Nothing is trained on an episode, and every query is classified by itself.

    Args:
        net: The network, which takes single sides.
        config: How components are compared.

    Raises:
        UsageError: The network has fewer convolutions.

    Example:
        >>> from baselines.networks import ConvNet, StackConfig
        >>> learner = ComponentMatching(ConvNet(StackConfig(frame_shape=(100, 2, 16, 16))))
        >>> classifier = learner.adapt(torch.rand(6, 2, 16, 32), torch.arange(6) % 3, 3)
        >>> classifier(torch.rand(4, 2, 16, 32)).shape
        torch.Size([4, 3])
    """

    def __init__(self, net: SpikingNet | ConvNet, config: MatchingConfig | None = None) -> None:
        super().__init__()
        self.net, self.config = net, config or MatchingConfig()
        self._memory: dict[tuple[str, bytes], list[Tensor]] | None = None
        if not 0 <= self.config.aligned <= len(net.body):
            raise UsageError(
                f"match_aligned={self.config.aligned}; the network has {len(net.body)} convolutions"
            )

    @leaves_inference_mode
    @torch.no_grad()
    def adapt(self, support_x: Tensor, support_y: Tensor, ways: int) -> Callable[[Tensor], Tensor]:
        """Keep the features of a support set, and return a classifier.

        Args:
            support_x: Support samples [n, ...].
            support_y: Labels [n], in 0..ways-1.
            ways: Number of classes.

        Returns:
            A function from queries [m, ...] to logits [m, ways].

        Raises:
            UsageError: The samples do not consist of sides that fit the network.
        """
        support = self.sides(support_x)
        sides = len(support) // len(support_x)
        # members[k, side, i]: the share of support side i in side `side` of class k.
        members = _members(ordinary(support_y.to(self.device)), ways, sides)
        kept = self._recall("kept", self.kept, support, 1)
        features = self._recall("features", self.features, support, 0)
        apart = [_distances(*pair) for pair in zip(features, kept, strict=True)]
        deviations = [_deviation((each + each.T) / 2) for each in apart]

        def distances(features: list[Tensor]) -> Tensor:
            """Return the distances of sides to all support sides, [m, n]."""
            by_layer = zip(features, kept, deviations, strict=True)
            return sum(
                (_distances(each, versions) / deviation for each, versions, deviation in by_layer),
                torch.zeros((), device=self.device),
            )

        between = distances(features)
        relations = _Relations((between + between.T) / 2, members)

        @leaves_inference_mode
        @torch.no_grad()
        def classifier(query_x: Tensor) -> Tensor:
            queries = self._recall("features", self.features, self.sides(query_x), 0)
            away = distances(queries).view(-1, sides, len(support))
            logits = -torch.einsum("qsi,ksi->qk", away, members) / relations.deviation
            if self.config.sharing:
                logits = logits + self.config.sharing * relations.agreement(away)
            return logits

        return classifier

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Keep the features of sides, so that a side that comes again is not computed again.

        This saves most of the work where episodes draw from few recordings. The weights must not
        change meanwhile. Times that are measured meanwhile are not those of new samples.
        """
        self._memory = {}
        try:
            yield
        finally:
            self._memory = None

    def _recall(
        self, what: str, compute: Callable[[Tensor], list[Tensor]], sides: Tensor, axis: int
    ) -> list[Tensor]:
        """Return what a function computes from sides, as far as possible from memory.

        Args:
            what: Name of the function.
            compute: Returns tensors with the sides along an axis.
            sides: [n, ..., H, W].
            axis: The axis.
        """
        memory = self._memory
        if memory is None:
            return compute(sides)
        keys = [
            (what, sha256(side.cpu().numpy().tobytes()).digest()) for side in sides.contiguous()
        ]
        if len(memory) > _REMEMBERED:
            memory.clear()
        new = {key: place for place, key in enumerate(keys) if key not in memory}
        if new:
            computed = compute(
                sides.index_select(0, torch.tensor(list(new.values()), device=sides.device))
            )
            for place, key in enumerate(new):
                memory[key] = [each.select(axis, place) for each in computed]
        return [torch.stack(each, axis) for each in zip(*(memory[k] for k in keys), strict=True)]

    def sides(self, x: Tensor) -> Tensor:
        """Return the sides of samples as samples of the network.

        Args:
            x: Samples [n, ..., H, W].

        Returns:
            [n * sides, ..., H, W / sides], on the device.

        Raises:
            UsageError: The samples do not consist of sides that fit the network.
        """
        width = self.net.config.frame_shape[-1]
        if x.shape[-1] < width or x.shape[-1] % width:
            raise UsageError(
                f"the samples have {x.shape[-1]} columns, and the network takes sides of {width}; "
                "give samples of the dataset that it was trained on"
            )
        return sides_of(ordinary(x).to(self.device), x.shape[-1] // width).flatten(0, 1)

    def versions(self, sides: Tensor) -> Iterator[Tensor]:
        """Yield all versions of sides [n, ..., H, W], one after the other."""
        images = sides.to(self.dtype).flatten(1, -3)  # time steps are channels here
        for version in self.config.versions.of(images):
            yield version.view(sides.shape)

    @leaves_inference_mode
    @torch.no_grad()
    def kept(self, sides: Tensor) -> list[Tensor]:
        """Return the features of a support's sides with which others are compared.

        Args:
            sides: [n, ..., H, W].

        Returns:
            [versions, n, features] of each convolution, of norm 1; upper ones have one version.
        """
        aligned = self.config.aligned
        kept = [each[None] for each in self.features(sides)]
        if not aligned:
            return kept
        # Several versions at once: small passes cost more than their operations.
        versions, at_once = self.versions(sides), max(1, _AT_ONCE // len(sides))
        parts = []
        while batch := list(islice(versions, at_once)):
            features = self.features(torch.cat(batch), aligned)
            parts.append([each.view(len(batch), len(sides), -1) for each in features])
        kept[:aligned] = [torch.cat(each) for each in zip(*parts, strict=True)]
        return kept

    @leaves_inference_mode
    @torch.no_grad()
    def features(self, sides: Tensor, layers: int | None = None) -> list[Tensor]:
        """Return the features of sides by each convolution.

        Args:
            sides: [n, ..., H, W].
            layers: Number of convolutions; None takes all.

        Returns:
            [n, features] float32 of each convolution, of norm 1.
        """
        params = dict(self.net.named_parameters())
        count = len(self.net.body) if layers is None else layers
        chunks = torch.split(sides, _CPU_CHUNK if self.device.type == "cpu" else len(sides))
        activities = [self.net.activities(params, chunk, count) for chunk in chunks]
        return [
            normalize(torch.cat(parts).float().flatten(1), dim=1)
            for parts in zip(*activities, strict=True)
        ]


class _Relations:
    """How near the support sides of an episode are to each other.

    Args:
        between: Distances between support sides [n, n], symmetric.
        members: See `_members`.

    Attributes:
        deviation: Standard deviation of the distances [].
    """

    def __init__(self, between: Tensor, members: Tensor) -> None:
        n = len(between)
        self.deviation = _deviation(between)
        others = _others(between)
        # Some sides are near to all others, so distances are taken relative to the mean one.
        self._usual = (between * others).sum(dim=1) / (n - 1)
        relative = (between - self._usual) * others
        self._classes = _standardized(torch.einsum("ij,ksi->ksj", relative, members))

    def agreement(self, distances: Tensor) -> Tensor:
        """Return how much the relations of queries agree with those of classes, [q, ways].

        It is the sum over sides of the correlation, over all support sides, of the distances from
        the query's side and from the class's side.

        Args:
            distances: From each side of q queries to all support sides [q, sides, n].
        """
        queries = _standardized(distances - self._usual)
        return torch.einsum("qsj,ksj->qk", queries, self._classes)


def _others(between: Tensor) -> Tensor:
    """Return which entries of a square matrix are off its diagonal."""
    return ~torch.eye(len(between), dtype=torch.bool, device=between.device)


def _deviation(between: Tensor) -> Tensor:
    """Return the standard deviation of distances between support sides [n, n]."""
    return between[_others(between)].std(correction=0).clamp_min(_SMALL)


def _members(labels: Tensor, ways: int, sides: int) -> Tensor:
    """Return the share of each support side in each side of a class, [ways, sides, n * sides]."""
    shares = nn.functional.one_hot(labels, ways).T.float()
    shares = shares / shares.sum(dim=1, keepdim=True).clamp_min(1)
    places = torch.eye(sides, device=labels.device)
    return torch.einsum("kn,st->ksnt", shares, places).flatten(2)


def _distances(features: Tensor, versions: Tensor) -> Tensor:
    """Return the distances of features [m, d] to the nearest versions [v, n, d], [m, n]."""
    cosines = features @ versions.flatten(0, 1).T
    return 1 - cosines.view(len(features), *versions.shape[:2]).amax(dim=1)


def _standardized(x: Tensor) -> Tensor:
    """Return vectors along the last axis with mean 0 and norm 1; equal entries become zeros."""
    return normalize(x - x.mean(dim=-1, keepdim=True), dim=-1, eps=_SMALL)
