"""The committed results: tables have their numbers, and numbers are those of weights that ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from baselines.deals import write_tables
from baselines.experiments import EXPERIMENTS, report
from baselines.learners import SHIPPED
from baselines.weights_file import read_weights
from metaevents import component_deals
from metaevents.hashing import readable_json

RESULTS = Path(__file__).parents[2] / "cards" / "results"
ENTRIES = RESULTS.parent / "entries"
WORK = ("cached", "runs", "tuned")  # what `reproduce` leaves beside the results; not committed
DEALS = RESULTS / "double-nmnist" / "deals"  # of `python -m baselines deals`
FILES = sorted(
    path
    for path in RESULTS.rglob("*")
    if path.is_file()
    and path.relative_to(RESULTS).parts[0] not in WORK
    and path.parent.name != "deals"
)
DOCUMENTS = [path for path in FILES if path.suffix == ".json"]
SAMPLE = RESULTS / "double-nmnist" / "published" / "all"
SAMPLE_DOCUMENTS = sorted(SAMPLE.glob("*.json"))
KINDS = ("csv", "json", "md", "png", "svg")


def identity(path: Path) -> str:
    return str(path.relative_to(RESULTS).with_suffix(""))


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return document


def test_every_experiment_has_a_result() -> None:
    assert {path.stem for path in SAMPLE_DOCUMENTS} == set(EXPERIMENTS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=identity)
def test_a_result_is_where_its_dataset_classes_and_pairing_say(path: Path) -> None:
    document = read(path)
    place = RESULTS / document["dataset"] / document["classes"] / document["pairing"]
    assert path == place / f"{document['experiment']}.json"
    assert " --out cards/results " in document["command"]
    for option in ("pairing", "classes"):
        assert f" --{option} {document[option]} " in document["command"]


def test_every_file_below_results_belongs_to_a_result() -> None:
    expected = {path.with_suffix(f".{kind}") for path in DOCUMENTS for kind in KINDS}
    assert set(FILES) == expected | {RESULTS / "baselines.md", RESULTS / "trivial.md"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=identity)
def test_titles_and_claims_are_the_experiments(path: Path) -> None:
    document = read(path)
    experiment = EXPERIMENTS[path.stem]
    assert (document["title"], document["claim"]) == (experiment.title, experiment.claim)


@pytest.mark.parametrize("path", DOCUMENTS, ids=identity)
def test_tables_are_written_from_the_numbers(path: Path) -> None:
    document = read(path)
    assert path.read_text("utf-8") == readable_json(document) + "\n"
    assert path.with_suffix(".md").read_text("utf-8") == report.markdown(document)
    assert path.with_suffix(".csv").read_text("utf-8") == report.csv_text(document)
    for figure in (path.with_suffix(".png"), path.with_suffix(".svg")):
        assert figure.stat().st_size > 1000
    drawing = path.with_suffix(".svg").read_text("utf-8")
    assert document["data"] in drawing
    assert f"fingerprint {document['fingerprint'][:16]}" in drawing


@pytest.mark.parametrize("path", SAMPLE_DOCUMENTS, ids=identity)
def test_numbers_are_those_of_weights_that_ship(path: Path) -> None:
    shipped = {read_weights(each).digest()[:16] for each in SHIPPED.glob("*.safetensors")}
    document = read(path)
    assert document["source"] == "n-mnist-subset"
    assert {run["weights"] for run in document["runs"]} <= shipped


@pytest.mark.parametrize("path", SAMPLE_DOCUMENTS, ids=identity)
def test_the_published_values_are_the_experiments(path: Path) -> None:
    document = read(path)
    measured = [
        {name: value for name, value in row.items() if not name.startswith("published")}
        for row in document["rows"]
    ]
    assert EXPERIMENTS[path.stem].beside_published(measured) == document["rows"]


@pytest.mark.parametrize("dataset", ["double-nmnist", "double-asl-dvs"])
def test_the_table_of_the_deals_is_written_from_its_rows(dataset: str, tmp_path: Path) -> None:
    folder = RESULTS / dataset / "deals"
    document = read(folder / "deals.json")
    assert document["simulated"] is (dataset == "double-asl-dvs")
    assert {row["deal"] for row in document["rows"]} == set(range(1, 11))
    (tmp_path / "rows").mkdir()
    for number, row in enumerate(document["rows"]):
        (tmp_path / "rows" / f"{number:03}.json").write_text(json.dumps(row), "utf-8")
    for path in write_tables(tmp_path):
        assert path.read_text("utf-8") == (folder / path.name).read_text("utf-8")
    assert {path.name for path in folder.iterdir()} == {"deals.json", "deals.md"}


def test_trivial_baselines_have_the_accuracy_of_their_entries_in_every_deal() -> None:
    rows = [row for row in read(DEALS / "deals.json")["rows"] if row["method"].startswith("floor:")]
    assert {row["deal"] for row in rows} == set(range(1, 11))
    for row in rows:
        name = row["method"].replace(":", "-")
        split = component_deals.DEALS[row["deal"] - 1]
        path = ENTRIES / f"{name}.double-nmnist.sample-5way-1shot-v2.all.{split}.json"
        entry = read(path)["report"]
        assert row["accuracy"] == pytest.approx(entry["accuracy"], abs=1e-12)
        assert row["fingerprint"] == entry["archive"]["fingerprint"]
