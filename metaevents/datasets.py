"""Composed datasets: classes of recordings side by side, as dense frames or events.

`DoubleNMNIST`, `DoubleASLDVS` and `NOmniglot` are built in and `load` opens them by name. A
user's own ones are made by `metaevents.composition.compose`. Drawing episodes is left to
`metaevents.sampling`, loading them to `metaevents.episodes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from metaevents import cache
from metaevents.archive.reader import Archive
from metaevents.arguments import one_of, shown, whole_number
from metaevents.building import open_archive, required_rules
from metaevents.errors import ArchiveError, UsageError
from metaevents.events import EVENT_DTYPE, Events, side_by_side
from metaevents.files import PathLike, user_path
from metaevents.frames import (
    accumulate,
    in_dtype,
    largest_value,
    merge_bins,
    numpy_dtype,
    scatter,
    values_of_counts,
)
from metaevents.global_state import to_tensor
from metaevents.rng import Streams
from metaevents.sampling import MAX_EPISODES, MAX_SEED, Sample, different_samples, published_samples
from metaevents.specs import PAIRINGS, DatasetRules, class_name

if TYPE_CHECKING:
    import torch

    from metaevents.classification import ClassificationDataset
    from metaevents.device_frames import DeviceCounts, Form, Job

ClassRef: TypeAlias = str | int
"""A class, by its name or by its index in `ComposedDataset.classes`."""


class ComposedDataset:
    """The classes of one split, each a tuple of component labels, with all their composed samples.

    Made by `DoubleNMNIST`, `DoubleASLDVS`, `NOmniglot`, `load` and `compose`.

    Args:
        archive: The recordings.
        rules: Geometry, class splits, partitions and pairings.
        split: "train", "val" or "test".
        pairing: "all" or "published".
        class_split: "published", or a deal, such as "novel-components".

    Attributes:
        archive: The recordings.
        rules: Geometry, class splits, partitions and pairings.
        split: "train", "val" or "test".
        pairing: "all" (any left with any right recording) or "published" (the index arithmetic of
            the published loader).
        class_split: The class split: which classes train, validate and test. The argument
            `classes` of `load` and of the datasets gives it.
        classes: Names of the split's classes, sorted. (The argument `classes` of `load` names a
            class split instead.)
        components: Class name -> component labels, left to right.
        labels: The component labels that the split's classes use.
        fingerprint: Hex SHA-256 over recording contents, partition, splits and protocol version.

    Raises:
        UsageError: The split, pairing or class split does not exist.
        ArchiveError: The archive has other labels, a smaller sensor or a shorter window than the
            rules need.
    """

    ordering = "xytp"

    def __init__(
        self,
        archive: Archive,
        rules: DatasetRules,
        split: str,
        pairing: str = "all",
        class_split: str = "published",
    ) -> None:
        class_splits = rules.class_splits
        class_split = one_of("classes", class_split, class_splits)
        split = one_of("split", split, class_splits[class_split])
        pairing = one_of("pairing", pairing, PAIRINGS)
        if pairing not in rules.pools:
            raise UsageError(f"{rules.name} has no published pairing; use pairing='all'")
        if archive.labels != rules.labels:
            raise ArchiveError(
                f"{archive.path} has the labels {archive.labels}, {rules.name} needs "
                f"{rules.labels}; give an archive of {rules.name}"
            )
        if archive.window_us < rules.composition.window_us:
            raise ArchiveError(
                f"{archive.path} keeps {archive.window_us} us per recording, {rules.name} needs "
                f"{rules.composition.window_us}; build it again with a longer window"
            )
        crop, sensor = rules.composition.crop, archive.sensor_size
        if crop[0] > sensor[0] or crop[1] > sensor[1]:
            raise ArchiveError(
                f"{archive.path} has recordings of {sensor} pixels, {rules.name} keeps {crop} "
                f"pixels of each; give an archive of {rules.name}"
            )
        self.archive = archive
        self.rules = rules
        self.split = split
        self.pairing = pairing
        self.class_split = class_split
        named = {
            class_name(components): components for components in class_splits[class_split][split]
        }
        self.classes: tuple[str, ...] = tuple(sorted(named))
        self.components = {name: named[name] for name in self.classes}
        self.fingerprint = rules.fingerprint(archive.contents)
        partitions = rules.pools[pairing][split]
        used = {label for components in named.values() for label in components}
        self.labels = tuple(label for label in rules.labels if label in used)
        self._pools = {label: archive.select(label, partitions) for label in self.labels}
        self._decoded: dict[str, cache.Columns] = {}
        self._on_device: dict[torch.device, DeviceCounts] = {}

    @property
    def name(self) -> str:
        """Name of the dataset, such as "double-nmnist"."""
        return self.rules.name

    @property
    def frame_shape(self) -> tuple[int, int, int, int]:
        """(T, P, H, W) of a composed sample."""
        return self.rules.composition.frame_shape

    @property
    def min_gap(self) -> int:
        """Least distance in file numbers between support and query of a class on one side."""
        return self.rules.min_gap

    @property
    def simulated(self) -> bool:
        """Whether the recordings are simulated; the leaderboard takes no result on such ones."""
        return self.archive.simulated

    def __len__(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def __repr__(self) -> str:
        return (
            f"<{self.name} {self.split}: {len(self)} classes ({self.class_split}), "
            f"pairing {self.pairing}, {self.archive.source}, frames {self.frame_shape}>"
        )

    def resolve(self, c: ClassRef) -> str:
        """Return the name of a class.

        Args:
            c: Class name, or index in `classes`.

        Raises:
            UsageError: This split has no such class.
        """
        if isinstance(c, str):
            if c in self.components:
                return c
        else:
            try:
                return self.classes[whole_number("class", c)]
            except (IndexError, UsageError):
                pass
        raise UsageError(
            f"no class {shown(c)} among the {len(self)} of the {self.split} split; "
            f"give a name such as {self.classes[0]!r} or an index from 0 to {len(self) - 1}"
        )

    def pool(self, label: str) -> np.ndarray:
        """Return the recordings of a component label in this split.

        Args:
            label: One of `labels`.

        Returns:
            [k] int64 archive indices, in order of id.
        """
        return self._pools[label]

    def n_recordings(self, c: ClassRef) -> tuple[int, ...]:
        """Return the number of recordings available to a class on each side, left to right.

        Args:
            c: Class name, or index in `classes`.
        """
        return tuple(len(self._pools[label]) for label in self.components[self.resolve(c)])

    def recording_ids(self, c: ClassRef) -> tuple[tuple[str, ...], ...]:
        """Return the ids of a class's recordings on each side, left to right.

        Args:
            c: Class name, or index in `classes`.

        Returns:
            A tuple of ids per side, in order, such as "Train/3/00012" or "a/a_0001".
        """
        ids = self.archive.ids
        return tuple(
            tuple(ids[i] for i in self._pools[label]) for label in self.components[self.resolve(c)]
        )

    def frames(
        self,
        c: ClassRef,
        *sides: int | torch.dtype,
        dtype: torch.dtype | None = None,
        left: int | None = None,
        right: int | None = None,
    ) -> torch.Tensor:
        """Return one composed sample as event counts.

        Args:
            c: Class name, or index in `classes`.
            sides: One index per side, left to right: the place of the recording in
                `recording_ids(c)`. `dtype` may follow as the last one.
            dtype: torch.float32 (default), torch.float16 (saturates at 65,504), torch.bfloat16
                (rounds counts above 256) or torch.uint8 (saturates at 255).
            left: The index of side 0, by name.
            right: The index of side 1, by name.

        Returns:
            [T, P, H, W] dense tensor of event counts; P = 0 is OFF, P = 1 is ON.

        Raises:
            UsageError: There is no such class or recording, or the dtype is unknown or given twice.

        Example:
            dataset.frames("35", 0, 7)
            dataset.frames("35", left=0, right=7, dtype=torch.uint8)
        """
        indices, dtype = self._bind("dtype", sides, left, right, dtype)
        return self.stack_frames([self._find_recordings(c, indices)], dtype=dtype)[0]

    def events(
        self,
        c: ClassRef,
        *sides: int,
        downsampled: bool | None = None,
        left: int | None = None,
        right: int | None = None,
    ) -> Events:
        """Return one composed sample as events.

        Args:
            c: Class name, or index in `classes`.
            sides: One index per side, as for `frames`. `downsampled` may follow as the last one.
            downsampled: On the grid of `frames`, as by default; False keeps the pixels of the crop
                (64 x 32, 480 x 180).
            left: The index of side 0, by name.
            right: The index of side 1, by name.

        Returns:
            [N] structured array (x, y, t, p) of `metaevents.events.EVENT_DTYPE`, sorted by t; t is
            in microseconds from the start of the recordings.

        Raises:
            UsageError: There is no such class or recording, or `downsampled` is given twice or is
                neither True nor False.
        """
        indices, given = self._bind("downsampled", sides, left, right, downsampled)
        if given is not None and not isinstance(given, (bool, np.bool_)):
            raise UsageError(
                f"downsampled={shown(given)}; give True or False, after one index per side"
            )
        recordings = self._find_recordings(c, indices)
        return self.sample_events(recordings, downsampled=given is None or bool(given))

    def _bind(
        self,
        name: str,
        positional: tuple[Any, ...],
        left: int | None,
        right: int | None,
        option: Any,
    ) -> tuple[tuple[Any, ...], Any]:
        """Return the indices of the sides and the option of a call of `frames` or `events`.

        The sides are given by position, by the names `left` and `right`, or both. The option may
        follow the sides by position.

        Args:
            name: Name of the option.
            positional: What was given by position.
            left: As for `frames`.
            right: As for `frames`.
            option: What was given by the option's name; None if nothing was.
        """
        sides = positional
        for side, index in enumerate((left, right)):
            if index is None:
                continue
            if len(sides) != side:
                raise UsageError(
                    f"got {len(positional)} positional indices, left={shown(left)} and "
                    f"right={shown(right)}; "
                    "left is side 0 and right is side 1: give each side once"
                )
            sides = (*sides, index)
        arity = self.rules.composition.arity
        if len(sides) == len(positional) == arity + 1:
            if option is not None:
                raise UsageError(
                    f"got {name} twice, {shown(sides[arity])} by position and {shown(option)} by "
                    "name; give it once"
                )
            return sides[:arity], sides[arity]
        return sides, option

    def _find_recordings(self, c: ClassRef, sides: Sequence[int]) -> Sample:
        """Return the archive indices of a class's recordings, given by their places."""
        name = self.resolve(c)
        components = self.components[name]
        if len(sides) != len(components):
            plural = "" if len(components) == 1 else "s"
            raise UsageError(
                f"class {name!r} has {len(components)} side{plural}, got {len(sides)} indices; "
                "give one per side"
            )
        chosen = []
        for side, (label, place) in enumerate(zip(components, sides, strict=True)):
            pool = self._pools[label]
            if not len(pool):
                raise UsageError(
                    f"{self.archive.path} has no recording of {label!r} for the {self.split} split "
                    f"of {self.name}; build it from more recordings"
                )
            place = whole_number(f"index of side {side}", place)
            if not 0 <= place < len(pool):
                raise UsageError(
                    f"class {name!r} has {len(pool)} recordings on side {side}, "
                    f"got index {shown(place)}; give one from 0 to {len(pool) - 1}"
                )
            chosen.append(int(pool[place]))
        return tuple(chosen)

    # Low-level access, for episodes: a sample is one archive index per side.

    def name_samples(self, samples: Iterable[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
        """Return the recording ids of samples.

        Args:
            samples: [n, sides] archive indices.

        Returns:
            The ids of each sample, left to right.
        """
        flat = map(self.archive.ids.__getitem__, chain.from_iterable(samples))
        return tuple(zip(*[flat] * self.rules.composition.arity, strict=True))

    def stack_frames(
        self,
        samples: Sequence[Sequence[int]],
        dtype: torch.dtype | None = None,
        bins: int | None = None,
        out: np.ndarray | None = None,
    ) -> torch.Tensor:
        """Return samples as event counts.

        Args:
            samples: [n, sides] archive indices.
            dtype: As for `frames`.
            bins: Number of time bins, a divisor of T; neighboring bins are merged, and counts
                saturate after that. T by default.
            out: Memory for the result, from `empty_frames`, if bins are not merged.

        Returns:
            [n, T, P, H, W] in new memory, or in `out`.

        Raises:
            UsageError: The dtype is unknown, or `bins` is no divisor of T.
        """
        merged = self.merged_bins(bins)
        if merged > 1:
            return self._stack_merged(samples, dtype, merged)
        if out is None:
            out = self.empty_frames(len(samples), dtype)
        columns = self._columns("cells")
        step = self.rules.composition.side_shape[1]
        table = values_of_counts(columns.largest, out.dtype)
        # The compiled loop does not support float16, so it moves the bits as uint16.
        view = out.view(np.uint16) if out.dtype == np.float16 else out
        scatter(
            view,
            columns["cell"],
            columns["count"],
            *self._spans(columns, samples),
            step,
            table.view(view.dtype),
        )
        return in_dtype(to_tensor(out.reshape(len(samples), *self.frame_shape)), dtype)

    def empty_frames(self, n: int, dtype: torch.dtype | None = None) -> np.ndarray:
        """Return memory for frames, without any contents: [n, T * P * H * W].

        Args:
            n: Number of samples.
            dtype: As for `frames`.
        """
        return np.empty((n, prod(self.frame_shape)), numpy_dtype(dtype))

    def merged_bins(self, bins: int | None) -> int:
        """Return how many of the T time bins become one if `bins` are wanted.

        Args:
            bins: Number of time bins; None for T.

        Raises:
            UsageError: `bins` is no divisor of T.
        """
        T = self.frame_shape[0]
        if bins is None:
            return 1
        bins = whole_number("bins", bins, least=1)
        if T % bins:
            raise UsageError(
                f"bins={shown(bins)} does not divide the {T} time bins; give a divisor"
            )
        return T // bins

    def _stack_merged(
        self, samples: Sequence[Sequence[int]], dtype: torch.dtype | None, merged: int
    ) -> torch.Tensor:
        """Return samples as event counts, with `merged` time bins in one."""
        T, *grid = self.frame_shape
        columns = self._columns("cells")
        total = np.zeros((len(samples), T // merged * prod(grid)), np.int64)
        merge_bins(
            total,
            columns["cell"],
            columns["count"],
            *self._spans(columns, samples),
            self.rules.composition.side_shape[1],
            prod(grid),
            merged,
        )
        number = numpy_dtype(dtype)
        out = np.minimum(total, largest_value(number)).astype(number)
        return in_dtype(to_tensor(out.reshape(len(samples), T // merged, *grid)), dtype)

    def stack_sums(
        self, samples: Sequence[Sequence[int]], dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """Return samples as event counts over the window, without building the time axis.

        Args:
            samples: [n, sides] archive indices.
            dtype: As for `frames`.

        Returns:
            [n, P, H, W] in new memory.

        Raises:
            UsageError: The dtype is unknown.
        """
        grid = self.frame_shape[1:]
        columns = self._columns("cells")
        total = np.zeros((len(samples), prod(grid)), np.int64)
        step = self.rules.composition.side_shape[1]
        accumulate(total, columns["cell"], columns["count"], *self._spans(columns, samples), step)
        number = numpy_dtype(dtype)
        out = np.minimum(total, largest_value(number)).astype(number)
        return in_dtype(to_tensor(out.reshape(len(samples), *grid)), dtype)

    def stack_on(
        self,
        device: torch.device,
        samples: Sequence[Sequence[int]],
        dtype: torch.dtype | None = None,
        *,
        bins: int | None = None,
        summed: bool = False,
        extra: np.ndarray | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return samples as event counts that a device fills; the first call copies the recordings.

        Args:
            device: The device; a GPU with its index.
            samples: [n, sides] archive indices.
            dtype: As for `frames`.
            bins: As for `stack_frames`; not with `summed`.
            summed: Whether to sum over time, as `stack_sums` does.
            extra: [m] int64 that travels to the device along with the indices.

        Returns:
            [n, T, P, H, W], or [n, P, H, W] if summed, equal to those of `stack_frames` or
            `stack_sums`; and `extra` on the device.

        Raises:
            UsageError: The dtype is unknown, `bins` is no divisor of T, or the device's memory is
                too small for the recordings.
        """
        stacked = None if extra is None else extra[None]
        (job,) = self.send_to(device, [samples], bins=bins, summed=summed, extra=stacked)
        return self.fill_on(device, job, dtype, bins=bins, summed=summed)

    def send_to(
        self,
        device: torch.device,
        stacks: Sequence[Sequence[Sequence[int]]],
        *,
        bins: int | None = None,
        summed: bool = False,
        extra: np.ndarray | None = None,
    ) -> list[Job]:
        """Send the places of samples to a device, all in one copy; see `stack_on`.

        Args:
            device: As for `stack_on`.
            stacks: [stacks, n, sides] archive indices.
            bins: As for `stack_on`.
            summed: As for `stack_on`.
            extra: [stacks, m] int64 to send with them.

        Returns:
            What `fill_on` takes, for each stack.
        """
        samples = [sample for stack in stacks for sample in stack]
        shape = len(stacks), len(samples) // len(stacks), self.rules.composition.arity
        spans = self._spans(self._columns("cells"), samples)
        first, last = (each.reshape(shape) for each in spans)
        return self._counts_on(device).send(first, last, self._form(bins, summed), extra)

    def fill_on(
        self,
        device: torch.device,
        job: Job,
        dtype: torch.dtype | None = None,
        *,
        bins: int | None = None,
        summed: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a stack of samples that `send_to` sent; arguments and results as of `stack_on`.

        Args:
            device: As for `send_to`.
            job: From `send_to`.
            dtype: As for `stack_on`.
            bins: As for `send_to`.
            summed: As for `send_to`.
        """
        numpy_dtype(dtype)  # raises for an unknown one
        return self._counts_on(device).fill(job, self._form(bins, summed), dtype)

    def _form(self, bins: int | None, summed: bool) -> Form:
        """Return how recordings become samples on a device."""
        from metaevents.device_frames import Form

        step = self.rules.composition.side_shape[1]
        return Form(self.frame_shape, step, self.merged_bins(bins), summed)

    def _counts_on(self, device: torch.device) -> DeviceCounts:
        """Return the recordings on a device; the first call copies them."""
        counts = self._on_device.get(device)
        if counts is None:
            from metaevents.device_frames import device_counts

            counts = device_counts(self.fingerprint, self._columns("cells"), device)
            self._on_device[device] = counts
        return counts

    def sample_events(self, recordings: Sequence[int], downsampled: bool = True) -> Events:
        """Return one sample as events.

        Args:
            recordings: Archive indices, one per side.
            downsampled: As for `events`.

        Returns:
            [N] structured array, as for `events`.
        """
        composition = self.rules.composition
        sides = [self._recording_events(index) for index in recordings]
        width = composition.crop[0]
        if downsampled:
            width //= composition.downsample
            for side in sides:
                side["x"] //= composition.downsample
                side["y"] //= composition.downsample
        return side_by_side(sides, width)

    def _recording_events(self, index: int) -> Events:
        """Return the cropped events of one recording, at sensor resolution."""
        columns = self._columns("events")
        part = slice(columns.offset[index], columns.offset[index + 1])
        events = np.empty(part.stop - part.start, EVENT_DTYPE)
        for name in ("x", "y", "t", "p"):
            events[name] = columns[name][part]
        return events

    def _spans(
        self, columns: cache.Columns, samples: Sequence[Sequence[int]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return where the entries of samples begin and end, each [n, sides] int64."""
        arity = self.rules.composition.arity
        if not len(samples):
            return np.zeros((0, arity), np.int64), np.zeros((0, arity), np.int64)
        if set(map(len, samples)) != {arity}:  # the compiled loops check nothing
            raise UsageError(f"a sample of {self.name} has {arity} recordings; give one per side")
        return columns.spans(samples)

    def _columns(self, kind: str) -> cache.Columns:
        """Return the decoded recordings, "cells" or "events"; the first call decodes or maps them.

        `functools.cached_property` has a lock before Python 3.12, which would stay locked for ever
        in a process that is forked meanwhile.
        """
        columns = self._decoded.get(kind)
        if columns is None:
            open_columns = cache.events if kind == "events" else cache.cells
            columns = open_columns(self.archive, self.rules.composition, self.fingerprint)
            self._decoded[kind] = columns
        return columns

    def prepare(
        self,
        representation: str = "frames",
        dtype: torch.dtype | None = None,
        bins: int | None = None,
    ) -> None:
        """Decode the archive into the cache and load compiled code; otherwise the first use does.

        Processes that are forked afterwards need not do it again.

        Args:
            representation: What will be used: "frames", "sum" or "events".
            dtype: The dtype that will be used, as for `frames`.
            bins: The number of time bins that will be used, as for `stack_frames`.
        """
        if representation == "events":
            self._columns("events")
            return
        self._columns("cells")
        if not len(self.archive):
            return
        samples = [(0,) * self.rules.composition.arity]
        if representation == "sum":
            self.stack_sums(samples, dtype)
        else:
            self.stack_frames(samples, dtype, bins)

    def __getstate__(self) -> dict[str, Any]:
        # Memory maps are left out: another process opens them again.
        return {**vars(self), "_decoded": {}, "_on_device": {}}

    def as_classification(
        self,
        pairs_per_class: int,
        seed: int,
        dtype: torch.dtype | None = None,
        *,
        bins: int | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> ClassificationDataset:
        """Return the split as supervised data, with equally many different samples per class.

        Args:
            pairs_per_class: Samples per class; item i belongs to class i // pairs_per_class.
            seed: Selects the samples; the same seed gives the same samples on every platform.
            dtype: As for `frames`.
            bins: As for `stack_frames`.
            transform: Applied to the frames of every item.
            target_transform: Applied to the class index of every item.

        Returns:
            A map-style torch dataset of (frames [T, P, H, W], class index).

        Raises:
            UsageError: A class has fewer different samples, a number is no whole number or out of
                range, the dtype is unknown, or a transform cannot be called.
        """
        from metaevents.classification import ClassificationDataset

        pairs_per_class = whole_number(
            "pairs_per_class", pairs_per_class, least=1, most=MAX_EPISODES
        )
        seed = whole_number("seed", seed, least=0, most=MAX_SEED)
        numpy_dtype(dtype)  # raises for an unknown one
        self.merged_bins(bins)  # raises for a number that does not divide T
        streams = Streams(
            [
                "classification",
                self.fingerprint,
                self.split,
                self.pairing,
                self.class_split,
                pairs_per_class,
                seed,
            ]
        )
        draw = published_samples if self.pairing == "published" else different_samples
        samples: list[Sample] = []
        for index, name in enumerate(self.classes):
            samples += draw(self, name, streams(index), pairs_per_class)
        return ClassificationDataset(
            self, samples, pairs_per_class, dtype, bins, transform, target_transform
        )


def _require_fingerprint(dataset: ComposedDataset) -> None:
    """Check that an archive states the fingerprint that its contents and its rules give."""
    archive = dataset.archive
    if dataset.fingerprint != archive.fingerprint:
        raise ArchiveError(
            f"{archive.path} has the fingerprint {archive.fingerprint[:16]}..., its contents and "
            f"rules give {dataset.fingerprint[:16]}...; build it again"
        )


class _BuiltIn(ComposedDataset):
    """A dataset whose rules are in a package file; `dataset` is its name."""

    dataset: str

    def __init__(
        self,
        root: PathLike,
        split: str = "train",
        *,
        pairing: str = "all",
        classes: str = "published",
        download: bool = False,
    ) -> None:
        archive = open_archive(self.dataset, root, download=download)
        super().__init__(archive, required_rules(archive), split, pairing, classes)
        _require_fingerprint(self)


class DoubleNMNIST(_BuiltIn):
    """Double N-MNIST: 100 classes of two digits side by side, frames (100, 2, 16, 32).

    Args:
        root: The folder that holds double-nmnist.h5, or the path of such a file.
        split: "train" (64 classes), "val" (16) or "test" (20); 16, 9 and 9 with novel components.
        pairing: "all" is the benchmark; "published" reproduces the published loader's pairing with
            its leaks.
        classes: The class split: "published", or "novel-components", whose test digits never occur
            in training. "novel-components-2" to "novel-components-10" are further deals of the
            digits. (The attribute `classes` lists the names of the split's classes instead.)
        download: Fetch the recordings and build the archive if it is missing.

    Raises:
        MissingError: There is no archive and `download` is False; the message names the two
            commands that make it.
        ArchiveError: The file is not a complete archive of this dataset.
        UsageError: The split, pairing or class split does not exist.

    Example:
        dataset = DoubleNMNIST("data", split="test")
        frames = dataset.frames(dataset.classes[0], 0, 0)
    """

    dataset = "double-nmnist"


class DoubleASLDVS(_BuiltIn):
    """Double ASL-DVS: 576 classes of two sign-language letters, frames (100, 2, 30, 80).

    Arguments and errors are those of `DoubleNMNIST`. The splits have 369, 92 and 115 classes; 169,
    25 and 36 with novel components, in every deal of the letters.
    """

    dataset = "double-asl-dvs"


class NOmniglot(_BuiltIn):
    """N-Omniglot: 1,623 handwritten characters, one per sample, frames (120, 2, 25, 25).

    Arguments and errors are those of `DoubleNMNIST`. The splits have 776, 188 and 659 classes of
    different alphabets; 24, 6 and 20 in simulated archives. There is one class split, "published",
    and one pairing, "all".
    """

    dataset = "n-omniglot"


BUILT_IN: Mapping[str, type[_BuiltIn]] = {
    cls.dataset: cls for cls in (DoubleNMNIST, DoubleASLDVS, NOmniglot)
}
"""The built-in datasets by name."""


def load(
    name: str,
    root: PathLike,
    split: str = "train",
    *,
    pairing: str = "all",
    classes: str = "published",
    download: bool = False,
) -> ComposedDataset:
    """Return a dataset by its name.

    Args:
        name: "double-nmnist", "double-asl-dvs" or "n-omniglot", or the name of a dataset of the
            user's own, whose archive `metaevents build --rules` or `compose` wrote.
        root: The folder that holds `<name>.h5`, or the path of an archive.
        split: "train", "val" or "test".
        pairing: As for `DoubleNMNIST`; the user's own datasets have "all" alone.
        classes: The class split, as for `DoubleNMNIST`; the user's own datasets have "published"
            alone, which is the one of their rules.
        download: Fetch the recordings of a built-in dataset and build the archive if it is missing.

    Raises:
        UsageError: There is no dataset of that name, or no such split, pairing or class split.
        MissingError: As for `DoubleNMNIST`, or the archive has another name; the message has it.
        ArchiveError: As for `DoubleNMNIST`, or the archive keeps no rules.
    """
    if isinstance(name, str) and name in BUILT_IN:
        return BUILT_IN[name](root, split, pairing=pairing, classes=classes, download=download)
    archive = open_archive(name, root)
    dataset = ComposedDataset(archive, required_rules(archive), split, pairing, classes)
    _require_fingerprint(dataset)
    return dataset


def archive_dataset(path: PathLike) -> str:
    """Return the name of the dataset of an archive.

    Args:
        path: An archive, or a folder that holds the archive of one built-in dataset, `<name>.h5`,
            or one archive of a dataset of the user's own.

    Raises:
        UsageError: The folder holds no such archive, or several.
        MissingError: There is no such file.
        ArchiveError: The file is no archive.
    """
    path = user_path(path)
    if not path.is_dir():
        return Archive(path).dataset
    names = [name for name in BUILT_IN if (path / f"{name}.h5").is_file()]
    if not names:
        names = [file.stem for file in sorted(path.glob("*.h5")) if file.is_file()]
    if not names:
        raise UsageError(
            f"{path} holds no archive, expected one file <name>.h5; give the archive file, or "
            "build one with `metaevents build`"
        )
    if len(names) > 1:
        listed = ", ".join(f"{name}.h5" for name in names[:5]) + (", ..." if names[5:] else "")
        raise UsageError(
            f"{path} holds {len(names)} archives ({listed}), expected one; give the archive file, "
            "or name the dataset"
        )
    return names[0] if names[0] in BUILT_IN else Archive(path / f"{names[0]}.h5").dataset
