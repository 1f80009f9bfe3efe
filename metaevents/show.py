"""Pictures of composed samples: a contact sheet (PNG) or an animation (GIF), ON and OFF in two colors.

Drawn with Pillow alone; figures of results are left to `baselines`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaevents.archive.reader import Archive
from metaevents.composition import compose
from metaevents.datasets import BUILT_IN, ComposedDataset, DoubleDataset
from metaevents.errors import UsageError
from metaevents.events import downsample, rasterize
from metaevents.rng import Streams
from metaevents.specs import PARTITIONS, get_spec

if TYPE_CHECKING:
    from PIL import Image

_ON = np.array([205, 50, 55], np.float32)

_OFF = np.array([30, 95, 175], np.float32)

_PAPER = np.array([255, 255, 255], np.float32)

_INK, _GRAY, _LINE = (32, 32, 36), (110, 110, 118), (216, 216, 222)

_STRIP = 10  # pictures in a strip, each a tenth of the window

_GIF_BINS = 25

_GIF_MS = 80  # milliseconds that an animation shows a bin

_DEFAULT_CLASSES = 6

_MARGIN = 16


def show(
    archive: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    split: str | None = None,
    seed: int = 0,
) -> Path:
    """Draw composed samples of an archive, one a class.

    Args:
        out: a .png gets a contact sheet: every sample summed over the window, and as a strip of ten frames; a .gif gets the
            samples as an animation, slowed down.
        classes: class names; six spread over the splits by default.
        split: take classes and recordings of this split alone.
        seed: chooses the recordings.

    Raises:
        UsageError: an unknown class, or another kind of file.
    """
    path = Path(out).expanduser()
    draw = {".png": _contact_sheet, ".gif": _animation}.get(path.suffix.lower())
    if draw is None:
        raise UsageError(
            f"{path}: cannot draw a {path.suffix or 'file without ending'}; name a .png or a .gif"
        )
    samples = _choose(Archive(archive), classes, split, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(samples, path)
    return path


class _Sample:
    """One composed sample on the grid on which it is drawn."""

    def __init__(self, dataset: ComposedDataset, name: str, seed: int) -> None:
        draws = Streams(["show", dataset.fingerprint, name])(seed)
        chosen: list[int] = []
        for label in dataset.components[name]:
            pool = [int(i) for i in dataset.pool(label) if int(i) not in chosen]
            if not pool:
                raise UsageError(
                    f"class {name!r} has too few recordings of {label!r} in the {dataset.split} split"
                )
            chosen += draws.choose(pool, 1)
        composition = dataset.rules.composition
        # Small fields of view are drawn pixel by pixel, large ones on the grid of the frames.
        self.factor = (
            1 if composition.crop[0] * composition.arity <= 128 else composition.downsample
        )
        self.dataset, self.name = dataset, name
        self.size = (
            composition.crop[0] * composition.arity // self.factor,
            composition.crop[1] // self.factor,
        )
        self.window_us = composition.window_us
        self.ids = dataset.name_samples([chosen])[0]
        self.events = downsample(dataset.sample_events(chosen, downsampled=False), self.factor)

    def counts(self, bins: int) -> np.ndarray:
        """[bins, 2, H, W] event counts."""
        width, height = self.size
        return rasterize(self.events, (bins, 2, height, width), self.window_us)


def _choose(
    archive: Archive, classes: Sequence[str] | None, split: str | None, seed: int
) -> list[_Sample]:
    datasets = _datasets(archive, (split,) if split else PARTITIONS)
    owner = {name: dataset for dataset in datasets for name in dataset.classes}
    if unknown := [name for name in classes or () if name not in owner]:
        raise UsageError(
            f"no class {unknown[0]!r} in {archive.path}; its classes are {_some(list(owner))}"
        )
    if classes is None:
        share = -(-_DEFAULT_CLASSES // len(datasets))
        classes = [
            dataset.classes[i]
            for dataset in datasets
            for i in np.unique(np.linspace(0, len(dataset) - 1, share + 2, dtype=int)[1:-1])
        ]
    return [_Sample(owner[name], name, seed) for name in classes]


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:5])}, ... ({len(names)})"


def _datasets(archive: Archive, splits: Sequence[str]) -> list[ComposedDataset]:
    if archive.dataset in BUILT_IN:
        rules = get_spec(archive.dataset, archive.protocol_version).rules(
            simulated=archive.simulated
        )
        return [DoubleDataset(archive, rules, split) for split in splits]
    return [compose(archive, split=splits[0], window_us=archive.window_us)]


def _color(counts: np.ndarray, strength: float) -> np.ndarray:
    """[2, H, W] counts as [H, W, 3] colors: paper where nothing happened, the more ON or OFF the stronger."""
    off, on = 1 - np.exp(-counts * strength)
    ink = on[..., None] * (_PAPER - _ON) + off[..., None] * (_PAPER - _OFF)
    colors: np.ndarray = np.clip(_PAPER - ink, 0, 255).astype(np.uint8)
    return colors


def _image(counts: np.ndarray, width: int, strength: float) -> Image.Image:
    """Counts [2, H, W] as a picture at least `width` wide, each cell a square of whole pixels."""
    from PIL import Image

    scale = -(-width // counts.shape[2])
    return Image.fromarray(_color(counts, strength).repeat(scale, 0).repeat(scale, 1))


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _title(samples: Sequence[_Sample]) -> tuple[str, str]:
    dataset = samples[0].dataset
    width, height = samples[0].size
    name = get_spec(dataset.name).title if dataset.name in BUILT_IN else dataset.name
    origin = "SIMULATED recordings" if dataset.simulated else dataset.archive.source
    first = f"{name}: {origin}"
    second = f"first {samples[0].window_us / 1000:g} ms on {width} x {height} pixels, fingerprint {dataset.fingerprint[:12]}"
    return first, second


class _Page:
    """A white page with a title, and room below it."""

    def __init__(self, samples: Sequence[_Sample], width: int, height: int) -> None:
        from PIL import Image, ImageDraw

        self.top = 64
        self.image = Image.new("RGB", (max(width, 560), self.top + height), "white")
        self.pen = ImageDraw.Draw(self.image)
        first, second = _title(samples)
        self.pen.text((_MARGIN, 10), first, _INK, _font(20))
        self.pen.text((_MARGIN, 37), second, _GRAY, _font(13))
        right = self.image.width - _MARGIN
        for word, color in (("OFF", _OFF), ("ON", _ON)):
            left = right - int(self.pen.textlength(word, font=_font(14)))
            self.pen.text((left, 14), word, _INK, _font(14))
            self.pen.rectangle((left - 18, 17, left - 6, 29), tuple(map(int, color)))
            right = left - 32

    def paste(self, image: Image.Image, x: int, y: int) -> None:
        self.image.paste(image, (x, y))
        self.pen.rectangle((x - 1, y - 1, x + image.width, y + image.height), outline=_LINE)


def _contact_sheet(samples: Sequence[_Sample], path: Path) -> None:
    whole = [_image(sample.counts(1)[0], 256, 0.35) for sample in samples]
    strips = [[_image(part, 96, 1.0) for part in sample.counts(_STRIP)] for sample in samples]
    name_width = 40 + 12 * max(len(sample.name) for sample in samples)
    step = strips[0][0].width + 8
    left = _MARGIN + name_width
    row = whole[0].height + 34
    page = _Page(
        samples, left + whole[0].width + 24 + _STRIP * step + _MARGIN, row * len(samples) + 12
    )
    start = left + whole[0].width + 24
    part_ms = samples[0].window_us / 1000 / _STRIP
    for i, sample in enumerate(samples):
        y = page.top + i * row
        page.pen.text((_MARGIN, y + 4), sample.name, _INK, _font(26))
        page.pen.text((_MARGIN, y + 38), sample.dataset.split, _GRAY, _font(13))
        page.paste(whole[i], left, y)
        page.pen.text((left, y + whole[i].height + 4), "  |  ".join(sample.ids), _GRAY, _font(12))
        for k, image in enumerate(strips[i]):
            page.paste(image, start + k * step, y)
            page.pen.text(
                (start + k * step, y + image.height + 4), f"{k * part_ms:g} ms", _GRAY, _font(12)
            )
    page.image.save(path)


def _animation(samples: Sequence[_Sample], path: Path) -> None:
    counts = [sample.counts(_GIF_BINS) for sample in samples]
    columns = min(3, len(samples))
    width = _image(counts[0][0], 256, 1.0).width
    height = _image(counts[0][0], 256, 1.0).height
    rows = -(-len(samples) // columns)
    pages = []
    for k in range(_GIF_BINS):
        page = _Page(samples, _MARGIN + columns * (width + _MARGIN), rows * (height + 48))
        for i, sample in enumerate(samples):
            x = _MARGIN + i % columns * (width + _MARGIN)
            y = page.top + i // columns * (height + 48)
            page.pen.text((x, y), f"{sample.name}  ({sample.dataset.split})", _INK, _font(16))
            page.paste(_image(counts[i][k], 256, 1.0), x, y + 24)
        elapsed = f"{k * samples[0].window_us / 1000 / _GIF_BINS:.0f} ms"
        page.pen.text((page.image.width - _MARGIN - 60, 38), elapsed.rjust(6), _GRAY, _font(13))
        pages.append(page.image.quantize(64))
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=_GIF_MS, loop=0)
