"""The cards agree with the one machine-readable source, and with what is measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import metaevents as me
from metaevents import dataset_card as statistics
from metaevents.specs import get_spec

CARDS = Path(__file__).parent.parent / "cards"
NAMES = ("double-nmnist", "double-asl-dvs")


def block(name: str, kind: str) -> str:
    """The generated part of a card between its marks."""
    text = (CARDS / f"{name}.md").read_text("utf-8")
    found = re.search(rf"<!-- {re.escape(kind)} -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert found, f"cards/{name}.md has no part {kind!r}"
    return found[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_cards_facts_are_those_of_the_loader(name: str) -> None:
    assert block(name, f"facts: {name}") == statistics.facts(name)


@pytest.mark.parametrize("name", NAMES)
def test_loader_download_and_archive_share_the_facts(
    name: str, nmnist_root: Path, asl_root: Path
) -> None:
    root = {"double-nmnist": nmnist_root, "double-asl-dvs": asl_root}[name]
    spec, dataset = get_spec(name), me.load(name, root)
    assert dataset.archive.attributes["licence"] == spec.recordings["licence"]
    assert dataset.archive.attributes["citation"] == spec.recordings["citation"]
    assert dataset.frame_shape == spec.frame_shape
    assert dataset.archive.sensor_size == tuple(spec.recordings["sensor_size"])
    text = block(name, f"facts: {name}")
    for file in spec.recordings["files"]:
        assert file["url"] in text
        assert file["checksum"].split(":")[1] in text


def test_the_samples_statistics_are_measured(sample_root: Path) -> None:
    measured = statistics.table(me.Archive(sample_root / "double-nmnist.h5"))
    assert block("double-nmnist", "statistics: sample") == measured


def test_the_simulated_statistics_are_measured(simulated_root: Path) -> None:
    measured = statistics.table(me.Archive(simulated_root / "double-nmnist.h5"))
    assert block("double-nmnist", "statistics: simulated") == measured


def test_the_floors_in_the_card_are_those_that_were_run() -> None:
    run = (CARDS / "results" / "floors.md").read_text("utf-8")
    assert block("double-nmnist", "floors") == run[run.index("### ") :].strip().replace(
        "### ", "#### "
    )


def test_every_link_within_the_documents_leads_somewhere() -> None:
    root = CARDS.parent
    for document in (root / "README.md", *CARDS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name} points to {target}"


def test_anchors_exist() -> None:
    root = CARDS.parent
    for document in (root / "README.md", *CARDS.glob("*.md")):
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text("utf-8")):
            there = (document.parent / target if target else document).read_text("utf-8")
            headings = [
                line.lstrip("# ").strip().lower()
                for line in there.splitlines()
                if line.startswith("#")
            ]
            slugs = [re.sub(r"[^a-z0-9 -]", "", heading).replace(" ", "-") for heading in headings]
            assert anchor in slugs, f"{document.name} points to {target}#{anchor}"
