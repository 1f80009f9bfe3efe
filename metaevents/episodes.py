"""N-way K-shot episodes: the sampler, the loader, and the episode that a learner gets.

Episode i is a pure function of (fingerprint, split, pairing, classes, ways, shots, queries, seed, i): the same for any number
of workers, any rank, any start, any platform. How a learner is scored on episodes is left to `metaevents.benchmark`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from metaevents.datasets import ComposedDataset
from metaevents.errors import UsageError
from metaevents.hashing import digest_json
from metaevents.sampling import Draw, EpisodeSampler, Sample

if TYPE_CHECKING:
    import torch

LAYOUTS = ("TPHW", "TPWH")

SampleIds: TypeAlias = tuple[str, ...]


@dataclass
class Episode:
    """One task, or a batch of tasks where the loader has a batch size (then every field gains a leading task axis).

    Attributes:
        support_x: [ways * shots, T, P, H, W] event counts; [.., P, H, W] for sums; a list of event arrays for events.
        support_y: [ways * shots] int64 labels, class by class.
        query_x: [ways * queries, T, P, H, W], as support_x.
        query_y: [ways * queries] int64 labels, in random order.
        classes: class names; the position is the label.
        support_ids, query_ids: the (left id, right id) of every sample, in the order of the tensors.
        index: the episode's place in the loader's stream.
    """

    support_x: Any
    support_y: torch.Tensor
    query_x: Any
    query_y: torch.Tensor
    classes: tuple[Any, ...]
    support_ids: tuple[Any, ...]
    query_ids: tuple[Any, ...]
    index: int | tuple[int, ...]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Episode:
        """The episode with its tensors on a device; lists of events stay where they are."""

        def move(value: Any) -> Any:
            return value.to(device, non_blocking=non_blocking) if hasattr(value, "to") else value

        return self._map(move)

    def pin_memory(self) -> Episode:
        """The episode with its tensors in page-locked memory, from which a GPU copies without waiting."""
        return self._map(
            lambda value: value.pin_memory() if hasattr(value, "pin_memory") else value
        )

    def _map(self, change: Callable[[Any], Any]) -> Episode:
        names = ("support_x", "support_y", "query_x", "query_y")
        return replace(self, **{name: change(getattr(self, name)) for name in names})

    def as_torchmeta(self) -> dict[str, tuple[Any, torch.Tensor]]:
        """{"train": (x, y), "test": (x, y)}, the form of torchmeta's and learn2learn's examples."""
        return {"train": (self.support_x, self.support_y), "test": (self.query_x, self.query_y)}

    def numpy(self) -> dict[str, Any]:
        """{"support_x", "support_y", "query_x", "query_y"} as numpy arrays, for JAX and others."""

        def array(value: Any) -> Any:
            return value.detach().cpu().numpy() if hasattr(value, "detach") else value

        return {
            name: array(getattr(self, name))
            for name in ("support_x", "support_y", "query_x", "query_y")
        }

    def digest(self) -> str:
        """Hex SHA-256 over classes in label order, sample ids in order and labels; no event data."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return digest_json(
            {
                "classes": named["classes"],
                "support_ids": named["support_ids"],
                "query_ids": named["query_ids"],
                "support_y": named["support_y"].tolist(),
                "query_y": named["query_y"].tolist(),
            }
        )


_AHEAD = 32  # episodes planned at a time by who goes through the stream


@dataclass(frozen=True)
class _Plan:
    """An episode without its events."""

    draw: Draw
    support_ids: tuple[SampleIds, ...]
    query_ids: tuple[SampleIds, ...]

    @classmethod
    def of(cls, dataset: ComposedDataset, draw: Draw) -> _Plan:
        return cls(draw, dataset.name_samples(draw.support), dataset.name_samples(draw.query))


class EpisodeLoader:
    """Episodes of a dataset, by number or in order, in this process or in workers.

    Args:
        dataset: the split.
        ways, shots, queries: classes an episode; support and query samples a class.
        episodes: the length of the stream.
        seed: names the stream; episode i depends on neither `episodes` nor the number of workers.
        batch_size: tasks stacked along a leading axis; None gives single episodes.
        num_workers: processes that prepare episodes; 0 prepares them here. The order is the same.
        dtype: torch.float32 (default), float16 or uint8 (saturating at 255).
        device: where the tensors go; for a GPU they are copied from pinned memory without waiting.
        layout: "TPHW", or "TPWH", the published code's order of axes.
        representation: "frames" [n, T, P, H, W]; "sum" [n, P, H, W], counts over the window; "events", a list of event arrays
            on the grid of the frames.
        transform: applied to every sample (a tensor, or an event array: tonic's transforms); frames and sums are stacked again.

    Raises:
        UsageError: numbers that do not fit the dataset, or an unknown layout, representation or dtype.
    """

    def __init__(
        self,
        dataset: ComposedDataset,
        ways: int = 5,
        shots: int = 1,
        queries: int = 15,
        episodes: int = 600,
        seed: int = 0,
        batch_size: int | None = None,
        num_workers: int = 0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        layout: str = "TPHW",
        representation: str = "frames",
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        for name, value, least in (
            ("episodes", episodes, 0), ("seed", seed, 0), ("num_workers", num_workers, 0), ("batch_size", batch_size, 1),
        ):  # fmt: skip
            if value is not None and value < least:
                raise UsageError(f"{name}={value}; give at least {least}")
        if layout not in LAYOUTS:
            raise UsageError(f"layout={layout!r}; choose one of {', '.join(LAYOUTS)}")
        if representation not in REPRESENTATIONS:
            raise UsageError(
                f"representation={representation!r}; choose one of {', '.join(REPRESENTATIONS)}"
            )
        self.dataset = dataset
        self.sampler = EpisodeSampler(dataset, ways, shots, queries, seed)
        self.ways, self.shots, self.queries = ways, shots, queries
        self.episodes, self.seed = episodes, seed
        self.batch_size, self.num_workers = batch_size, num_workers
        self.device = device
        self._form = _Form(dataset, representation, layout, dtype, transform)
        self._workers: Any = None
        self._plans: dict[int, _Plan] = {}
        self._last = -1

    def __len__(self) -> int:
        """Episodes, or batches where a batch size is set."""
        return -(-self.episodes // self.batch_size) if self.batch_size else self.episodes

    def __getitem__(self, index: int) -> Episode:
        """Episode or batch `index`; negative ones count from the end."""
        try:
            position = range(len(self))[operator.index(index)]
        except IndexError:
            raise IndexError(f"episode {index} of a loader of {len(self)}") from None
        return self._place(self._prepare(position))

    def __iter__(self) -> Iterator[Episode]:
        if not self.num_workers:
            for position in range(len(self)):
                yield self._place(self._prepare(position))
            return
        for episode in self._worker_loader():
            yield self._place(episode)

    def draw(self, index: int) -> Draw:
        """What episode `index` consists of, without reading any event."""
        return self.sampler(index)

    def _plan(self, index: int) -> _Plan:
        """Everything about an episode but its events. Who goes through the stream gets it planned some episodes ahead:
        moving an episode's events drives the sampler's code and data out of the processor's caches, so that drawing many at a
        time takes a third of the time.
        """
        if index not in self._plans:
            ahead = _AHEAD if index - 1 == self._last else 1
            stop = max(index + 1, min(index + ahead, self.episodes))
            self._plans = {i: _Plan.of(self.dataset, self.sampler(i)) for i in range(index, stop)}
        self._last = index
        return self._plans[index]

    def _prepare(self, position: int) -> Episode:
        import torch

        if self.batch_size is None:
            plan = self._plan(position)
            return Episode(
                self._form([plan.draw.support])[0],
                torch.tensor(plan.draw.support_y),
                self._form([plan.draw.query])[0],
                torch.tensor(plan.draw.query_y),
                plan.draw.classes,
                plan.support_ids,
                plan.query_ids,
                position,
            )
        first = position * self.batch_size
        indices = range(first, min(first + self.batch_size, self.episodes))
        plans = [self._plan(index) for index in indices]
        return Episode(
            self._form([plan.draw.support for plan in plans]),
            torch.tensor([plan.draw.support_y for plan in plans]),
            self._form([plan.draw.query for plan in plans]),
            torch.tensor([plan.draw.query_y for plan in plans]),
            tuple(plan.draw.classes for plan in plans),
            tuple(plan.support_ids for plan in plans),
            tuple(plan.query_ids for plan in plans),
            tuple(indices),
        )

    def _place(self, episode: Episode) -> Episode:
        if self.device is None:
            return episode
        import torch

        device = torch.device(self.device)
        if device.type == "cuda":
            return episode.pin_memory().to(device, non_blocking=True)
        return episode.to(device)

    def _worker_loader(self) -> Any:
        """A torch DataLoader over the positions; kept, so that its workers live on from one pass to the next."""
        if self._workers is None:
            import torch
            from torch.utils.data import DataLoader

            self.dataset.prepare(self._form.representation)
            self._workers = DataLoader(
                # A copy: were the workers reachable from their own dataset, they would be let go in a cycle, which makes
                # torch wait five seconds for each.
                _Positions(copy(self)),  # type: ignore[arg-type]
                batch_size=None,
                num_workers=self.num_workers,
                collate_fn=_same,
                persistent_workers=True,
                generator=torch.Generator(),  # leaves the global generator alone
            )
        return self._workers

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_workers": None, "_plans": {}}


class _Positions:
    """A loader's episodes as a map-style dataset for workers, without device transfer."""

    def __init__(self, loader: EpisodeLoader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __getitem__(self, position: int) -> Episode:
        return self._loader._prepare(position)


def _same(value: Any) -> Any:
    return value


class _Form:
    """Turns samples into what a learner eats: representation, layout, dtype, transform."""

    def __init__(
        self,
        dataset: ComposedDataset,
        representation: str,
        layout: str,
        dtype: torch.dtype | None,
        transform: Callable[[Any], Any] | None,
    ) -> None:
        from metaevents.frames import numpy_dtype

        numpy_dtype(dtype)  # refuse an unknown one now
        self.dataset, self.representation, self.layout = dataset, representation, layout
        self.dtype, self.transform = dtype, transform

    def __call__(self, tasks: Sequence[Sequence[Sample]]) -> Any:
        """[tasks, n, ...] tensor, or a list a task of lists of event arrays."""
        return REPRESENTATIONS[self.representation](self, tasks)

    def _stacked(
        self, stack: Callable[..., torch.Tensor], tasks: Sequence[Sequence[Sample]]
    ) -> torch.Tensor:
        import torch

        x = stack([sample for task in tasks for sample in task], dtype=self.dtype)
        if self.layout == "TPWH":
            x = x.transpose(-1, -2).contiguous()
        if self.transform is not None:
            x = torch.stack([self.transform(sample) for sample in x])
        return x.reshape(len(tasks), -1, *x.shape[1:])

    def frames(self, tasks: Sequence[Sequence[Sample]]) -> torch.Tensor:
        return self._stacked(self.dataset.stack_frames, tasks)

    def sums(self, tasks: Sequence[Sequence[Sample]]) -> torch.Tensor:
        return self._stacked(self.dataset.stack_sums, tasks)

    def events(self, tasks: Sequence[Sequence[Sample]]) -> list[list[Any]]:
        transform = self.transform or _same
        return [
            [transform(self.dataset.sample_events(sample)) for sample in task] for task in tasks
        ]


REPRESENTATIONS: Mapping[str, Callable[[_Form, Sequence[Sequence[Sample]]], Any]] = {
    "frames": _Form.frames,
    "sum": _Form.sums,
    "events": _Form.events,
}
