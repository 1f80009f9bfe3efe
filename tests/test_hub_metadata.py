"""Front matter of cards and Croissant files, read by the libraries of the hubs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metaevents import dataset_card
from metaevents.hub_metadata import croissant, dataset_fields, front_matter
from metaevents.specs import get_spec

CARDS = Path(__file__).parent.parent / "cards"
NAMES = ("double-nmnist", "double-asl-dvs", "n-omniglot")


def test_front_matter_is_yaml_of_the_same_fields() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; pip install pyyaml")
    fields: dict[str, Any] = {
        "text": 'a: "b" # ü',
        "list": ["x", {"a": 1, "b": [True, None]}, ["n"]],
        "nested": {"empty": [], "number": 0.5},
    }
    text = front_matter(fields)
    assert text.startswith("---\n")
    assert text.endswith("\n---\n")
    assert yaml.safe_load(text.strip("-\n")) == fields


@pytest.mark.parametrize("name", NAMES)
def test_the_hub_reads_dataset_cards(name: str) -> None:
    hub = pytest.importorskip(
        "huggingface_hub", reason="huggingface_hub is not installed; pip install huggingface_hub"
    )
    data = hub.DatasetCard((CARDS / "datasets" / f"{name}.md").read_text("utf-8")).data.to_dict()
    assert data == dataset_fields(name)
    assert data["pretty_name"] == get_spec(name).title


def test_the_hub_reads_model_cards_with_the_numbers_of_the_entries() -> None:
    hub = pytest.importorskip(
        "huggingface_hub", reason="huggingface_hub is not installed; pip install huggingface_hub"
    )
    paths = sorted((CARDS / "models").glob("*.md"))
    n_results = 0
    for path in paths:
        data = hub.ModelCard(path.read_text("utf-8")).data
        assert data.license == "apache-2.0"
        assert data.library_name == "metaevents"
        for result in data.eval_results or []:
            entry = json.loads((path.parent / result.source_url).read_text("utf-8"))
            assert result.metric_value == round(100 * entry["report"]["accuracy"], 2)
            assert result.dataset_type == entry["report"]["protocol"]["dataset"]
            n_results += 1
    assert paths
    assert n_results >= len(paths)


@pytest.mark.parametrize("name", NAMES)
def test_croissant_files_are_valid(name: str) -> None:
    croissants = pytest.importorskip(
        "mlcroissant", reason="mlcroissant is not installed; pip install mlcroissant"
    )
    path = CARDS / "datasets" / f"{name}.croissant.json"
    dataset = croissants.Dataset(path)
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert not issues.warnings
    splits = get_spec(name).rules(simulated=False).splits
    for class_split, by_split in splits.items():
        rows = list(dataset.records(f"classes-{class_split}"))
        assert len(rows) == sum(len(classes) for classes in by_split.values())


@pytest.mark.parametrize("name", NAMES)
def test_files_have_the_published_checksum_or_say_why_not(name: str) -> None:
    document = croissant(name)
    files = [each for each in document["distribution"] if each["@type"] == "cr:FileObject"]
    assert files
    for file in files:
        assert "md5" in file or "checksum" in file["description"]
    assert document.get("isLiveDataset", False) == any("md5" not in file for file in files)


def test_the_command_renews_cards_and_checks_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        text = (CARDS / "datasets" / f"{name}.md").read_text("utf-8")
        (tmp_path / f"{name}.md").write_text(text, "utf-8")
    options = ["--cards", str(tmp_path)]
    assert dataset_card.main([*options, "--check"]) == 2
    assert "n-omniglot.croissant.json; run `" in capsys.readouterr().err
    assert dataset_card.main(options) == 0
    assert dataset_card.main([*options, "--check"]) == 0
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (CARDS / "datasets" / path.name).read_bytes()
    card = tmp_path / "n-omniglot.md"
    card.write_text(card.read_text("utf-8").replace("cc-by-4.0", "mit"), "utf-8")
    assert dataset_card.main([*options, "--check"]) == 2
    card.write_text("# no place for facts\n", "utf-8")
    assert dataset_card.main(options) == 2
    card.unlink()
    capsys.readouterr()
    assert dataset_card.main(options) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["double-nmnist", "--cards", "x"], ["x", "--check"]])
def test_unfit_options_are_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert dataset_card.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
