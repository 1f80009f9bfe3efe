"""Reports: written as entries, and combined over trainings."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from support.simple_learners import ClassMeans, OnSums, evaluate, first_cells

import metaevents as me
from metaevents.benchmark import Predictions, Report, over_training_seeds
from metaevents.benchmark.report import check_method
from metaevents.errors import MissingError, UsageError


def test_reports_of_several_trainings_combine(digits: me.DoubleNMNIST) -> None:
    reports = [
        evaluate(OnSums(lambda x, ways, k=k: first_cells(x.roll(k, dims=-1), ways)), digits)
        for k in range(3)
    ]
    combined = over_training_seeds(reports)
    accuracies = [report.accuracy for report in reports]
    assert combined.training_seeds is not None
    assert combined.training_seeds["mean"] == pytest.approx(np.mean(accuracies))
    assert combined.training_seeds["deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    assert combined.accuracy == reports[0].accuracy
    with pytest.raises(UsageError, match="over different episodes"):
        over_training_seeds([reports[0], evaluate(ClassMeans(), digits, queries=4)])
    with pytest.raises(UsageError, match="at least 2"):
        over_training_seeds(reports[:1])
    again = evaluate(OnSums(lambda x, ways: first_cells(x, ways)), digits)
    for same in ([reports[0], reports[0]], [*reports, again]):
        with pytest.raises(UsageError, match="of one training"):
            over_training_seeds(same)
    for report, model in zip(reports, ("cnn", "cnn", "snn"), strict=True):
        report.seen = {"config": {"model": model, "seed": report.accuracy}}
    assert over_training_seeds(reports[:2]).training_seeds is not None
    with pytest.raises(UsageError, match="of different methods"):
        over_training_seeds(reports)


def test_entries_hold_the_report_and_the_digest_of_the_predictions(
    digits: me.DoubleNMNIST, tmp_path: Path
) -> None:
    report = evaluate(ClassMeans(), digits)
    report.save(tmp_path / "entry.json", name="Class means", authors=["A. Author"])
    digest = report.save_predictions(tmp_path / "predictions.npz")
    entry = json.loads((tmp_path / "entry.json").read_text("utf-8"))
    assert (entry["format"], entry["format_version"]) == ("metaevents-entry", 1)
    assert entry["method"]["name"] == "Class means"
    assert entry["method"]["citation"] is None
    assert entry["predictions"] == {"file": "predictions.npz", "sha256": digest}
    assert digest == hashlib.sha256((tmp_path / "predictions.npz").read_bytes()).hexdigest()
    assert Report.from_dict(entry["report"]) == report
    with pytest.raises(UsageError, match="no method field 'nam'"):
        report.save(tmp_path / "entry.json", nam="x")
    with pytest.raises(UsageError, match="missing or unknown are accuracy"):
        Report.from_dict(
            {name: value for name, value in entry["report"].items() if name != "accuracy"}
        )


def test_an_entry_names_the_prediction_file_that_was_written(
    digits: me.DoubleNMNIST, tmp_path: Path
) -> None:
    report = evaluate(ClassMeans(), digits)
    digest = report.save_predictions(tmp_path / "mine.npz", scores=True)
    report.save(tmp_path / "entry.json")
    entry = json.loads((tmp_path / "entry.json").read_text("utf-8"))
    assert entry["predictions"] == {"file": "mine.npz", "sha256": digest}


@pytest.mark.parametrize("place", ["nowhere/file", "file/file", "/dev/full"])
def test_what_cannot_be_written_is_kept_elsewhere(
    digits: me.DoubleNMNIST, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescue = tmp_path / "rescue"
    rescue.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(rescue))
    (tmp_path / "file").write_text("mine")
    report = evaluate(ClassMeans(), digits)
    for save in (report.save_predictions, report.save):
        with pytest.raises(UsageError, match=r"cannot be written .* its content is in"):
            save(tmp_path / place)
    kept = sorted(rescue.iterdir(), key=lambda path: path.stat().st_size)
    loaded, entry = Predictions.load(kept[0]), json.loads(kept[1].read_text("utf-8"))
    assert report.predictions is not None
    np.testing.assert_array_equal(loaded.labels, report.predictions.labels)
    assert Report.from_dict(entry["report"]) == report
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_write_leaves_the_old_files(
    digits: me.DoubleNMNIST, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    report = evaluate(ClassMeans(), digits)
    paths = tmp_path / "entry.json", tmp_path / "predictions.npz"
    for path in paths:
        path.write_text("old")
    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr("tempfile.mkstemp", full)
    for save, path in zip((report.save, report.save_predictions), paths, strict=True):
        with pytest.raises(UsageError, match=r"No space left on device.*the free space"):
            save(path)
    assert [path.read_text() for path in paths] == ["old", "old"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_method_fields_of_numpy_are_written_and_odd_ones_refused(
    digits: me.DoubleNMNIST, tmp_path: Path
) -> None:
    report = evaluate(ClassMeans(), digits)
    report.save(tmp_path / "entry.json", name=np.str_("A"), authors=("A. Author",))
    method = json.loads((tmp_path / "entry.json").read_text("utf-8"))["method"]
    assert (method["name"], method["authors"]) == ("A", ["A. Author"])
    with pytest.raises(UsageError, match="method field notes is object"):
        report.save(tmp_path / "entry.json", notes=object())
    with pytest.raises(UsageError, match=r"method field name is .*no valid text"):
        report.save(tmp_path / "entry.json", name="\udc80")
    report.seen = {"net": object()}
    with pytest.raises(UsageError, match=r"seen\.net is object"):
        report.save(tmp_path / "entry.json")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("commit", "main", "method.commit is .main., expected the commit of the code"),
        ("authors", "A. Author", "method.authors is .A. Author., expected a list"),
        ("name", "a\x1b[2J", "method.name is"),
        ("code", "my code", "method.code is"),
        ("nam", "x", "no method field 'nam'"),
    ],
)
def test_method_fields_can_be_checked_before_the_work(
    field: str, value: object, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check_method({field: value})
    check_method({"name": "A", "authors": ["A. Author"], "commit": "1.2.0", "code": None})


def test_odd_documents_are_no_reports(digits: me.DoubleNMNIST) -> None:
    document = evaluate(ClassMeans(), digits).to_dict()
    for change, message in (
        ([1], "is read from a dictionary, got list"),
        ({**document, "protocol": 3}, "a protocol has the fields"),
        ({**document, "protocol": {**document["protocol"], "ways": 10**20}}, "ways=1000"),
    ):
        with pytest.raises(UsageError, match=message):
            Report.from_dict(change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("accuracy", "x", "report.accuracy is .x., expected"),
        ("accuracy", 1.5, "report.accuracy is 1.5, expected"),
        ("accuracy", np.zeros(2), "report.accuracy is .array"),
        ("archive", [], r"report.archive is \[\], expected"),
        ("archive", {}, "report.archive.fingerprint is missing, expected"),
        ("trials", 5, "report.trials is 5, expected"),
        ("costs", 3, "report.costs is 3, expected"),
        ("time", {}, "report.time.adapt_ms is missing, expected"),
        ("per_episode", [0.5, None], r"report.per_episode\[1\] is null, expected"),
        ("deviations", "none", "report.deviations is .none., expected"),
    ],
)
def test_a_damaged_field_is_named(
    digits: me.DoubleNMNIST, field: str, value: object, message: str
) -> None:
    document = evaluate(ClassMeans(), digits).to_dict()
    assert str(Report.from_dict(document))
    with pytest.raises(UsageError, match=message):
        Report.from_dict({**document, field: value})


def test_a_report_without_times_is_printed(digits: me.DoubleNMNIST) -> None:
    document = evaluate(ClassMeans(), digits).to_dict()
    document["time"] = dict.fromkeys(document["time"])
    assert "? ms to adapt, ? ms to classify" in str(Report.from_dict(document))


def test_a_printed_report_has_no_control_characters(digits: me.DoubleNMNIST) -> None:
    report = evaluate(ClassMeans(), digits)
    n_lines = len(str(report).splitlines())
    report.overlap = "a\x1b[2J\n  accuracy      100.00%\u202e"
    assert len(str(report).splitlines()) == n_lines + 1
    assert "\x1b" not in str(report)
    assert "\u202e" not in str(report)


def test_a_notebook_shows_a_table_in_which_nothing_is_markup(digits: me.DoubleNMNIST) -> None:
    report = evaluate(ClassMeans(), digits)
    report.overlap = "<script>alert(1)</script> & more"
    html = report._repr_html_()
    assert html.startswith("<table>")
    assert html.endswith("</table>")
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in html
    rows = dict(re.findall(r"<tr><th[^>]*>(.*?)</th><td[^>]*>(.*?)</td></tr>", html))
    assert len(rows) == len(str(report).splitlines()) - 1, "one row per line of the text"
    assert rows["accuracy"].startswith(f"{report.accuracy:.2%}")
    assert rows["setting"] == "inductive"
    assert rows["NOT THE PROTOCOL"] == "episodes=4 instead of 600"
    ElementTree.fromstring(html)


def test_the_episodes_are_rows_of_a_frame(digits: me.DoubleNMNIST) -> None:
    pandas = pytest.importorskip("pandas", reason="to_frame() needs pandas")
    report = evaluate(ClassMeans(), digits, episodes=5)
    frame = report.to_frame()
    assert list(frame.columns) == ["accuracy", "classes", "adapt_ms", "classify_ms"]
    assert frame.index.name == "episode"
    assert list(frame.index) == list(range(5))
    assert frame.accuracy.tolist() == report.per_episode
    loader = me.EpisodeLoader(digits, 5, 1, 10, episodes=5, seed=0, division="episode")
    assert frame.classes.tolist() == [episode.classes for episode in loader]
    assert frame.adapt_ms.median() == pytest.approx(report.time["adapt_ms"])
    assert frame.classify_ms.median() == pytest.approx(report.time["classify_ms"])
    again = Report.from_dict(report.to_dict()).to_frame()
    assert list(again.columns) == ["accuracy"]
    assert isinstance(again, pandas.DataFrame)


def test_without_pandas_one_sentence_says_what_to_do(
    digits: me.DoubleNMNIST, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    report = evaluate(ClassMeans(), digits)
    with pytest.raises(MissingError, match=r"needs pandas.*pip install pandas.*per_episode"):
        report.to_frame()
