"""Datasets of the package tonic as map-style datasets of (events, label) pairs, without a download.

Tonic downloads a dataset when it finds no files, and lists files in the order of the file system.
Here nothing is downloaded, and recordings are in natural order of their paths.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from metaevents.errors import MetaeventsError, MissingError, RecordingError, UsageError
from metaevents.files import PathLike, user_path
from metaevents.sources.folders import natural_key
from metaevents.untrusted import describe

_PARTS = {"Train": True, "Test": False}
"""Official folder -> value of tonic's argument `train`."""


class TonicDataset:
    """A dataset of tonic in a folder: both of its official parts, if it has them.

    Args:
        kind: Name of a class of `tonic.datasets`, such as "NCALTECH101".
        root: The folder that was given to tonic as `save_to`.

    Attributes:
        kind: Name of the class.
        targets: The label of every recording.
        folders: The official part of every recording, "Train" or "Test"; "" if there are none.
        names: The file name of every recording without its ending; None if tonic has several
            recordings per file.
        sensor_size: (width, height, ...) in pixels; None if tonic states none.
        complete: Whether tonic finds all files.

    Raises:
        UsageError: Tonic is not installed or has no such dataset, or it is no dataset of labeled
            recordings.
        MissingError: The folder has no files of it.
        RecordingError: Tonic cannot read the folder.
    """

    def __init__(self, kind: str, root: PathLike) -> None:
        self.kind, self._root = kind, user_path(root).absolute()
        dataset_class = _find_class(kind)
        has_parts = "train" in inspect.signature(dataset_class.__init__).parameters
        parts: dict[str, bool | None] = {**_PARTS} if has_parts else {"": None}
        opened = [self._open(dataset_class, train) for train in parts.values()]
        self._parts = [dataset for dataset, _ in opened]
        self.complete = all(complete for _, complete in opened)
        self.sensor_size = getattr(self._parts[0], "sensor_size", None)
        self._places: list[tuple[int, int]] = []
        self.targets: list[str] = []
        self.folders: list[str] = []
        paths: list[str] = []
        for number, (folder, dataset) in enumerate(zip(parts, self._parts, strict=True)):
            files = self._files(dataset)
            order = list(range(len(dataset)))
            if files is not None:
                order.sort(key=lambda index: natural_key(files[index]))
                paths += [files[index] for index in order]
            names = _class_names(dataset)
            labels = self._labels(dataset)
            self._places += [(number, index) for index in order]
            self.targets += [_label(labels[index], names) for index in order]
            self.folders += [folder] * len(order)
        self.names = _unique_names(paths, self.folders, self.targets)
        if not self._places:
            raise MissingError(self._advice("no recording of"))

    def _open(self, dataset_class: Any, train: bool | None) -> tuple[Any, bool]:
        """Return one part of the dataset, and whether tonic finds all of its files."""

        class Offline(dataset_class):  # type: ignore[misc]
            def _check_exists(self) -> bool:
                return True

        Offline.__name__ = dataset_class.__name__  # tonic names the folder after it
        arguments = {} if train is None else {"train": train}
        try:
            dataset = Offline(str(self._root), **arguments)
            dataset.__class__ = dataset_class  # so that it can be sent to reading processes
            return dataset, bool(dataset._check_exists())
        except MetaeventsError:
            raise
        except FileNotFoundError as error:
            raise MissingError(self._advice("no files of")) from error
        except Exception as error:  # whatever tonic's classes raise
            raise RecordingError(
                f"tonic cannot open {self.kind} in {self._root} ({describe(error)}); check the "
                "folder, or download it again"
            ) from error

    def _advice(self, what: str) -> str:
        return (
            f"{what} tonic's {self.kind} in {self._root}; download it with `python -c \"import "
            f"tonic; tonic.datasets.{self.kind}('{self._root}')\"`, and give that folder"
        )

    def _files(self, dataset: Any) -> list[str] | None:
        """Return the path of every recording, relative to the folder; None if it has none."""
        data = getattr(dataset, "data", None)
        if not isinstance(data, list) or len(data) != len(dataset):
            return None
        if not all(isinstance(path, (str, Path)) for path in data):
            return None
        root = self._root
        paths = [Path(path) for path in data]
        return [
            (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
            for path in paths
        ]

    def _labels(self, dataset: Any) -> list[Any]:
        """Return tonic's label of every recording, read from the recordings if need be."""
        targets = getattr(dataset, "targets", None)
        if isinstance(targets, list) and len(targets) == len(dataset):
            return targets
        return [self._item(dataset, index)[1] for index in range(len(dataset))]

    def _item(self, dataset: Any, index: int) -> Any:
        """Return one element of a dataset of tonic."""
        try:
            return dataset[index]
        except Exception as error:  # whatever tonic's readers raise on a damaged file
            files = self._files(dataset)
            name = f"recording {index} of {self.kind}" if files is None else files[index]
            raise RecordingError(
                f"tonic cannot read {name} in {self._root} ({describe(error)}); download it again"
            ) from error

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[Any, str]:
        """Return events and label of a recording."""
        number, place = self._places[index]
        item = self._item(self._parts[number], place)
        if not isinstance(item, (tuple, list)) or len(item) < 2:
            raise UsageError(
                f"tonic's {self.kind} gives no (events, label) pairs; choose a dataset of labeled "
                "recordings"
            )
        return item[0], self.targets[index]


def _find_class(kind: str) -> Any:
    """Return a class of `tonic.datasets`."""
    try:
        import tonic.dataset
        import tonic.datasets
    except ImportError as error:
        raise UsageError(
            f"the kind tonic:{kind} needs the package tonic ({describe(error)}); run "
            "`pip install 'metaevents[tonic]'` and repeat the command"
        ) from error
    known = {
        name: value
        for name, value in vars(tonic.datasets).items()
        if inspect.isclass(value) and issubclass(value, tonic.dataset.Dataset)
    }
    if kind not in known:
        raise UsageError(f"tonic has no dataset {kind!r}; choose one of {', '.join(sorted(known))}")
    return known[kind]


def _class_names(dataset: Any) -> dict[Any, str]:
    """Return label of tonic -> name, if tonic has names of its classes."""
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, dict):
        return {value: str(name) for name, value in classes.items()}
    if isinstance(classes, (list, tuple)):
        return {index: str(name) for index, name in enumerate(classes)}
    return {}


def _label(target: Any, names: dict[Any, str]) -> str:
    """Return the label of a recording as text."""
    try:
        return names.get(target, str(target))
    except TypeError:  # it cannot be looked up
        return str(target)


def _unique_names(paths: list[str], folders: list[str], targets: list[str]) -> list[str] | None:
    """Return the file names without endings, if they are unique in their labels and folders."""
    if len(paths) != len(targets) or not paths:
        return None
    names = [Path(path).stem for path in paths]
    unique = len(set(zip(folders, targets, names, strict=True))) == len(names)
    return names if unique else None
