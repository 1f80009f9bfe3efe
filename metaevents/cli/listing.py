"""The command `list`: datasets, protocols and baselines that this release has."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from metaevents.cli.base import Command, json_flag, print_json, print_lines


def commands() -> Iterable[Command]:
    """The command `list`, for `metaevents --help`."""
    return (Command("list", "list datasets, protocols and baselines", _arguments, _run),)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind", nargs="?", choices=tuple(_LISTS), help="list only these (default: all three)"
    )
    json_flag(parser)


def _run(args: argparse.Namespace) -> None:
    kinds = [args.kind] if args.kind else list(_LISTS)
    rows = {kind: list(_LISTS[kind]()) for kind in kinds}
    if args.json:
        print_json(rows)
        return
    for kind in kinds:
        print(f"{kind}:")
        texts = [_TEXTS[kind](row) for row in rows[kind]]
        width = max((len(name) for name, _ in texts), default=0)
        print_lines(f"  {name:<{width}}  {text}" for name, text in texts)


def _datasets() -> Iterator[dict[str, Any]]:
    """The built-in datasets, as JSON objects."""
    from metaevents.specs import get_spec, specs

    for name in specs():
        spec = get_spec(name)
        splits = spec.rules(simulated=False).splits
        yield {
            "name": name,
            "title": spec.title,
            "protocol_version": spec.protocol_version,
            "recordings": spec.recordings["title"],
            "frame_shape": list(spec.frame_shape),
            "classes": {
                split: {part: len(classes) for part, classes in parts.items()}
                for split, parts in splits.items()
            },
        }


def _dataset_text(row: Mapping[str, Any]) -> tuple[str, str]:
    splits = "; ".join(
        f"{split} {'/'.join(map(str, parts.values()))}" for split, parts in row["classes"].items()
    )
    return row["name"], (
        f"{row['title']}: frames {tuple(row['frame_shape'])}; classes in train/val/test: {splits}"
    )


def _protocols() -> Iterator[dict[str, Any]]:
    """The protocols, as JSON objects."""
    from metaevents.benchmark.protocols import names, protocols

    every = list(protocols(all_versions=True))
    for name in names():
        versions = sorted({protocol.version for protocol in every if protocol.name == name})
        bound = [each for each in every if (each.name, each.version) == (name, versions[-1])]
        first = bound[0]
        fields = ("version", "ways", "shots", "queries", "episodes", "split", "seed")
        yield {
            "name": name,
            **{field: getattr(first, field) for field in fields},
            **{
                field: list(dict.fromkeys(getattr(protocol, field) for protocol in bound))
                for field in ("dataset", "pairing", "classes")
            },
            "versions": versions,
        }


def _protocol_text(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["name"], (
        f"{row['episodes']} episodes of the {row['split']} split, {row['queries']} queries per "
        f"class; {', '.join(row['dataset'])}{_versions_text(row)}"
    )


def _versions_text(row: Mapping[str, Any]) -> str:
    """The version of a protocol and the names of the older ones; "" if there are none."""
    *older, newest = row["versions"]
    if not older:
        return ""
    names = ", ".join(f"{row['name']}-v{each}" for each in older)
    return f"; version {newest}, older: {names}"


def _baselines() -> Iterator[dict[str, Any]]:
    """The trivial baselines and the trained ones, as JSON objects."""
    from importlib import import_module

    from metaevents.benchmark.trivial import TITLES
    from metaevents.cli.baselines import require_own_package

    for name, title in TITLES.items():
        yield {
            "name": f"floor:{name}",
            "kind": "trivial",
            "title": title,
            "run": f"metaevents evaluate floor:{name} --archive FILE",
        }
    require_own_package()
    for weights in import_module("baselines.released").released():
        words = ["metaevents", "baselines", "evaluate", weights.model, "--archive", "FILE"]
        words += [] if weights.recipe == "best" else ["--recipe", weights.recipe]
        words += [] if weights.classes == "published" else ["--classes", weights.classes]
        words += [] if weights.pairing == "all" else ["--training-pairing", weights.pairing]
        words += ["--training-seeds", str(weights.seed)] if weights.seed else []
        words += ["--protocol", f"{weights.ways}way-1shot"] if weights.ways else []
        yield {
            "name": weights.model,
            "kind": "trained",
            "recipe": weights.recipe,
            "dataset": weights.dataset,
            "classes": weights.classes,
            "ways": weights.ways,
            "training_pairing": weights.pairing,
            "training_seed": weights.seed,
            "run": " ".join(words),
        }


def _baseline_text(row: Mapping[str, Any]) -> tuple[str, str]:
    if row["kind"] == "trivial":
        return row["name"], row["title"]
    ways = "any number of ways" if row["ways"] is None else f"{row['ways']} ways"
    return row["name"], (
        f"trained on {row['dataset']}, classes {row['classes']}, pairing "
        f"{row['training_pairing']}, seed {row['training_seed']}; {ways}; recipe {row['recipe']}"
    )


_LISTS: Mapping[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "datasets": _datasets,
    "protocols": _protocols,
    "baselines": _baselines,
}
_TEXTS: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "datasets": _dataset_text,
    "protocols": _protocol_text,
    "baselines": _baseline_text,
}
