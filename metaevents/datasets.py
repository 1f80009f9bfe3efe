"""Composed datasets: recordings side by side, their classes, partitions and pairings, as dense frames or events.

`DoubleNMNIST` and `DoubleASLDVS` are the benchmark; `compose` makes the like of any labeled source, at any arity. Drawing
episodes is left to `metaevents.episodes`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from metaevents import cache
from metaevents.archive.reader import Archive
from metaevents.building import archive_path, build_archive, open_source
from metaevents.errors import ArchiveError, MissingError, UsageError
from metaevents.events import EVENT_DTYPE, Events, side_by_side
from metaevents.files import PathLike
from metaevents.frames import accumulate, largest_value, numpy_dtype, scatter, values_of_counts
from metaevents.rng import Streams
from metaevents.sampling import different_samples, published_samples
from metaevents.specs import PAIRINGS, DatasetRules, class_name, get_spec

if TYPE_CHECKING:
    import torch

ClassRef: TypeAlias = str | int


class ComposedDataset:
    """The classes of one split, each a tuple of component labels, with all samples that their recordings make.

    Made by `DoubleNMNIST`, `DoubleASLDVS`, `load` and `compose`.

    Attributes:
        archive: the recordings.
        protocol: geometry, splits, partitions, pairings.
        split: "train", "val" or "test".
        pairing: "all" (any left with any right) or "published" (the published loader's index arithmetic).
        class_split: "published", "novel-components", or a name of the user's own.
        classes: names of the split's classes, sorted.
        components: class name -> component labels, left to right.
        labels: the component labels that the split's classes use.
        frame_shape: (T, P, H, W).
        fingerprint: hex SHA-256 over recording contents, partition, splits and protocol version.
        min_gap: least distance in file numbers between support and query of a class on a side.
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
        if class_split not in rules.splits:
            raise UsageError(f"classes={class_split!r}; choose one of {', '.join(rules.splits)}")
        if split not in rules.splits[class_split]:
            raise UsageError(
                f"split={split!r}; choose one of {', '.join(rules.splits[class_split])}"
            )
        if pairing not in PAIRINGS:
            raise UsageError(f"pairing={pairing!r}; choose one of {', '.join(PAIRINGS)}")
        if pairing not in rules.pools:
            raise UsageError(f"{rules.name} has no published pairing; use pairing='all'")
        if archive.labels != rules.labels:
            raise ArchiveError(
                f"{archive.path} has the labels {archive.labels}, {rules.name} needs {rules.labels}"
            )
        if archive.window_us < rules.composition.window_us:
            raise ArchiveError(
                f"{archive.path} keeps {archive.window_us} us a recording, {rules.name} needs "
                f"{rules.composition.window_us}; build it again with a longer window"
            )
        self.archive = archive
        self.rules = rules
        self.split = split
        self.pairing = pairing
        self.class_split = class_split
        named = {
            class_name(components): components for components in rules.splits[class_split][split]
        }
        self.classes: tuple[str, ...] = tuple(sorted(named))
        self.components = {name: named[name] for name in self.classes}
        self.fingerprint = rules.fingerprint(archive.contents)
        partitions = rules.pools[pairing][split]
        used = {label for components in named.values() for label in components}
        self.labels = tuple(label for label in rules.labels if label in used)
        self._pools = {label: archive.select(label, partitions) for label in self.labels}

    @property
    def name(self) -> str:
        return self.rules.name

    @property
    def frame_shape(self) -> tuple[int, int, int, int]:
        return self.rules.composition.frame_shape

    @property
    def min_gap(self) -> int:
        return self.rules.min_gap

    @property
    def simulated(self) -> bool:
        """Whether the recordings are simulated; nothing made of such ones enters the leaderboard."""
        return self.archive.simulated

    def __len__(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def __repr__(self) -> str:
        return (
            f"<{self.name} {self.split}: {len(self)} classes ({self.class_split}), pairing {self.pairing}, "
            f"{self.archive.source}, frames {self.frame_shape}>"
        )

    def resolve(self, c: ClassRef) -> str:
        """The name of a class given by its name or its index in `classes`.

        Raises:
            UsageError: no such class in this split.
        """
        if isinstance(c, str):
            if c in self.components:
                return c
        else:
            try:
                return self.classes[operator.index(c)]
            except (IndexError, TypeError):
                pass
        raise UsageError(
            f"no class {c!r} among the {len(self)} of the {self.split} split; give a name such as {self.classes[0]!r} "
            f"or an index from 0 to {len(self) - 1}"
        )

    def pool(self, label: str) -> np.ndarray:
        """Archive indices of the recordings that a component label draws from here, in order of id; [k] int64."""
        return self._pools[label]

    def n_recordings(self, c: ClassRef) -> tuple[int, ...]:
        """Recordings available to a class on each side, left to right."""
        return tuple(len(self._pools[label]) for label in self.components[self.resolve(c)])

    def recording_ids(self, c: ClassRef) -> tuple[tuple[str, ...], ...]:
        """Ids of a class's recordings on each side, left to right, each in order: "Train/3/00012", "a/a_0001"."""
        ids = self.archive.ids
        return tuple(
            tuple(ids[i] for i in self._pools[label]) for label in self.components[self.resolve(c)]
        )

    def frames(self, c: ClassRef, *sides: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """One composed sample as event counts.

        Args:
            c: class name or index.
            sides: for each side, left to right, the place of the recording in `recording_ids(c)`.
            dtype: float32 by default; uint8 saturates at 255, float16 at 65,504.

        Returns:
            [T, P, H, W] dense tensor of event counts; P = 0 is OFF, 1 is ON.

        Raises:
            UsageError: no such class or recording.
        """
        return self.stack_frames([self._recordings(c, sides)], dtype=dtype)[0]

    def events(self, c: ClassRef, *sides: int, downsampled: bool = True) -> Events:
        """One composed sample as events, sorted by t (microseconds from the start of the recordings).

        Args:
            c, sides: as for `frames`.
            downsampled: on the grid of `frames`; False keeps the pixels of the crop (64 x 32, 480 x 180).

        Returns:
            [N] structured array (x, y, t, p) of `metaevents.events.EVENT_DTYPE`.
        """
        return self.sample_events(self._recordings(c, sides), downsampled=downsampled)

    def _recordings(self, c: ClassRef, sides: Sequence[int]) -> tuple[int, ...]:
        name = self.resolve(c)
        components = self.components[name]
        if len(sides) != len(components):
            raise UsageError(
                f"class {name!r} has {len(components)} sides, got {len(sides)} indices; give one a side"
            )
        chosen = []
        for side, (label, place) in enumerate(zip(components, sides, strict=True)):
            pool = self._pools[label]
            if not 0 <= operator.index(place) < len(pool):
                raise UsageError(
                    f"class {name!r} has {len(pool)} recordings on side {side}, got index {place}; "
                    f"give one from 0 to {len(pool) - 1}"
                    if len(pool)
                    else f"{self.archive.path} has no recording of {label!r} for the {self.split} split of {self.name}"
                )
            chosen.append(int(pool[place]))
        return tuple(chosen)

    # What episodes are made of: samples given by archive indices, one a side.

    def name_samples(self, samples: Iterable[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
        """The recording ids of samples, left to right."""
        ids = self.archive.ids
        return tuple([tuple([ids[i] for i in sample]) for sample in samples])

    def stack_frames(
        self, samples: Sequence[Sequence[int]], dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """Samples as event counts; see `frames`.

        Args:
            samples: for each sample the archive index of every side's recording.

        Returns:
            [n, T, P, H, W] in memory of its own.
        """
        import torch

        out = np.empty((len(samples), prod(self.frame_shape)), numpy_dtype(dtype))
        columns = self._cells
        step = self.rules.composition.side_shape[1]
        table = values_of_counts(columns.largest, out.dtype)
        # The kernel knows no float16; it moves the bits.
        view = out.view(np.uint16) if out.dtype == np.float16 else out
        scatter(
            view,
            columns["cell"],
            columns["count"],
            *columns.spans(samples),
            step,
            table.view(view.dtype),
        )
        return torch.from_numpy(out.reshape(len(samples), *self.frame_shape))

    def stack_sums(
        self, samples: Sequence[Sequence[int]], dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """Samples as counts summed over the window, without building the time axis; [n, P, H, W]."""
        import torch

        grid = self.frame_shape[1:]
        columns = self._cells
        total = np.zeros((len(samples), prod(grid)), np.int64)
        step = self.rules.composition.side_shape[1]
        accumulate(total, columns["cell"], columns["count"], *columns.spans(samples), step)
        out = np.minimum(total, largest_value(numpy_dtype(dtype))).astype(numpy_dtype(dtype))
        return torch.from_numpy(out.reshape(len(samples), *grid))

    def sample_events(self, recordings: Sequence[int], downsampled: bool = True) -> Events:
        """One sample as events; see `events`. `recordings` are archive indices, one a side."""
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
        columns = self._events
        part = slice(columns.offset[index], columns.offset[index + 1])
        events = np.empty(part.stop - part.start, EVENT_DTYPE)
        for name in ("x", "y", "t", "p"):
            events[name] = columns[name][part]
        return events

    @cached_property
    def _cells(self) -> cache.Columns:
        return cache.cells(self.archive, self.rules.composition, self.fingerprint)

    @cached_property
    def _events(self) -> cache.Columns:
        return cache.events(self.archive, self.rules.composition, self.fingerprint)

    def prepare(self, representation: str = "frames", progress: bool | None = None) -> None:
        """Decode the archive now, so that no worker has to; the first use does it otherwise."""
        _ = self._events if representation == "events" else self._cells

    def __getstate__(self) -> dict[str, Any]:
        # A mapping does not travel to another process; it is opened there anew.
        return {
            name: value for name, value in vars(self).items() if name not in ("_cells", "_events")
        }

    def as_classification(
        self, pairs_per_class: int, seed: int, dtype: torch.dtype | None = None
    ) -> ClassificationDataset:
        """The split as ordinary supervised data: the same number of different samples a class, drawn once.

        Args:
            pairs_per_class: samples a class; item i belongs to class i // pairs_per_class.
            seed: draws the pairs; the same seed gives the same pairs everywhere.

        Returns:
            A map-style torch dataset of (frames [T, P, H, W], class index int), with `samples`, the ids of every item.

        Raises:
            UsageError: a class has fewer different pairs.
        """
        return _classification(self, pairs_per_class, seed, dtype)


class DoubleDataset(ComposedDataset):
    """A composed dataset of two recordings a sample, left and right."""

    def frames(  # type: ignore[override]
        self, c: ClassRef, left: int, right: int, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """One composed sample as event counts [T, P, H, W]; see `ComposedDataset.frames`."""
        return super().frames(c, left, right, dtype=dtype)

    def events(  # type: ignore[override]
        self, c: ClassRef, left: int, right: int, downsampled: bool = True
    ) -> Events:
        """One composed sample as events, sorted by t (microseconds); see `ComposedDataset.events`."""
        return super().events(c, left, right, downsampled=downsampled)


class _BuiltIn(DoubleDataset):
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
        spec = get_spec(self.dataset, archive.protocol_version)
        rules = spec.rules(simulated=archive.simulated)
        super().__init__(archive, rules, split, pairing, classes)
        if self.fingerprint != archive.fingerprint:
            raise ArchiveError(
                f"{archive.path} has the fingerprint {archive.fingerprint[:16]}..., its contents and protocol "
                f"{rules.version} give {self.fingerprint[:16]}...; build it again"
            )


class DoubleNMNIST(_BuiltIn):
    """Double N-MNIST: 100 classes of two digits side by side, frames (100, 2, 16, 32).

    Args:
        root: the folder that holds double-nmnist.h5, or the path of such a file.
        split: "train" (64 classes), "val" (16) or "test" (20); 16, 9 and 9 with novel components.
        pairing: "all" is the benchmark; "published" reproduces the published loader's pairing with its leaks.
        classes: "published", or "novel-components": test digits that training never saw.
        download: fetch the recordings and build the archive where it is missing.

    Raises:
        MissingError: no archive, and `download` is not given; names the two commands that make it.
        ArchiveError: a file that is no whole archive of this dataset.
        UsageError: a split, pairing or class split that does not exist.
    """

    dataset = "double-nmnist"


class DoubleASLDVS(_BuiltIn):
    """Double ASL-DVS: 576 classes of two sign-language letters side by side, frames (100, 2, 30, 80).

    Parameters and errors as for `DoubleNMNIST`; 369, 92 and 115 classes, 169, 25 and 36 with novel components.
    """

    dataset = "double-asl-dvs"


BUILT_IN: Mapping[str, type[_BuiltIn]] = {cls.dataset: cls for cls in (DoubleNMNIST, DoubleASLDVS)}


def load(
    name: str,
    root: PathLike,
    split: str = "train",
    *,
    pairing: str = "all",
    classes: str = "published",
    download: bool = False,
) -> DoubleDataset:
    """A built-in dataset by its name, "double-nmnist" or "double-asl-dvs"; options as for `DoubleNMNIST`.

    Raises:
        UsageError: no dataset of that name.
    """
    return BUILT_IN[get_spec(name).name](
        root, split, pairing=pairing, classes=classes, download=download
    )


def open_archive(name: str, root: PathLike, *, download: bool = False) -> Archive:
    """The archive of a built-in dataset, made first where it is missing and `download` is given."""
    spec = get_spec(name)
    path = archive_path(name, root)
    if not path.exists():
        folder = path.parent
        if not download:
            raise MissingError(
                f"no archive {path}; make it with `metaevents download {spec.recordings['folder']} --root {folder}` and "
                f"`metaevents build {name} --root {folder}`, or pass download=True"
            )
        from metaevents.download import fetch_recordings

        build_archive(name, path, open_source(name, fetch_recordings(spec.recordings, folder)))
    archive = Archive(path)
    if archive.dataset != name:
        raise ArchiveError(
            f"{path} is an archive of {archive.dataset}, expected {name}; give the other file"
        )
    return archive


def _classification(
    dataset: ComposedDataset, pairs_per_class: int, seed: int, dtype: torch.dtype | None
) -> ClassificationDataset:
    if pairs_per_class < 1:
        raise UsageError(f"pairs_per_class={pairs_per_class}; give at least 1")
    key = [
        "classification",
        dataset.fingerprint,
        dataset.split,
        dataset.pairing,
        dataset.class_split,
        pairs_per_class,
        seed,
    ]
    streams = Streams(key)
    samples: list[tuple[int, ...]] = []
    for index, name in enumerate(dataset.classes):
        draws = streams(index)
        if dataset.pairing == "published":
            samples += published_samples(dataset, name, draws, pairs_per_class)
        else:
            samples += different_samples(dataset, name, draws, pairs_per_class)
    return ClassificationDataset(dataset, samples, pairs_per_class, dtype)


class ClassificationDataset:
    """A split as supervised data; a map-style torch dataset of (frames [T, P, H, W], class index).

    Attributes:
        classes: class names; an item's label is an index into them.
        samples: the archive indices of every item's recordings, one a side.
    """

    def __init__(
        self,
        dataset: ComposedDataset,
        samples: Sequence[tuple[int, ...]],
        pairs_per_class: int,
        dtype: torch.dtype | None,
    ) -> None:
        self.dataset = dataset
        self.classes = dataset.classes
        self.samples = samples
        self._pairs_per_class = pairs_per_class
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        index = range(len(self))[index]
        return self.dataset.stack_frames([self.samples[index]], dtype=self._dtype)[
            0
        ], index // self._pairs_per_class

    def ids(self, index: int) -> tuple[str, ...]:
        """The recording ids of an item, left to right."""
        return self.dataset.name_samples([self.samples[index]])[0]
