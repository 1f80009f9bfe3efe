"""Facts of built-in datasets in the conventions that hubs read.

`front_matter` writes the YAML at the top of a card for the Hugging Face Hub, `dataset_fields` are
those of a dataset. `croissant` describes a dataset in Croissant 1.0
(https://docs.mlcommons.org/croissant/docs/croissant-spec.html), which other hubs and data searches
read. All facts come from the dataset's package file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from metaevents.errors import UsageError
from metaevents.specs import DatasetSpec, class_name, get_spec

TAGS = ("event-camera", "neuromorphic", "few-shot-learning", "meta-learning")
"""Tags of all cards."""

LICENSES: Mapping[str, str] = {
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "CC BY 4.0": "cc-by-4.0",
    "none stated by the authors": "unknown",
}
"""License in a package file -> its identifier on the Hugging Face Hub."""

TASK = "image-classification"
"""The Hub's task that is nearest to the classification of event streams."""

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""Upper limit -> the Hub's category of numbers of samples."""

_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification recommends."""

_ENCODINGS = {"zip": "application/zip", "rar": "application/vnd.rar"}

_CHANGING = (
    "The checksum is not fixed: the outer zip file was packed anew for each download. Check its "
    "content instead, as `metaevents download asl-dvs` does."
)

_UNPUBLISHED = (
    "No fixed checksum is stated here, because the publisher's record has it: {record}. "
    "`metaevents download {source}` reads it there and checks the file."
)

# Source -> where its recordings lie in the files, and how a path says what a recording is.
_LAYOUTS: Mapping[str, Mapping[str, Any]] = {
    "n-mnist": {
        "includes": "**/*.bin",
        "encoding": "application/octet-stream",
        "label": r"/(\d)/\d+\.bin$",
        "about": "One recording per file: events of 40 bits with x, y, polarity and time in "
        "microseconds.",
    },
    "asl-dvs": {
        "includes": "**/*.mat",
        "inner": "*.zip",
        "encoding": "application/x-matlab-data",
        "label": r"([a-y])_\d+\.mat$",
        "about": "One recording per MATLAB file, with the variables ts (microseconds), x, y and "
        "pol.",
    },
    "n-omniglot": {
        "includes": "**/*.aedat4",
        "encoding": "application/octet-stream",
        "label": r"([^/]+/character\d+)/[^/]+$",
        "about": "One AEDAT4 file per character, with its 20 drawings one after another. A .csv "
        "file beside it has the first and the last timestamp of each drawing.",
    },
}


def front_matter(fields: Mapping[str, Any]) -> str:
    """Return fields as the YAML block at the top of a card, with its marks and a final newline.

    Args:
        fields: Names -> text, numbers, booleans, lists and mappings.

    Example:
        >>> print(front_matter({"license": "cc-by-4.0", "tags": ["a"]}), end="")
        ---
        license: "cc-by-4.0"
        tags:
        - "a"
        ---
    """
    return "\n".join(["---", *_yaml(fields), "---"]) + "\n"


def _yaml(value: Mapping[str, Any] | Sequence[Any]) -> list[str]:
    """Return the lines of a non-empty mapping or list; scalars are written as in JSON."""
    lines = []
    if isinstance(value, Mapping):
        for name, item in value.items():
            if _is_nested(item):
                indent = "  " if isinstance(item, Mapping) else ""
                lines += [f"{name}:", *(f"{indent}{line}" for line in _yaml(item))]
            else:
                lines.append(f"{name}: {json.dumps(item, ensure_ascii=False)}")
        return lines
    for item in value:
        nested = _yaml(item) if _is_nested(item) else [json.dumps(item, ensure_ascii=False)]
        lines += [f"- {nested[0]}", *(f"  {line}" for line in nested[1:])]
    return lines


def _is_nested(value: object) -> bool:
    """Return whether a value is a mapping or list with content."""
    return isinstance(value, (Mapping, list, tuple)) and bool(value)


def dataset_fields(name: str) -> dict[str, Any]:
    """Return what the Hugging Face Hub reads from the card of a built-in dataset.

    Args:
        name: Name of the dataset, such as "double-nmnist".

    Raises:
        UsageError: There is no dataset of that name.
    """
    spec = get_spec(name)
    recordings = spec.recordings
    total = sum(recordings["counts"].values())
    return {
        "pretty_name": spec.title,
        "license": LICENSES[recordings["license"]],
        "license_link": recordings["license_url"],
        "task_categories": [TASK],
        "size_categories": [next(size for limit, size in _SIZES if total < limit)],
        "source_datasets": ["original" if spec.composition.arity == 1 else "extended"],
        "tags": [*TAGS, "spiking-neural-networks"],
        "homepage": recordings["homepage"],
    }


def croissant(name: str) -> dict[str, Any]:
    """Return the Croissant description of a built-in dataset.

    It describes the files of the recordings, and the classes of each class split.

    Args:
        name: Name of the dataset, such as "double-nmnist".

    Raises:
        UsageError: There is no dataset of that name.
    """
    spec = get_spec(name)
    recordings = spec.recordings
    authors, year = _authors(recordings["citation"])
    distribution = _distribution(spec)
    files = [each for each in distribution if each["@type"] == "cr:FileObject"]
    # Only a live dataset may have files without a checksum; their descriptions say why.
    fixed = all("md5" in file or "sha256" in file for file in files)
    return {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "alternateName": spec.title,
        "description": _description(spec),
        "url": recordings["homepage"],
        **({"sameAs": f"https://doi.org/{recordings['doi']}"} if recordings["doi"] else {}),
        "license": recordings["license_url"],
        "version": f"{spec.protocol_version}.0.0",
        "creator": [{"@type": "sc:Person", "name": author} for author in authors],
        "datePublished": f"{year}-01-01",
        "citeAs": recordings["citation"],
        "keywords": list(TAGS),
        **({} if fixed else {"isLiveDataset": True}),
        "distribution": distribution,
        "recordSet": [_recording_set(spec), *_split_sets(spec)],
    }


def _description(spec: DatasetSpec) -> str:
    """Return in three sentences what a dataset is."""
    recordings, arity = spec.recordings, spec.composition.arity
    sample = "one recording" if arity == 1 else f"{arity} recordings side by side"
    time, polarities, height, width = spec.frame_shape
    return (
        f"{spec.title} is a dataset for few-shot learning on event cameras. A sample is {sample} "
        f"of {recordings['title']}, which has {sum(recordings['counts'].values()):,} recordings of "
        f"{len(recordings['labels']):,} labels. As frames it has {time} time bins, {polarities} "
        f"polarities and {width} x {height} cells. License of the recordings: "
        f"{recordings['license']}."
    )


def _authors(citation: str) -> tuple[list[str], int]:
    """Return the authors and the year that a citation states."""
    before, _, after = citation.partition(', "')
    year = re.search(r"\b(?:19|20)\d\d\b(?=, doi)", after)
    if year is None:
        raise UsageError(
            f"citation {citation!r} has no year before its DOI; write authors, title in quotation "
            "marks, journal, year and DOI"
        )
    return re.split(r", | and ", before), int(year.group())


def _distribution(spec: DatasetSpec) -> list[dict[str, Any]]:
    """Return the files of the recordings, and the set of recordings in them."""
    recordings, layout = spec.recordings, _LAYOUTS[spec.recordings["source"]]
    objects = [_file_object(file, recordings) for file in recordings["files"]]
    if "openi" in recordings:
        objects.append(_mirrored(recordings["openi"]))
    parts = [{"@id": each["@id"]} for each in objects]
    if inner := layout.get("inner"):
        zips = {
            "@type": "cr:FileSet",
            "@id": "inner-archives",
            "containedIn": parts,
            "encodingFormat": _ENCODINGS["zip"],
            "includes": inner,
        }
        objects.append(zips)
        parts = [{"@id": "inner-archives"}]
    recording_files = {
        "@type": "cr:FileSet",
        "@id": "recording-files",
        "description": layout["about"],
        "containedIn": parts,
        "encodingFormat": layout["encoding"],
        "includes": layout["includes"],
    }
    return [*objects, recording_files]


def _file_object(file: Mapping[str, Any], recordings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file that the source publishes."""
    found = {
        "@type": "cr:FileObject",
        "@id": file["name"],
        "name": file["name"],
        "contentUrl": file["url"],
        "encodingFormat": _ENCODINGS[file["name"].rpartition(".")[2]],
    }
    if "size" in file:
        found["contentSize"] = f"{file['size']} B"
    if file["checksum"] is None:
        record, source = recordings["figshare"]["record"], recordings["source"]
        text = _UNPUBLISHED.format(record=record, source=source)
        return {**found, "description": text}
    kind, _, digest = file["checksum"].partition(":")
    return {**found, kind: digest}


def _mirrored(mirror: Mapping[str, str]) -> dict[str, Any]:
    """Return a file of the OpenI mirror, whose checksum changes."""
    return {
        "@type": "cr:FileObject",
        "@id": mirror["file"],
        "name": mirror["file"],
        "description": _CHANGING,
        "contentUrl": f"https://openi.pcl.ac.cn/{mirror['dataset']}",
        "encodingFormat": _ENCODINGS["zip"],
    }


def _recording_set(spec: DatasetSpec) -> dict[str, Any]:
    """Return the record set of the recordings: where each lies, and its label."""
    layout = _LAYOUTS[spec.recordings["source"]]

    def field(name: str, text: str, prop: str, **extra: Any) -> dict[str, Any]:
        source = {"fileSet": {"@id": "recording-files"}, "extract": {"fileProperty": prop}, **extra}
        return {
            "@type": "cr:Field",
            "@id": f"recordings/{name}",
            "name": name,
            "description": text,
            "dataType": "sc:Text",
            "source": source,
        }

    return {
        "@type": "cr:RecordSet",
        "@id": "recordings",
        "name": "recordings",
        "description": "The files of the recordings, with the label that their path says.",
        "field": [
            field("path", "Path of the file in its archive.", "fullpath"),
            field("label", "Label.", "fullpath", transform={"regex": layout["label"]}),
        ],
    }


def _split_sets(spec: DatasetSpec) -> list[dict[str, Any]]:
    """Return a record set per class split: class and split."""
    found = []
    for class_split, splits in spec.rules(simulated=False).splits.items():
        name = f"classes-{class_split}"
        rows = [
            {f"{name}/class": class_name(members), f"{name}/split": split}
            for split, classes in splits.items()
            for members in classes
        ]
        found.append(
            {
                "@type": "cr:RecordSet",
                "@id": name,
                "name": name,
                "description": f"The classes of the class split `{class_split}`.",
                "key": {"@id": f"{name}/class"},
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"{name}/{column}",
                        "name": column,
                        "description": text,
                        "dataType": "sc:Text",
                    }
                    for column, text in (
                        ("class", "Name of the class: the labels of its recordings."),
                        ("split", "train, val or test."),
                    )
                ],
                "data": rows,
            }
        )
    return found
