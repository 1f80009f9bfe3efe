"""Validation: prediction files, recomputed scores, and admission to the leaderboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.made_entries import change, find_protocol, write_entry

import metaevents as me
from metaevents.benchmark.validation import admit, validate
from metaevents.benchmark.wording import flags
from metaevents.errors import MissingError, UsageError


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


def test_a_prediction_file_with_another_digest_is_refused(tmp_path: Path) -> None:
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
    """An entry that `evaluate` wrote on an archive of random recordings (a subset)."""
    folder = tmp_path_factory.mktemp("evaluated")
    report = me.evaluate(
        _Nearest(),
        me.DoubleNMNIST(nmnist_root, "test"),
        protocol="sample-5way-1shot-v1",
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
    assert found.entry.is_subset
    assert any(line.startswith("subset:") for line in found.remarks)


@pytest.mark.parametrize("field", ["ci95", "unshared_accuracy", "per_class", "accuracy"])
def test_recomputing_detects_an_embellished_report(
    copied: Path, nmnist_root: Path, field: str
) -> None:
    document = json.loads(copied.read_text())
    report = document["report"]
    if field == "ci95":
        report[field] += 0.01
    elif field == "unshared_accuracy":
        report[field] += 0.001
    elif field == "per_class":
        report[field][min(report[field])] = 1.0
    else:  # a consistent lie: every number of the report agrees with every other
        from metaevents.benchmark import statistics

        report["per_episode"] = [min(1.0, score + 0.1) for score in report["per_episode"]]
        report["accuracy"] = float(np.mean(report["per_episode"]))
        report["episode_ci95"] = statistics.episode_ci95(report["per_episode"])
        report["unshared_accuracy"] = min(1.0, report["unshared_accuracy"] + 0.1)
    copied.write_text(json.dumps(document))
    validate(copied)
    with pytest.raises(UsageError, match=rf"report\.{field} is .*, the predictions give"):
        validate(copied, nmnist_root / "double-nmnist.h5")


def test_an_archive_that_the_entry_was_not_made_on_is_refused(
    tmp_path: Path, nmnist_root: Path
) -> None:
    path = write_entry(tmp_path, protocol=find_protocol("sample-5way-1shot"))
    with pytest.raises(UsageError, match="archive"):
        validate(path, nmnist_root / "double-nmnist.h5")


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


def test_a_file_name_unfit_for_urls_is_refused(tmp_path: Path) -> None:
    write_entry(tmp_path).rename(tmp_path / "My <entry>.json")
    with pytest.raises(UsageError, match="needs another name"):
        admit(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="--entries"):
        admit(tmp_path / "nowhere")


def test_litter_of_operating_systems_in_the_folder_is_passed_over(tmp_path: Path) -> None:
    write_entry(tmp_path, "a")
    for name in ("._a.json", ".DS_Store", ".nfs0001.json", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).write_bytes(b"\0litter")
    for name in ("@eaDir", "__MACOSX", ".git.json"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.txt").write_text("entries")
    assert [entry.id for entry in admit(tmp_path)] == ["a"]


@pytest.mark.parametrize(
    "name", ["a.JSON", "A.json", "a (1).json", "a - Copy.json", "\u202ea.json"]
)
def test_an_entry_with_an_odd_name_is_not_passed_over(tmp_path: Path, name: str) -> None:
    write_entry(tmp_path, "a").rename(tmp_path / name)
    with pytest.raises(UsageError, match="needs another name") as caught:
        admit(tmp_path)
    assert "\u202e" not in str(caught.value)


def test_the_prediction_file_is_no_folder_or_pipe(tmp_path: Path) -> None:
    path = write_entry(tmp_path)
    path.with_suffix(".npz").unlink()
    path.with_suffix(".npz").mkdir()
    with pytest.raises(UsageError, match="is a folder, expected the prediction file"):
        validate(path)


def test_odd_paths_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for odd in ("~nobody-of-that-name/entry.json", "a\0b.json"):
        with pytest.raises(UsageError, match="cannot be used as a path"):
            validate(odd)
    with pytest.raises(UsageError, match="is a folder"):
        validate(tmp_path)


def test_what_was_found_about_state_or_not_measured_is_remarked(tmp_path: Path) -> None:
    evidence = "asked twice without adapting anew, the scores of 9 of 50 queries changed"
    stateful = validate(
        write_entry(tmp_path, "stateful", stateful=True, stateful_evidence=evidence)
    )
    assert f"stateful: {evidence}" in stateful.remarks
    assert flags(stateful.entry) == ["stateful"]
    assert stateful.entry.setting == "inductive"
    unknown = dict.fromkeys(("transductive", "stateful", "deterministic"))
    unprobed = validate(write_entry(tmp_path, "unprobed", **unknown))
    assert unprobed.entry.setting == "not probed"
    assert flags(unprobed.entry) == []
    assert any(remark.startswith("not probed: ") for remark in unprobed.remarks)
