"""Pictures of composed samples: a contact sheet (PNG) or an animation (GIF).

ON and OFF events have two colors. Everything is drawn with Pillow. Figures of results are left to
`baselines.experiments`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metaevents.archive.reader import Archive
from metaevents.arguments import one_of, shown, whole_number
from metaevents.building import dataset_rules
from metaevents.composition import compose
from metaevents.datasets import ComposedDataset
from metaevents.errors import UsageError
from metaevents.events import downsample, rasterize
from metaevents.files import user_path, write_atomic
from metaevents.rng import Streams
from metaevents.sampling import MAX_SEED
from metaevents.specs import PARTITIONS

if TYPE_CHECKING:
    from PIL import Image, ImageFont

# Colors, as RGB from 0 to 255.
_ON = np.array([205, 50, 55], np.float32)
_OFF = np.array([30, 95, 175], np.float32)
_PAPER = np.array([255, 255, 255], np.float32)
_INK, _GRAY, _LINE = (32, 32, 36), (110, 110, 118), (216, 216, 222)

_DEFAULT_CLASSES = 6
_STRIP_BINS = 10
"""Pictures in the strip of a contact sheet; each shows a tenth of the window."""
_GIF_BINS = 25
_GIF_MS = 80
"""Milliseconds for which an animation shows one bin."""
_FINE_WIDTH = 128
"""Widest composed sample, in pixels, that is drawn without downsampling."""

# Lengths on the picture, in pixels.
_MARGIN = 16
_HEADER = 64
_PICTURE_WIDTH = 256
_STRIP_WIDTH = 96
_SHEET_CAPTION = 34
"""Below every picture of a contact sheet."""
_GIF_CAPTION = 48
"""Above and below every picture of an animation."""


def show(
    archive: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    classes: Iterable[str] | None = None,
    split: str | None = None,
    seed: int = 0,
) -> Path:
    """Draw composed samples of an archive, one per class.

    Args:
        archive: Path of the archive.
        out: File to write. A .png is a contact sheet: every sample summed over the window, and as a
            strip of ten frames. A .gif is an animation in slow motion.
        classes: Class names, at least one; by default six, spread over the splits. A name that is
            given twice is drawn once.
        split: Use only classes and recordings of this split: "train", "val" or "test".
        seed: Selects the recordings, from 0 to 2^64 - 1.

    Returns:
        The path of the written file.

    Raises:
        UsageError: A class does not exist or has too few recordings, `out` has another suffix,
            there is no class to draw, or the split or the seed is none.
    """
    path = user_path(out)
    draw = {".png": _draw_contact_sheet, ".gif": _draw_animation}.get(path.suffix.lower())
    if draw is None:
        raise UsageError(f"{path} has the suffix {path.suffix!r}; name a .png or a .gif")
    if classes is not None:
        classes = _listed(classes)
    if split is not None:
        split = one_of("split", split, PARTITIONS)
    seed = whole_number("seed", seed, least=0, most=MAX_SEED)
    samples = _select_samples(Archive(archive), classes, split, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, draw(samples))
    return path


def _listed(classes: object) -> list[str]:
    """Return the class names that the user gave, as a list."""
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise UsageError(f"classes={shown(classes)} is no list of names; give one such as ['35']")
    try:
        names = list(classes)
    except TypeError:  # an array without an axis
        names = [classes]
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"no class {shown(name)}; give class names such as '35'")
    if not names:
        raise UsageError("no class to draw; give class names such as 35,72")
    return names


class _Sample:
    """One composed sample on the grid on which it is drawn.

    Attributes:
        dataset: The split that the sample is from.
        name: Class name.
        size: (width, height) of the grid.
        window_us: Length of the window in microseconds.
        ids: Recording ids, left to right.
        events: The events of the sample, on the grid.
    """

    def __init__(self, dataset: ComposedDataset, name: str, seed: int) -> None:
        draws = Streams(["show", dataset.fingerprint, name])(seed)
        recordings: list[int] = []
        for label in dataset.components[name]:
            pool = [int(i) for i in dataset.pool(label) if int(i) not in recordings]
            if not pool:
                raise UsageError(
                    f"class {name!r} has too few recordings of {label!r} in the {dataset.split} "
                    "split; give other classes with --classes"
                )
            recordings += draws.choose(pool, 1)
        composition = dataset.rules.composition
        width, height = composition.crop[0] * composition.arity, composition.crop[1]
        # Small samples are drawn pixel by pixel, large ones on the grid of the frames.
        factor = 1 if width <= _FINE_WIDTH else composition.downsample
        self.dataset, self.name = dataset, name
        self.size = width // factor, max(1, height // factor)
        self.window_us = composition.window_us
        self.ids = dataset.name_samples([recordings])[0]
        self.events = downsample(dataset.sample_events(recordings, downsampled=False), factor)

    def counts(self, bins: int) -> np.ndarray:
        """Event counts with shape [bins, 2, H, W]; OFF before ON."""
        width, height = self.size
        return rasterize(self.events, (bins, 2, height, width), self.window_us)


def _select_samples(
    archive: Archive, classes: Sequence[str] | None, split: str | None, seed: int
) -> list[_Sample]:
    """One sample per class; see `show` for the arguments."""
    datasets = _datasets(archive, (split,) if split else PARTITIONS)
    dataset_of = {name: dataset for dataset in datasets for name in dataset.classes}
    if unknown := [name for name in classes or () if name not in dataset_of]:
        raise UsageError(
            f"no class {unknown[0]!r} in {archive.path}; its classes are "
            f"{_abbreviate(list(dataset_of))}"
        )
    if classes is None:
        per_split = -(-_DEFAULT_CLASSES // len(datasets))
        classes = [
            dataset.classes[i]
            for dataset in datasets
            for i in np.unique(np.linspace(0, len(dataset) - 1, per_split + 2, dtype=int)[1:-1])
        ]
    return [_Sample(dataset_of[name], name, seed) for name in dict.fromkeys(classes)]


def _abbreviate(names: list[str]) -> str:
    """Names for a message; of a long list only the first five and the number."""
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:5])}, ... ({len(names)})"


def _datasets(archive: Archive, splits: Sequence[str]) -> list[ComposedDataset]:
    """The splits that the archive's dataset has; without its rules, every label in one split."""
    rules = dataset_rules(archive)
    if rules is None:
        labels = {splits[0]: archive.labels}
        return [compose(archive, 1, split=splits[0], splits=labels, window_us=archive.window_us)]
    known = rules.splits["published"]
    present = [split for split in splits if split in known]
    if not present:
        raise UsageError(f"{rules.name} has no {splits[0]} split; choose {' or '.join(known)}")
    return [ComposedDataset(archive, rules, split) for split in present]


def _color(counts: np.ndarray, strength: float) -> np.ndarray:
    """Counts [2, H, W] as colors [H, W, 3] uint8: white without events, darker with more events."""
    off, on = 1 - np.exp(-counts * strength)
    absorbed = on[..., None] * (_PAPER - _ON) + off[..., None] * (_PAPER - _OFF)
    colors: np.ndarray = np.clip(_PAPER - absorbed, 0, 255).astype(np.uint8)
    return colors


def _picture(counts: np.ndarray, width: int, strength: float) -> Image.Image:
    """Counts [2, H, W] as a picture at least `width` wide; every cell is a square of pixels."""
    from PIL import Image

    scale = -(-width // counts.shape[2])
    return Image.fromarray(_color(counts, strength).repeat(scale, 0).repeat(scale, 1))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font in a size."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _titles(sample: _Sample) -> tuple[str, str]:
    """The two lines at the top of a picture: dataset and source; window, grid and fingerprint."""
    dataset = sample.dataset
    width, height = sample.size
    name = dataset.rules.title or dataset.name
    source = "SIMULATED recordings" if dataset.simulated else dataset.archive.source
    details = (
        f"first {sample.window_us / 1000:g} ms on {width} x {height} pixels, "
        f"fingerprint {dataset.fingerprint[:12]}"
    )
    return f"{name}: {source}", details


class _Page:
    """A white page with titles and a legend at the top.

    Attributes:
        image: The page.
        pen: Draws on it.
    """

    def __init__(self, samples: Sequence[_Sample], width: int, height: int) -> None:
        from PIL import Image, ImageDraw

        self.image = Image.new("RGB", (max(width, 560), _HEADER + height), "white")
        self.pen = ImageDraw.Draw(self.image)
        title, details = _titles(samples[0])
        self.text((_MARGIN, 10), title, 20)
        self.text((_MARGIN, 37), details, 13, _GRAY)
        right = self.image.width - _MARGIN
        for word, color in (("OFF", _OFF), ("ON", _ON)):
            left = right - int(self.pen.textlength(word, font=_font(14)))
            self.text((left, 14), word, 14)
            self.pen.rectangle((left - 18, 17, left - 6, 29), tuple(map(int, color)))
            right = left - 32

    def text(
        self, at: tuple[int, int], text: str, size: int, color: tuple[int, int, int] = _INK
    ) -> None:
        """Write a line of text with its upper left corner at (x, y)."""
        self.pen.text(at, text, color, _font(size))

    def paste(self, picture: Image.Image, x: int, y: int) -> None:
        """Place a picture with a thin frame."""
        self.image.paste(picture, (x, y))
        self.pen.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=_LINE)


def _draw_contact_sheet(samples: Sequence[_Sample]) -> bytes:
    """The PNG with one row per sample: name, sum over the window, strip of frames, ids."""
    sums = [_picture(sample.counts(1)[0], _PICTURE_WIDTH, 0.35) for sample in samples]
    strips = [
        [_picture(counts, _STRIP_WIDTH, 1.0) for counts in sample.counts(_STRIP_BINS)]
        for sample in samples
    ]
    step = strips[0][0].width + 8
    names = [sample.name for sample in samples]
    width = max(max(12 * len(name), round(_font(26).getlength(name))) for name in names)
    sum_x = _MARGIN + 40 + width
    strip_x = sum_x + sums[0].width + 24
    row_height = sums[0].height + _SHEET_CAPTION
    page = _Page(samples, strip_x + _STRIP_BINS * step + _MARGIN, row_height * len(samples) + 12)
    bin_ms = samples[0].window_us / 1000 / _STRIP_BINS
    for row, sample in enumerate(samples):
        y = _HEADER + row * row_height
        page.text((_MARGIN, y + 4), sample.name, 26)
        page.text((_MARGIN, y + 38), sample.dataset.split, 13, _GRAY)
        page.paste(sums[row], sum_x, y)
        page.text((sum_x, y + sums[row].height + 4), "  |  ".join(sample.ids), 12, _GRAY)
        for k, picture in enumerate(strips[row]):
            x = strip_x + k * step
            page.paste(picture, x, y)
            page.text((x, y + picture.height + 4), f"{k * bin_ms:g} ms", 12, _GRAY)
    file = BytesIO()
    page.image.save(file, "PNG")
    return file.getvalue()


def _draw_animation(samples: Sequence[_Sample]) -> bytes:
    """The GIF with up to three samples per row, one page per time bin."""
    counts = [sample.counts(_GIF_BINS) for sample in samples]
    width, height = _picture(counts[0][0], _PICTURE_WIDTH, 1.0).size
    columns = min(3, len(samples))
    rows = -(-len(samples) // columns)
    pages = []
    for k in range(_GIF_BINS):
        page = _Page(samples, _MARGIN + columns * (width + _MARGIN), rows * (height + _GIF_CAPTION))
        for i, sample in enumerate(samples):
            x = _MARGIN + i % columns * (width + _MARGIN)
            y = _HEADER + i // columns * (height + _GIF_CAPTION)
            page.text((x, y), f"{sample.name}  ({sample.dataset.split})", 16)
            page.paste(_picture(counts[i][k], _PICTURE_WIDTH, 1.0), x, y + 24)
        elapsed = f"{k * samples[0].window_us / 1000 / _GIF_BINS:.0f} ms"
        page.text((page.image.width - _MARGIN - 60, 38), elapsed.rjust(6), 13, _GRAY)
        pages.append(page.image.quantize(64))
    file = BytesIO()
    pages[0].save(file, "GIF", save_all=True, append_images=pages[1:], duration=_GIF_MS, loop=0)
    return file.getvalue()
