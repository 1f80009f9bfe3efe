"""Episodes as tensors: the loader, and the episode that a learner gets.

`EpisodeLoader` reads the samples that an `EpisodeSampler` draws, in this process or in workers, and
brings them into the form that a learner wants. Which recordings an episode consists of is left to
`metaevents.sampling`, what workers are to `metaevents.workers`, scoring a learner to
`metaevents.benchmark`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

from metaevents.arguments import one_of, shown, whole_number
from metaevents.errors import UsageError
from metaevents.frames import numpy_dtype, torch_dtype
from metaevents.global_state import generators_restored, ordinary_tensors, seed_generators
from metaevents.hashing import digest_json
from metaevents.rng import Streams
from metaevents.sampling import MAX_EPISODES, Draw, EpisodeSampler, Sample
from metaevents.workers import WorkerProcesses, prepare_in_threads

if TYPE_CHECKING:
    import numpy as np
    import torch

    from metaevents.datasets import ComposedDataset
    from metaevents.device_frames import Job

LAYOUTS = ("TPHW", "TPWH", "TNPHW")

REPRESENTATIONS = ("frames", "sum", "events")

_MAX_WORKERS = 1024

SampleIds: TypeAlias = tuple[str, ...]
"""Recording ids of a composed sample, one per side, left to right."""


@dataclass(eq=False, repr=False)
class Episode:
    """One task, or a batch of tasks if the loader has a batch size.

    In a batch, every field gains a leading task axis. Two episodes are equal only if they are the
    same object; compare `digest()` to find out whether they consist of the same recordings.

    Attributes:
        support_x: [ways * shots, T, P, H, W] event counts; [T, ways * shots, P, H, W] with layout
            "TNPHW"; [ways * shots, P, H, W] with representation "sum"; a list of event arrays with
            representation "events".
        support_y: [ways * shots] int64 labels, class by class.
        query_x: [ways * queries, ...], in the form of `support_x`.
        query_y: [ways * queries] int64 labels, in random order.
        classes: Class names; the position is the label.
        support_ids: The recording ids of every support sample, left to right, in the order of the
            labels: (left id, right id) for two sides.
        query_ids: The recording ids of every query sample, likewise.
        index: The episode's place in the loader's stream.
    """

    support_x: Any
    support_y: torch.Tensor
    query_x: Any
    query_y: torch.Tensor
    classes: tuple[Any, ...]
    support_ids: tuple[Any, ...]
    query_ids: tuple[Any, ...]
    index: int | tuple[int, ...]

    def __repr__(self) -> str:
        if isinstance(self.index, tuple):
            name = f"Episodes {self.index[0]} to {self.index[-1]}" if self.index else "no episodes"
            classes = ""
        else:
            name = f"Episode {self.index}"
            shown = ", ".join(map(str, self.classes[:5]))
            classes = f" of {shown}{', ...' if len(self.classes) > 5 else ''}"
        return f"<{name}{classes}: support {_form(self.support_x)}, query {_form(self.query_x)}>"

    def to(
        self,
        device: torch.device | str | int | torch.dtype | None = None,
        non_blocking: bool = False,
        *,
        dtype: torch.dtype | str | None = None,
    ) -> Episode:
        """Return the episode with its tensors on a device; lists of events stay where they are.

        Args:
            device: The device; None leaves the tensors where they are. A dtype counts as `dtype`.
            non_blocking: Do not wait for copies from pinned memory to a GPU.
            dtype: A floating-point dtype or torch.uint8, also one of NumPy or a name such as
                "float16", for the samples alone: labels stay int64. Counts beyond its range become
                its largest value.

        Raises:
            UsageError: The device does not exist here, or the dtype does not suit samples.
        """
        import torch

        if isinstance(device, torch.dtype):
            if dtype is not None:
                raise UsageError(
                    f"got the dtypes {device} and {shown(dtype)}; give one, by position or by name"
                )
            device, dtype = None, device
        wanted = torch_dtype(dtype)
        if wanted is not None and not (wanted.is_floating_point or wanted == torch.uint8):
            raise UsageError(
                f"dtype={wanted} does not suit samples; give a floating-point dtype or torch.uint8"
            )
        target = None if device is None else _checked_device(device)

        def move(value: Any) -> Any:
            if target is None or not hasattr(value, "to"):
                return value
            return value.to(target, non_blocking=non_blocking)

        def convert(value: Any) -> Any:
            if wanted is None or not isinstance(value, torch.Tensor):
                return value
            return _saturated(value, wanted)

        moved = self._map(move)
        return replace(moved, support_x=convert(moved.support_x), query_x=convert(moved.query_x))

    def pin_memory(self) -> Episode:
        """Return the episode with its tensors in pinned memory, for faster copies to a GPU."""
        return self._map(
            lambda value: value.pin_memory() if hasattr(value, "pin_memory") else value
        )

    def _map(self, change: Callable[[Any], Any]) -> Episode:
        """Return the episode with its four tensors changed."""
        names = ("support_x", "support_y", "query_x", "query_y")
        return replace(self, **{name: change(getattr(self, name)) for name in names})

    def as_torchmeta(self) -> dict[str, tuple[Any, torch.Tensor]]:
        """Return {"train": (x, y), "test": (x, y)}, the form of torchmeta and learn2learn code."""
        return {"train": (self.support_x, self.support_y), "test": (self.query_x, self.query_y)}

    def numpy(self) -> dict[str, Any]:
        """Return support_x, support_y, query_x and query_y as NumPy arrays, by name.

        NumPy has no bfloat16: such samples become float32, with the same values.
        """
        return {
            name: to_array(getattr(self, name))
            for name in ("support_x", "support_y", "query_x", "query_y")
        }

    def digest(self) -> str:
        """Return the hex SHA-256 over classes in label order, sample ids in order, and labels.

        Event data is not covered.
        """
        return digest_json(
            {
                "classes": self.classes,
                "support_ids": self.support_ids,
                "query_ids": self.query_ids,
                "support_y": self.support_y.tolist(),
                "query_y": self.query_y.tolist(),
            }
        )


def to_array(value: Any) -> Any:
    """Return a tensor as a NumPy array, bfloat16 as float32; anything else as it is."""
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _form(samples: Any) -> str:
    """The form of samples in a few words."""
    if hasattr(samples, "shape"):
        dtype = str(samples.dtype).removeprefix("torch.")
        return f"{list(samples.shape)} {dtype} on {getattr(samples, 'device', 'cpu')}"
    return f"{len(samples)} of {type(samples[0]).__name__}" if samples else "without samples"


def _saturated(samples: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return samples in another dtype; values beyond its range become the nearest in it."""
    import torch

    if samples.dtype == dtype:
        return samples
    limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    own = torch.finfo if samples.dtype.is_floating_point else torch.iinfo
    if own(samples.dtype).max > limits.max:
        samples = samples.clamp(limits.min, limits.max)
    elif not dtype.is_floating_point:
        samples = samples.clamp(min=0)
    return samples.to(dtype)


def _checked_device(device: Any) -> torch.device:
    """Return a device that exists here."""
    import torch

    try:
        checked = torch.device(device)
        if checked.type == "cuda":  # without starting CUDA, so that processes can still be forked
            number = 0 if checked.index is None else checked.index
            if not torch.cuda.is_available() or number >= torch.cuda.device_count():
                raise RuntimeError
        else:
            torch.empty(0, device=checked)
    except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError):
        raise UsageError(
            f"device={shown(device)} does not exist here; give one that does, such as 'cpu'"
        ) from None
    return checked


def _numbered_gpu(device: torch.device) -> torch.device:
    """Return a GPU with its number; without one it is the current GPU."""
    import torch

    return device if device.index is not None else torch.device("cuda", torch.cuda.current_device())


_AHEAD = 32  # episodes drawn at a time while the stream is read in order


@dataclass(frozen=True)
class _Plan:
    """An episode without its events."""

    index: int
    draw: Draw
    support_ids: tuple[SampleIds, ...]
    query_ids: tuple[SampleIds, ...]

    @classmethod
    def of(cls, dataset: ComposedDataset, index: int, draw: Draw) -> _Plan:
        return cls(
            index, draw, dataset.name_samples(draw.support), dataset.name_samples(draw.query)
        )


class EpisodeLoader:
    """Episodes of a dataset, by number or in order, in this process or in workers.

    Every `iter()` is a pass of its own over the stream; several can run side by side.

    Workers prepare episodes ahead, in the order of the stream. Without a transform, frames and sums
    are filled by threads, because compiled code does it. Event lists and transforms run in
    processes. These are forked where the system can, so they start with the decoded recordings and
    the compiled code. They go on from one pass to the next.

    Args:
        dataset: The split.
        ways: Classes per episode.
        shots: Support samples per class.
        queries: Query samples per class.
        episodes: Length of the stream.
        seed: Selects the stream, from 0 to 2^64 - 1; episode i depends neither on `episodes` nor on
            `num_workers`.
        batch_size: Tasks that are stacked along a leading axis; None gives single episodes.
        num_workers: Threads or processes that prepare episodes; 0 prepares each where and when it
            is asked for. The episodes and their order are the same.
        dtype: torch.float32 (default), torch.float16, torch.bfloat16 (rounds counts above 256) or
            torch.uint8 (saturates at 255).
        device: Device of the tensors. On a GPU, frames and sums are filled by the GPU itself: it
            keeps the recordings, and only their numbers travel. So workers have nothing to do, and
            the loader cannot be used in the worker processes of a `DataLoader`. What a transform
            makes is copied from pinned memory, without waiting.
        layout: "TPHW"; "TPWH", the axis order of the published code; or "TNPHW", time first, for
            frames only: [T, n, P, H, W], in batches [tasks, T, n, P, H, W].
        representation: "frames" gives [n, T, P, H, W]; "sum" gives [n, P, H, W], counts over the
            window; "events" gives a list of event arrays on the grid of the frames.
        transform: Applied to every sample (a tensor [T, P, H, W] or [P, H, W], or an event array,
            which tonic's transforms take). Transformed frames and sums are stacked again. The
            global generators of torch, numpy and Python are seeded before the support and before
            the query of each episode, from `seed` and the episode's index, and put back afterwards.
            So a random transform gives the same noise whatever the number of workers, and other
            noise in every episode. One thread of a process transforms at a time, also while
            another one evaluates. A generator of the transform's own is not seeded.
        bins: Number of time bins of frames, a divisor of T: neighboring bins are merged, and counts
            are summed before they saturate. T by default.
        division: "class" divides the recordings of a label between support and query for each class
            anew, "episode" once per episode, so that no query shares a recording with the support
            of another class; see `metaevents.sampling.EpisodeSampler`.

    Attributes:
        dataset: The split.
        episode_sampler: The `EpisodeSampler` of the stream.
        ways: As given.
        shots: As given.
        queries: As given.
        episodes: As given.
        seed: As given.
        batch_size: As given.
        num_workers: As given.
        device: The device; None leaves the tensors in main memory.

    Raises:
        UsageError: The numbers are no whole numbers or do not fit the dataset, the device does not
            exist here, or layout, representation or dtype is unknown or does not fit the others.

    Example:
        for episode in EpisodeLoader(dataset, ways=5, shots=1, queries=15):
            classifier = learner.adapt(episode.support_x, episode.support_y, 5)
    """

    # A public attribute `sampler` would make Lightning take this for torch's DataLoader.

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
        bins: int | None = None,
        division: str = "class",
    ) -> None:
        self.dataset = dataset
        self.episodes = whole_number("episodes", episodes, least=0, most=MAX_EPISODES)
        self.batch_size = (
            None
            if batch_size is None
            else whole_number("batch_size", batch_size, least=1, most=MAX_EPISODES)
        )
        self.num_workers = whole_number("num_workers", num_workers, least=0, most=_MAX_WORKERS)
        self.device = None if device is None else _checked_device(device)
        self.episode_sampler = EpisodeSampler(dataset, ways, shots, queries, seed, division)
        self.ways, self.shots = self.episode_sampler.ways, self.episode_sampler.shots
        self.queries, self.seed = self.episode_sampler.queries, self.episode_sampler.seed
        self._form = _SampleForm(dataset, representation, layout, dtype, transform, bins, self.seed)
        self._on_gpu = (
            self.device is not None and self.device.type == "cuda" and self._form.compiled
        )
        self._idle: list[WorkerProcesses] = []
        self._plans: dict[int, _Plan] = {}
        self._last = -1
        self._sent: tuple[object, dict[int, Job]] = None, {}

    def __len__(self) -> int:
        """The number of episodes, or of batches if a batch size is set."""
        return -(-self.episodes // self.batch_size) if self.batch_size else self.episodes

    def __getitem__(self, index: int) -> Episode:
        """Return episode or batch `index`; negative indices count from the end."""
        position = whole_number("index", index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"episode {shown(position)} of a loader of {len(self)}")
        return self._load(position % len(self))

    def __iter__(self) -> Iterator[Episode]:
        if not self.num_workers or self._on_gpu:
            return self._iterate_here(range(len(self)))
        if self._form.compiled:
            return self._iterate_in_threads(range(len(self)))
        return self._iterate_in_processes()

    def iterate(self, indices: Sequence[int]) -> Iterator[Episode]:
        """Yield some episodes or batches, prepared by the loader's workers.

        Args:
            indices: Places in the loader; negative ones count from the end.

        Raises:
            IndexError: There is no such place.
            UsageError: An index is no whole number.
        """
        positions = [whole_number("index", index) for index in indices]
        for position in positions:
            if not -len(self) <= position < len(self):
                raise IndexError(f"episode {shown(position)} of a loader of {len(self)}")
        positions = [position % len(self) for position in positions]
        if not self.num_workers or self._on_gpu:
            return self._iterate_here(positions)
        if self._form.compiled:
            return self._iterate_in_threads(positions)
        return self._iterate_once(self._start_processes(positions))

    def draw(self, index: int) -> Draw:
        """Return what episode `index` consists of, without reading any event."""
        return self.episode_sampler(index)

    def _iterate_here(self, positions: Sequence[int]) -> Iterator[Episode]:
        """Yield episodes prepared in this process, each when it is asked for."""
        for position in positions:
            yield self._load(position)

    def _load(self, position: int) -> Episode:
        """Return the episode or batch at a position, on the loader's device."""
        if self.device is None or not self._on_gpu:
            return self._place(self._prepare(position))
        return self._fill_on_gpu(self._plan_position(position), _numbered_gpu(self.device))

    def _iterate_in_threads(self, positions: Sequence[int]) -> Iterator[Episode]:
        """Yield episodes that threads fill; they are drawn in the caller's thread."""
        self._form.prepare()
        jobs = map(self._plan_job, positions)
        filled = prepare_in_threads(lambda job: self._fill(*job), jobs, self.num_workers)
        yield from map(self._place, filled)

    def _plan_job(self, position: int) -> tuple[_Plan | list[_Plan], list[np.ndarray | None]]:
        """Return a plan for a thread, and memory for its support and query.

        Memory that the caller's thread allocates is used again when the caller releases an episode.
        A thread's own memory goes back to the system each time, and new pages take longer than
        filling them.
        """
        tasks = self.ways if self.batch_size is None else self.ways * self._batch_length(position)
        memory = [self._form.memory(tasks * n) for n in (self.shots, self.queries)]
        return self._plan_position(position), memory

    def _batch_length(self, position: int) -> int:
        """Return the number of episodes in the batch at a position."""
        size = self.batch_size or 1
        return min(size, self.episodes - position * size)

    def _iterate_in_processes(self) -> Iterator[Episode]:
        """Yield all episodes from worker processes, which are kept for the next pass."""
        processes = self._take_processes()
        ended = False
        try:
            for episode in processes:
                yield self._place(episode)
            ended = True
        except GeneratorExit:
            ended = True  # the caller stopped early
            raise
        finally:
            if ended:
                self._idle = [processes]
            else:
                processes.close()

    def _iterate_once(self, processes: WorkerProcesses) -> Iterator[Episode]:
        """Yield what worker processes prepare; if that fails, the processes end."""
        try:
            yield from map(self._place, processes)
        except Exception:
            processes.close()
            raise

    def _take_processes(self) -> WorkerProcesses:
        """Return processes that no pass uses."""
        while self._idle:
            processes = self._idle.pop()
            if not processes.inherited:
                return processes
            _inherited.append(processes)
        return self._start_processes(range(len(self)))

    def _start_processes(self, positions: Sequence[int]) -> WorkerProcesses:
        """Return new processes that prepare the episodes at some positions."""
        self._form.prepare()
        samples = self.ways * (self.shots + self.queries) * (self.batch_size or 1)
        largest = 8 * samples * prod(self.dataset.frame_shape) + (1 << 20)
        # A copy of the loader: if the processes could be reached from what they prepare, they would
        # be released in a cycle, and torch would wait five seconds for each.
        return WorkerProcesses(copy(self)._prepare, positions, self.num_workers, largest)

    def _plan(self, index: int) -> _Plan:
        """Return everything about an episode but its events.

        If the stream is read in order, several episodes are drawn ahead. Reading events drives the
        sampler's code and data out of the processor's caches, so drawing many episodes at a time
        takes a third of the time.
        """
        plans = self._plans
        if index not in plans:
            ahead = _AHEAD if index - 1 == self._last else 1
            stop = max(index + 1, min(index + ahead, self.episodes))
            sampler = self.episode_sampler
            plans = {i: _Plan.of(self.dataset, i, sampler(i)) for i in range(index, stop)}
            self._plans = plans
        self._last = index
        return plans[index]

    def _plan_position(self, position: int) -> _Plan | list[_Plan]:
        """Return the plan of the episode, or the plans of the batch, at a position."""
        if self.batch_size is None:
            return self._plan(position)
        first = position * self.batch_size
        return [self._plan(first + i) for i in range(self._batch_length(position))]

    def _prepare(self, position: int) -> Episode:
        """Return the episode or batch at a position, in main memory."""
        return self._fill(self._plan_position(position))

    def _fill(
        self, planned: _Plan | list[_Plan], memory: Sequence[np.ndarray | None] = (None, None)
    ) -> Episode:
        """Return a planned episode or batch with its events, in main memory."""
        import torch

        def labels(numbers: Any) -> torch.Tensor:
            return torch.tensor(numbers, dtype=torch.int64, device="cpu")

        with ordinary_tensors():
            if isinstance(planned, _Plan):
                draw, indices = planned.draw, [planned.index]
                return Episode(
                    self._form([draw.support], indices, 0, memory[0])[0],
                    labels(draw.support_y),
                    self._form([draw.query], indices, 1, memory[1])[0],
                    labels(draw.query_y),
                    draw.classes,
                    planned.support_ids,
                    planned.query_ids,
                    planned.index,
                )
            indices = [plan.index for plan in planned]
            return Episode(
                self._form([plan.draw.support for plan in planned], indices, 0, memory[0]),
                labels([plan.draw.support_y for plan in planned]),
                self._form([plan.draw.query for plan in planned], indices, 1, memory[1]),
                labels([plan.draw.query_y for plan in planned]),
                tuple(plan.draw.classes for plan in planned),
                tuple(plan.support_ids for plan in planned),
                tuple(plan.query_ids for plan in planned),
                tuple(indices),
            )

    def _fill_on_gpu(self, planned: _Plan | list[_Plan], gpu: torch.device) -> Episode:
        """Return a planned episode or batch that a GPU fills."""
        from torch.utils.data import get_worker_info

        if get_worker_info() is not None:
            raise UsageError(
                f"an EpisodeLoader with device={str(self.device)!r} was used in a worker process "
                "of a DataLoader, where the GPU cannot be used; give the DataLoader num_workers=0, "
                "or leave out `device` and move each episode by `.to(device)`"
            )
        n = self.ways * self.shots
        with ordinary_tensors():
            if isinstance(planned, _Plan):
                job = self._job(planned, gpu)
                support_x, query_x, y = self._form.on_device(gpu, job, [planned.index], n)
                names = planned.draw.classes, planned.support_ids, planned.query_ids
                return Episode(support_x[0], y[0, :n], query_x[0], y[0, n:], *names, planned.index)
            indices = tuple(plan.index for plan in planned)
            (job,) = self._form.send(gpu, [planned])
            support_x, query_x, y = self._form.on_device(gpu, job, indices, n)
            return Episode(
                support_x,
                y[:, :n].contiguous(),
                query_x,
                y[:, n:].contiguous(),
                tuple(plan.draw.classes for plan in planned),
                tuple(plan.support_ids for plan in planned),
                tuple(plan.query_ids for plan in planned),
                indices,
            )

    def _job(self, plan: _Plan, gpu: torch.device) -> Job:
        """Return what the GPU fills for an episode; episodes that were drawn ahead are sent along.

        Work on another stream would not wait for the copy, so each stream gets its own.
        """
        import torch

        stream = torch.cuda.current_stream(gpu)
        sent_on, jobs = self._sent
        if sent_on != stream or plan.index not in jobs:
            ahead = [plan, *(each for each in self._plans.values() if each.index > plan.index)]
            sent = self._form.send(gpu, [[each] for each in ahead])
            jobs = dict(zip([each.index for each in ahead], sent, strict=True))
            self._sent = stream, jobs
        return jobs[plan.index]

    def _place(self, episode: Episode) -> Episode:
        """Return the episode on the loader's device."""
        if self.device is None:
            return episode
        with ordinary_tensors():
            if self.device.type == "cuda":
                return episode.pin_memory().to(self.device, non_blocking=True)
            return episode.to(self.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_idle": [], "_plans": {}, "_sent": (None, {})}


# Worker processes that a forked process inherited. They are never released there, because torch
# would end those of the parent process.
_inherited: list[WorkerProcesses] = []


class _SampleForm:
    """Turns samples into a learner's input: representation, layout, dtype, bins and transform.

    Attributes:
        compiled: Whether compiled code does nearly all of the work.
    """

    def __init__(
        self,
        dataset: ComposedDataset,
        representation: str,
        layout: str,
        dtype: torch.dtype | None,
        transform: Callable[[Any], Any] | None,
        bins: int | None,
        seed: int,
    ) -> None:
        layout = one_of("layout", layout, LAYOUTS)
        representation = one_of("representation", representation, REPRESENTATIONS)
        for name, given in (("layout='TNPHW'", layout == "TNPHW"), ("bins", bins is not None)):
            if given and representation != "frames":
                raise UsageError(
                    f"{name} needs a time axis, representation={representation!r} has none; "
                    "use representation='frames'"
                )
        if representation == "events" and layout != LAYOUTS[0]:
            raise UsageError(
                f"layout={layout!r} orders the axes of frames and sums, representation='events' "
                "has none; leave it out"
            )
        dataset.merged_bins(bins)  # raises for a number that does not divide T
        numpy_dtype(dtype)  # raises for an unknown one
        if not (transform is None or callable(transform)):
            raise UsageError(f"transform={shown(transform)} cannot be called; give a function")
        self.dataset, self.representation, self.layout = dataset, representation, layout
        self.dtype, self.transform, self.bins = dtype, transform, bins
        self.compiled = transform is None and representation != "events"
        self._noise = Streams({"transform": 1, "seed": seed})

    def memory(self, n: int) -> np.ndarray | None:
        """Return memory for the frames of `n` samples; None if the input is made otherwise."""
        if self.representation != "frames" or self.dataset.merged_bins(self.bins) > 1:
            return None
        return self.dataset.empty_frames(n, self.dtype)

    def prepare(self) -> None:
        """Decode recordings and load compiled code, if that has not happened yet."""
        self.dataset.prepare(self.representation, self.dtype, self.bins)

    def __call__(
        self,
        tasks: Sequence[Sequence[Sample]],
        indices: Sequence[int],
        part: int,
        memory: np.ndarray | None = None,
    ) -> Any:
        """Return the input of some tasks.

        Args:
            tasks: [tasks, n] samples.
            indices: [tasks] numbers of the episodes.
            part: 0 for supports, 1 for queries.
            memory: Memory for frames, from `memory`.

        Returns:
            [tasks, n, ...] tensor, or a list of n event arrays per task.
        """
        if self.representation == "events":
            return [
                self._transformed(map(self.dataset.sample_events, task), index, part)
                for task, index in zip(tasks, indices, strict=True)
            ]
        samples = [sample for task in tasks for sample in task]
        if self.representation == "sum":
            x = self.dataset.stack_sums(samples, dtype=self.dtype)
        else:
            x = self.dataset.stack_frames(samples, self.dtype, self.bins, memory)
        return self._arranged(x, indices, part)

    def send(self, device: torch.device, batches: Sequence[Sequence[_Plan]]) -> list[Job]:
        """Send the places and labels of some batches of tasks to a device, in one copy.

        Args:
            device: The device.
            batches: [batches, tasks] plans.

        Returns:
            What `on_device` takes, for each batch.
        """
        import numpy as np

        draws = [[plan.draw for plan in batch] for batch in batches]
        samples = [
            [*chain(*(draw.support for draw in batch)), *chain(*(draw.query for draw in batch))]
            for batch in draws
        ]
        labels = [
            [y for draw in batch for y in (*draw.support_y, *draw.query_y)] for batch in draws
        ]
        return self.dataset.send_to(
            device,
            samples,
            bins=self.bins,
            summed=self.representation == "sum",
            extra=np.array(labels, np.int64),
        )

    def on_device(
        self, device: torch.device, job: Job, indices: Sequence[int], n: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the input of a batch of tasks, filled by the device, and their labels.

        Args:
            device: The device.
            job: From `send`.
            indices: [tasks] numbers of the episodes.
            n: Support samples per task.

        Returns:
            Support [tasks, n, ...], query [tasks, m, ...] and labels [tasks, n + m] on the device.
        """
        summed = self.representation == "sum"
        x, y = self.dataset.fill_on(device, job, self.dtype, bins=self.bins, summed=summed)
        size = len(indices) * n
        support, query = self._arranged(x[:size], indices, 0), self._arranged(x[size:], indices, 1)
        return support, query, y.view(len(indices), -1)

    def _arranged(self, x: torch.Tensor, indices: Sequence[int], part: int) -> torch.Tensor:
        """Return [tasks * n, ...] samples as [tasks, n, ...], in the layout and transformed."""
        if self.layout == "TPWH":
            x = x.transpose(-1, -2).contiguous()
        x = x.reshape(len(indices), -1, *x.shape[1:])
        if self.transform is not None:
            x = self._stack(
                [self._transformed(*task, part) for task in zip(x, indices, strict=True)]
            )
        if self.layout != "TNPHW":
            return x
        if x.ndim < 3:
            raise UsageError(
                "the transform's results are single numbers, which have no time axis for "
                "layout='TNPHW'; return tensors [T, ...], or leave the layout out"
            )
        return x.transpose(1, 2).contiguous()

    @staticmethod
    def _stack(tasks: list[list[Any]]) -> torch.Tensor:
        """Return [tasks][n] transformed samples as one tensor."""
        import torch

        try:
            return torch.stack([torch.stack(task) for task in tasks])
        except (TypeError, RuntimeError) as error:
            first = type(tasks[0][0]).__name__
            raise UsageError(
                f"the transform's results ({first}) cannot be stacked: {error}; "
                "return tensors of one shape and dtype"
            ) from None

    def _transformed(self, samples: Any, index: int, part: int) -> list[Any]:
        """Return the samples of an episode's support or query, each transformed."""
        if self.transform is None:
            return list(samples)
        with generators_restored():
            seed_generators(int(self._noise.first_words(index, 2)[part]) >> 1)
            return [self.transform(sample) for sample in samples]
