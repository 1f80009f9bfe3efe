"""Entries: the schema, the checks beside it, prediction files, recomputation, and admission to the leaderboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.made_entries import change, find_protocol, write_entry

import metaevents as me
from metaevents.benchmark.entries import schema
from metaevents.benchmark.validation import admit, read_entry, validate
from metaevents.errors import MissingError, UsageError

RUNS = {"seeds": 2, "mean": 0.55, "deviation": 0.0707106781, "accuracies": [0.5, 0.6]}


def refused(path: Path, *words: str) -> str:
    """The message with which an entry is refused; one line that holds the words."""
    with pytest.raises(UsageError) as caught:
        read_entry(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message
    return message


# --- the schema ---------------------------------------------------------------------------------------------------------


def test_the_published_schema_is_a_draft_2020_12_schema() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema())
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_property_of_the_schema_says_what_is_expected() -> None:
    def undescribed(node: Any, path: str = "") -> list[str]:
        found = []
        for name, child in node.get("properties", {}).items():
            target = (
                schema()["$defs"][child["$ref"].rsplit("/", 1)[1]] if "$ref" in child else child
            )
            found += [] if "description" in {**target, **child} else [f"{path}.{name}"]
            found += undescribed(target, f"{path}.{name}")
        return found

    assert undescribed(schema()) == []


def test_a_whole_entry_is_read(tmp_path: Path) -> None:
    entry = read_entry(write_entry(tmp_path, "snn-maml", 0.9))
    assert (entry.id, entry.name, entry.setting) == ("snn-maml", "snn-maml", "inductive")
    assert not entry.simulated
    assert not entry.sample
    assert entry.verified is None
    assert entry.accuracy == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(
    ("steps", "value", "words"),
    [
        (("method", "name"), None, ["method.name is null, expected the method's name"]),
        (("method", "name"), "  ", ['method.name is "  "']),
        (("method", "name"), "SNN\nMAML", ["method.name"]),
        (("method", "name"), "SNN\n", ["method.name"]),
        (("method", "name"), "abc\u202etxet", ["method.name"]),
        (("method", "authors"), "Ada Example", ["method.authors", "a list of the authors' names"]),
        (("method", "authors"), [], ["method.authors is []"]),
        (("method", "authors"), ["Ada", 3], ["method.authors[1] is 3, expected an author's name"]),
        (("method", "code"), "javascript:alert(1)", ["method.code", "https address"]),
        (("method", "code"), "http://example.org/x", ["method.code"]),
        (("method", "code"), 'https://example.org/"onmouseover=', ["method.code"]),
        (("method", "code"), "https://example.org/a\n", ["method.code"]),
        (("method", "commit"), "main", ["method.commit", "the commit of the code"]),
        (("method", "other_data"), None, ["method.other_data is null"]),
        (("method", "notes"), "a\u0000b", ["method.notes"]),
        (("method", "notes"), "\ud800", ["no entry"]),
        (("report", "accuracy"), 1.2, ["report.accuracy is 1.2, expected a number from 0 to 1"]),
        (("report", "accuracy"), "0.9", ['report.accuracy is "0.9"']),
        (("report", "per_episode"), [0.5, 2], ["report.per_episode[1] is 2"]),
        (
            ("report", "per_class"),
            {"02": -1},
            ["report.per_class.02 is -1, expected a number from 0 to 1"],
        ),
        (("report", "transductive"), "no", ['report.transductive is "no", expected true or false']),
        (("report", "trials"), {"seeds": 1}, ["report.trials.mean is missing"]),
        (
            ("report", "archive", "fingerprint"),
            "abc",
            ["report.archive.fingerprint", "64 hexadecimal digits"],
        ),
        (("predictions", "file"), "../other/predictions.npz", ["predictions.file", "bare name"]),
        (("predictions", "file"), "/etc/passwd", ["predictions.file"]),
        (("format_version",), 2, ["format_version is 2, expected 1"]),
        (("verified",), {"by": "Hanna"}, ["verified.how is missing", "verified.date is missing"]),
        (("verified",), True, ["verified is true, expected null, or who else reran"]),
    ],
)
def test_a_field_of_the_wrong_form_is_named_with_what_is_expected(
    tmp_path: Path, steps: tuple[str, ...], value: Any, words: list[str]
) -> None:
    refused(change(write_entry(tmp_path), *steps, to=value), *words)


def test_missing_fields_are_all_named_at_once(tmp_path: Path) -> None:
    path = write_entry(tmp_path)
    for name in ("authors", "commit", "hardware"):
        change(path, "method", name, drop=True)
    refused(
        path, "method.authors is missing", "method.commit is missing", "method.hardware is missing"
    )


def test_unknown_fields_are_refused_so_that_a_misspelt_one_is_noticed(tmp_path: Path) -> None:
    refused(
        change(write_entry(tmp_path), "method", "citatoin", to="x"),
        "method.citatoin is unknown",
        "citation",
    )


def test_many_problems_are_cut_short(tmp_path: Path) -> None:
    path = write_entry(tmp_path)
    for part in ("method", "report", "predictions"):
        change(path, part, to={})
    assert "more" in refused(path, "method.name is missing")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no entry"),
        ("{'a': 1}", "is no entry"),
        ("[" * 100_000, "is no entry"),
        ("[]", "the entry is [], expected"),
        ("3", "the entry is 3, expected"),
        ('{"format": "a", "format": "b"}', "the field 'format' is there twice"),
        ('{"format": NaN}', "NaN is no finite number"),
        ('{"format": 1e999}', "1e999 is no finite number"),
    ],
)
def test_what_is_no_json_entry_is_refused_in_a_sentence(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "entry.json"
    path.write_text(text)
    refused(path, words)


def test_an_entry_of_unlikely_size_is_not_even_parsed(tmp_path: Path) -> None:
    path = tmp_path / "entry.json"
    path.write_bytes(b" " * 9_000_000)
    refused(path, "9,000,000 bytes")


def test_a_missing_entry_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="metaevents evaluate"):
        read_entry(tmp_path / "entry.json")


# --- meaning ------------------------------------------------------------------------------------------------------------


def test_a_run_that_is_not_the_protocol_is_refused(tmp_path: Path) -> None:
    path = write_entry(tmp_path, is_protocol=False, deviations=["episodes=20 instead of 600"])
    refused(path, "not the protocol (episodes=20 instead of 600)", "without --episodes")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("queries", 5, "queries=5 instead of 15"),
        ("seed", 7, "seed=7 instead of 0"),
        ("split", "train", "split=train instead of test"),
        ("name", "7way-1shot", "no protocol '7way-1shot'"),
        ("version", 9, "upgrade metaevents"),
        ("dataset", "double-dvs-gesture", "dataset=double-dvs-gesture"),
        ("classes", "novel-components", "no class of the test split"),
    ],
)
def test_a_report_that_only_says_that_it_is_the_protocol_is_refused(
    tmp_path: Path, field: str, value: Any, words: str
) -> None:
    refused(change(write_entry(tmp_path), "report", "protocol", field, to=value), words)


def test_episodes_other_than_the_published_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "metaevents.benchmark.validation.published_digest", lambda fingerprint, run: "0" * 64
    )
    refused(write_entry(tmp_path), "report.episodes_digest", "0000")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("accuracy", 0.99, "the mean of report.per_episode is"),
        ("ci95", 0.0001, "report.per_episode gives"),
        ("bootstrap95", [0.9, 0.8], "lower end first"),
        ("per_episode", [0.5], "one for each of 600 episodes"),
        ("trials", {**RUNS, "mean": 0.9}, "its accuracies give"),
        ("training_seeds", {**RUNS, "seeds": 3}, "its accuracies give"),
        ("trials", RUNS, "trial 0 is the report itself"),
        ("transductive", True, "without report.transductive_evidence"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(
    tmp_path: Path, field: str, value: Any, words: str
) -> None:
    refused(change(write_entry(tmp_path), "report", field, to=value), words)


def test_an_accuracy_that_no_number_of_queries_gives_is_refused(tmp_path: Path) -> None:
    path = write_entry(tmp_path)
    refused(
        change(path, "report", "per_episode", 3, to=0.123456),
        "report.per_episode[3]",
        "no whole number of 75 queries",
    )


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("source", "n-caltech101", "expected one of n-mnist, n-mnist-subset, simulated"),
        ("source", "simulated", "contradict each other"),
        ("simulated", True, "contradict each other"),
    ],
)
def test_an_archive_that_is_none_of_the_dataset_is_refused(
    tmp_path: Path, field: str, value: Any, words: str
) -> None:
    refused(change(write_entry(tmp_path), "report", "archive", field, to=value), words)


@pytest.mark.parametrize(
    "by",
    [
        "Ada Example",
        "ada  example",
        "ADA EXAMPLE",
        "Áda Exámple",
        "Hanna Other and Ada Example",
        "Hanna Other; Grace Sample",
    ],
)
def test_authors_cannot_verify_their_own_entry(tmp_path: Path, by: str) -> None:
    verified = {"by": by, "how": "reran the released weights", "date": "2026-01-12"}
    refused(
        change(write_entry(tmp_path), "verified", to=verified),
        "verified.by",
        "only somebody else's rerun",
    )


def test_a_rerun_by_somebody_else_verifies_an_entry(tmp_path: Path) -> None:
    verified = {"by": "Anderson Other", "how": "reran the released weights", "date": "2026-01-12"}
    entry = read_entry(change(write_entry(tmp_path), "verified", to=verified))
    assert entry.verified == verified


def test_the_day_of_a_rerun_is_a_day(tmp_path: Path) -> None:
    verified = {"by": "Hanna Other", "how": "reran it", "date": "2026-02-30"}
    refused(change(write_entry(tmp_path), "verified", to=verified), "verified.date", "no day")


# --- prediction files ---------------------------------------------------------------------------------------------------


def test_validate_checks_the_prediction_file(tmp_path: Path) -> None:
    found = validate(write_entry(tmp_path))
    assert any("digest" in line for line in found.checked)
    assert any(line.startswith("not recomputed") for line in found.remarks)
    assert any(line.startswith("claimed") for line in found.remarks)


def test_a_missing_prediction_file_is_named(tmp_path: Path) -> None:
    path = write_entry(tmp_path)
    path.with_suffix(".npz").unlink()
    with pytest.raises(MissingError, match=r"no prediction file .*method\.npz"):
        validate(path)


def test_another_prediction_file_than_the_one_named_is_refused(tmp_path: Path) -> None:
    path, other = write_entry(tmp_path), write_entry(tmp_path, "other", 0.9)
    path.with_suffix(".npz").write_bytes(other.with_suffix(".npz").read_bytes())
    with pytest.raises(UsageError, match="SHA-256"):
        validate(path)


def test_a_prediction_file_for_another_protocol_is_refused(tmp_path: Path) -> None:
    path = write_entry(tmp_path)
    other = write_entry(tmp_path, "other", protocol=find_protocol(pairing="published"))
    document = json.loads(other.read_text())
    change(path, "predictions", to=document["predictions"])
    with pytest.raises(UsageError, match=r"is for report\.protocol"):
        validate(path)


class _Nearest:
    """Nearest neighbor on summed frames."""

    representation = "sum"
    numpy = True
    parameters = 0

    def adapt(self, support_x: np.ndarray, support_y: np.ndarray, ways: int) -> Any:
        def classify(query_x: np.ndarray) -> np.ndarray:
            differences = query_x[:, None].astype(float) - support_x[None]
            distances = (differences**2).reshape(len(query_x), len(support_x), -1).sum(axis=-1)
            return np.stack(
                [-distances[:, support_y == label].min(axis=1) for label in range(ways)], axis=1
            )

        return classify


@pytest.fixture(scope="module")
def evaluated(nmnist_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An entry that `evaluate` wrote on an archive of random recordings, which is a sample."""
    folder = tmp_path_factory.mktemp("evaluated")
    report = me.evaluate(
        _Nearest(),
        me.DoubleNMNIST(nmnist_root, "test"),
        protocol="sample-5way-1shot",
        progress=False,
    )
    report.save_predictions(folder / "nearest.npz")
    method = {
        "name": "Nearest neighbor",
        "authors": ["Ada Example"],
        "code": "metaevents",
        "commit": "0.1.0",
        "command": "metaevents evaluate nearest:learner",
        "other_data": "none",
        "hardware": "2 CPU cores",
    }
    report.save(folder / "nearest.json", **method)
    return folder / "nearest.json"


@pytest.fixture
def copied(evaluated: Path, tmp_path: Path) -> Path:
    for suffix in (".json", ".npz"):
        (tmp_path / f"nearest{suffix}").write_bytes(evaluated.with_suffix(suffix).read_bytes())
    return tmp_path / "nearest.json"


def test_what_evaluate_writes_is_valid_and_recomputes_to_the_same_score(
    copied: Path, nmnist_root: Path
) -> None:
    found = validate(copied, nmnist_root / "double-nmnist.h5")
    assert any(line.startswith("score: recomputed") for line in found.checked)
    assert found.entry.sample
    assert any(line.startswith("sample:") for line in found.remarks)


@pytest.mark.parametrize("field", ["bootstrap95", "per_class", "accuracy"])
def test_an_embellished_report_is_found_out_by_recomputing(
    copied: Path, nmnist_root: Path, field: str
) -> None:
    document = json.loads(copied.read_text())
    report = document["report"]
    if field == "bootstrap95":
        report[field][0] += 0.01
    elif field == "per_class":
        report[field][min(report[field])] = 1.0
    else:  # a consistent lie: every number of the report agrees with every other
        from metaevents.benchmark import statistics

        report["per_episode"] = [min(1.0, score + 0.1) for score in report["per_episode"]]
        report["accuracy"] = float(np.mean(report["per_episode"]))
        report["ci95"] = statistics.ci95(report["per_episode"])
    copied.write_text(json.dumps(document))
    validate(copied)
    with pytest.raises(UsageError, match=rf"report\.{field} is .*, the predictions give"):
        validate(copied, nmnist_root / "double-nmnist.h5")


def test_another_archive_than_the_entrys_is_refused(tmp_path: Path, nmnist_root: Path) -> None:
    path = write_entry(tmp_path, protocol=find_protocol("sample-5way-1shot"))
    with pytest.raises(UsageError, match="archive"):
        validate(path, nmnist_root / "double-nmnist.h5")


# --- admission ----------------------------------------------------------------------------------------------------------


def test_simulated_entries_never_enter(tmp_path: Path) -> None:
    write_entry(tmp_path, "real")
    path = write_entry(tmp_path, "dream", source="simulated")
    assert any(line.startswith("simulated:") for line in validate(path).remarks)
    with pytest.raises(
        UsageError, match=r"dream\.json was made on simulated recordings, which never enter"
    ):
        admit(tmp_path)


def test_entries_are_admitted_in_order_of_their_names(tmp_path: Path) -> None:
    for stem in ("b", "c", "a"):
        write_entry(tmp_path, stem)
    assert [entry.id for entry in admit(tmp_path)] == ["a", "b", "c"]


def test_no_entry_is_admitted_without_its_predictions(tmp_path: Path) -> None:
    write_entry(tmp_path).with_suffix(".npz").unlink()
    with pytest.raises(MissingError, match="prediction file"):
        admit(tmp_path)


def test_a_file_name_that_cannot_be_an_address_is_refused(tmp_path: Path) -> None:
    write_entry(tmp_path).rename(tmp_path / "My <entry>.json")
    with pytest.raises(UsageError, match="needs another name"):
        admit(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="--entries"):
        admit(tmp_path / "nowhere")
