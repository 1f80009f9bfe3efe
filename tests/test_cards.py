"""The cards agree with the package files and with what is measured; links and anchors exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import metaevents as me
from metaevents.dataset_card import facts_table, statistics_table
from metaevents.specs import get_spec

ROOT = Path(__file__).parent.parent
CARDS = ROOT / "cards"
DOCUMENTS = [
    ROOT / "README.md",
    *sorted(ROOT.glob("CONTRIBUTING.md")),
    *sorted(CARDS.rglob("*.md")),
]
NAMES = ("double-nmnist", "double-asl-dvs", "n-omniglot")


def block(name: str, kind: str) -> str:
    """The generated part of a dataset card between its marks."""
    text = (CARDS / "datasets" / f"{name}.md").read_text("utf-8")
    match = re.search(rf"<!-- {re.escape(kind)} -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert match, f"cards/datasets/{name}.md has no part {kind!r}"
    return match[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_facts_of_a_card_are_those_of_the_loader(name: str) -> None:
    assert block(name, f"facts: {name}") == facts_table(name)


@pytest.mark.parametrize("name", NAMES)
def test_loader_download_and_archive_share_the_facts(
    name: str, request: pytest.FixtureRequest
) -> None:
    fixtures = {"double-nmnist": "nmnist_root", "double-asl-dvs": "asl_root"}
    root = request.getfixturevalue(fixtures.get(name, "omniglot_root"))
    spec, dataset = get_spec(name), me.load(name, root)
    assert dataset.archive.attributes["licence"] == spec.recordings["license"]
    assert dataset.archive.attributes["citation"] == spec.recordings["citation"]
    assert dataset.frame_shape == spec.frame_shape
    assert dataset.archive.sensor_size == tuple(spec.recordings["sensor_size"])
    text = block(name, f"facts: {name}")
    for file in spec.recordings["files"]:
        assert file["url"] in text
        assert file["checksum"] is None or file["checksum"].split(":")[1] in text


def test_the_statistics_of_the_sample_are_measured(sample_root: Path) -> None:
    measured = statistics_table(me.Archive(sample_root / "double-nmnist.h5"))
    assert block("double-nmnist", "statistics: sample") == measured


def test_the_statistics_of_simulated_recordings_are_measured(simulated_root: Path) -> None:
    measured = statistics_table(me.Archive(simulated_root / "double-nmnist.h5"))
    assert block("double-nmnist", "statistics: simulated") == measured


def test_the_trivial_baselines_in_the_card_are_those_that_were_run() -> None:
    path = CARDS / "results" / "trivial.md"
    results = path.read_text("utf-8")
    tables = results[results.index("### ") :].strip().replace("### ", "#### ")
    assert block("double-nmnist", "trivial baselines") == tables


def test_every_link_within_the_documents_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), (
                f"{document.relative_to(ROOT)} links to {target}"
            )


def test_anchors_exist() -> None:
    for document in DOCUMENTS:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text("utf-8")):
            text = (document.parent / target if target else document).read_text("utf-8")
            headings = [
                line.lstrip("# ").strip().lower()
                for line in text.splitlines()
                if line.startswith("#")
            ]
            slugs = [re.sub(r"[^a-z0-9 -]", "", heading).replace(" ", "-") for heading in headings]
            assert anchor in slugs, f"{document.relative_to(ROOT)} links to {target}#{anchor}"
