"""The paper's tables and figures: each runs, says what it was made on, goes on where it stopped, and measures what it says."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import baselines
import metaevents as me
from baselines.cli import _EXPERIMENTS, main
from baselines.config import RunConfig, recipe
from baselines.experiments import (
    EXPERIMENTS,
    Experiment,
    Study,
    accuracy,
    plasticity,
    reproduce,
    variant,
)
from baselines.experiments.accuracy import accuracies
from baselines.experiments.fig3_fig4 import after_each_step
from baselines.experiments.fig6 import by_shots
from baselines.experiments.variants import own_update, tuned
from baselines.maml import MAML, MAMLConfig
from baselines.networks import Params
from baselines.plasticity import RULES, Rule
from baselines.quantization import FixedPoint, quantized
from baselines.training.loop import train
from metaevents.episodes import EpisodeLoader
from metaevents.errors import MissingError, UsageError

SMALL: dict[str, Any] = {
    "channels": (4, 4, 8), "time_stride": 10, "burn_in": 50, "steps": 4, "val_every": 4, "val_episodes": 2, "queries": 2,
    "meta_batch_size": 1, "pretrain_steps": 0, "batch_size": 4, "norm_groups": 0,
}  # fmt: skip
OPTIONS: dict[str, Any] = {"episodes": 2, "tuning": 2, "device": "cpu", "progress": False}
FILES = ("json", "csv", "md", "png", "svg")


def small(model: str = "snn-maml", **changes: Any) -> RunConfig:
    return recipe(model, "paper", **{**SMALL, **changes})


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def archive(simulated_root: Path) -> Path:
    return simulated_root / "double-nmnist.h5"


@pytest.fixture(scope="module")
def runs(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small trained runs, one with learned rates."""
    root = tmp_path_factory.mktemp("runs")
    for model in ("snn-maml", "cnn-maml", "snn-fomaml", "snn-transfer"):
        train(
            small(model, learn_inner_lrs=model == "snn-maml"),
            archive,
            root / model,
            progress=False,
            device="cpu",
        )
    return root


@pytest.fixture(scope="module")
def outputs(archive: Path, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all experiments leave."""
    out = tmp_path_factory.mktemp("outputs")
    for name in EXPERIMENTS:
        paths = reproduce(
            name, archive, out, runs=[runs], command=f"reproduce {name} here", **OPTIONS
        )
        assert paths == [out / f"{name}.{kind}" for kind in FILES]
    return out


@pytest.fixture(scope="module")
def study(archive: Path, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(
        EXPERIMENTS["fig3"], archive, tmp_path_factory.mktemp("study"), runs=[runs], **OPTIONS
    )


def document(out: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / f"{name}.json").read_text("utf-8"))
    return found


def written(value: Any) -> str:
    return "" if value is None else str(value)


def tables(markdown: Path) -> Iterator[dict[str, str]]:
    """The rows of all tables of a Markdown file."""
    header: list[str] = []
    for line in markdown.read_text("utf-8").splitlines():
        cells = (
            [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        )
        if cells and header and cells[0] != "---":
            yield dict(zip(header, cells, strict=True))
        elif not header or not cells:
            header = cells


# --- what an experiment leaves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_writes_the_same_numbers_everywhere(name: str, outputs: Path) -> None:
    rows = document(outputs, name)["rows"]
    assert rows
    with (outputs / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert [{n: v for n, v in row.items() if v} for row in table] == [
        {n: written(v) for n, v in row.items() if v is not None} for row in rows
    ]
    shown = [{n: v for n, v in row.items() if v} for row in tables(outputs / f"{name}.md")]
    for row in rows:
        assert {n: written(v) for n, v in row.items() if v is not None and n != "panel"} in shown


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_output_says_what_it_was_made_on(name: str, outputs: Path, archive: Path) -> None:
    from PIL import Image

    fingerprint = me.load("double-nmnist", archive, "test").fingerprint
    found = document(outputs, name)
    assert (found["data"], found["source"], found["fingerprint"]) == (
        "SIMULATED",
        "simulated",
        fingerprint,
    )
    assert found["command"] == f"reproduce {name} here"
    assert found["episodes"] == 2
    assert found["seeds"] == ([0, 1] if name == "table2" else [0])
    assert {run["model"] for run in found["runs"]} >= {"snn-maml"}
    with Image.open(outputs / f"{name}.png") as image:
        described = image.info["Description"]
    for text in (
        described,
        *((outputs / f"{name}.{kind}").read_text("utf-8") for kind in ("csv", "md", "svg")),
    ):
        for fact in ("SIMULATED", fingerprint[:16], "2 episodes of seed", f"reproduce {name} here"):
            assert fact in text


def test_the_published_values_stand_beside_ours(outputs: Path) -> None:
    table2 = {
        (row["model"], row["phase"]): row
        for row in document(outputs, "table2")["rows"]
        if row["pairing"] == "published"
    }
    assert table2["snn-maml", "meta-test"]["published"] == 0.9823
    assert table2["cnn-maml", "meta-validation"]["published_deviation"] == 0.0053
    table3 = {
        row["loop"]: row
        for row in document(outputs, "table3")["rows"]
        if row["thresholded"] == "no"
    }
    assert [table3[loop]["published_maximum"] for loop in ("outer", "inner", "non-meta")] == [
        0.002,
        0.1548,
        0.0011,
    ]
    needed = [row for row in document(outputs, "fig6")["rows"] if "shots needed" in row]
    assert [row.get("published") for row in needed] == ["9 to 10", None]


def test_a_run_that_is_missing_is_trained_with_its_pre_training(
    nmnist_root: Path, tmp_path: Path
) -> None:
    training = {**SMALL, "pretrain_steps": 2, "steps": 2}
    reproduce("fig4", nmnist_root, tmp_path, training=training, **OPTIONS)
    found = document(tmp_path, "fig4")
    assert found["data"] == "sample"
    assert "sample: double-nmnist from n-mnist-subset" in (tmp_path / "fig4.md").read_text("utf-8")
    assert [(run["model"], run["recipe"], run["steps"]) for run in found["runs"]] == [
        ("snn-maml", "best", 2)
    ]
    assert len([*(tmp_path / "runs").glob("snn-transfer.*/best.safetensors")]) == 1
    before = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("best.safetensors")
    }
    reproduce(
        "table3", nmnist_root, tmp_path, training=training, **OPTIONS
    )  # its two runs are there
    assert before == {
        path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("best.safetensors")
    }


def test_novel_components_have_no_published_values(archive: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "training": {**SMALL, "steps": 1}, "classes": "novel-components"}
    reproduce("table2", archive, tmp_path, **options)
    assert not any("published" in row for row in document(tmp_path, "table2")["rows"])
    reproduce("fig6", archive, tmp_path, **options)
    assert {row["ways"] for row in document(tmp_path, "fig6")["rows"]} == {
        5,
        9,
    }  # the split has nine test classes
    assert {run["classes"] for run in document(tmp_path, "fig6")["runs"]} == {"novel-components"}


def test_the_budgets_are_ten_minutes_and_the_papers_setting(
    archive: Path, asl_root: Path, runs: Path, tmp_path: Path
) -> None:
    def budget(root: Path, name: str) -> Any:
        return Study(EXPERIMENTS["table2"], root, tmp_path, budget=name).budget

    full = budget(archive, "full")
    assert (full.episodes, full.trials, full.recipe) == (600, 10, "paper")
    assert budget(asl_root, "full") == full
    quick, larger = budget(archive, "quick"), budget(asl_root, "quick")
    assert 4 < quick.episodes / larger.episodes < 6  # frames are 4.7 times as large
    assert larger.training["steps"] < quick.training["steps"]


# --- going on --------------------------------------------------------------------------------------------------------------


def test_an_experiment_that_was_killed_goes_on_where_it_was(
    archive: Path, runs: Path, tmp_path: Path
) -> None:
    words = [
        "reproduce",
        "table2",
        "--archive",
        str(archive),
        "--out",
        str(tmp_path),
        "--runs",
        str(runs),
        "--episodes",
        "3",
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "baselines", *words], env=environment, stdout=subprocess.DEVNULL
    )
    cells, deadline = tmp_path / "table2.partial.json", time.monotonic() + 120
    while not cells.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "table2.json").exists()
    kept = json.loads(cells.read_text("utf-8"))
    first = next(iter(kept["cells"].values()))
    first[""] = [0.125] * 3  # a value that no computation gives
    cells.write_text(json.dumps(kept), "utf-8")
    assert main(words) == 0
    row = document(tmp_path, "table2")["rows"][0]
    whole = reproduce(
        "table2", archive, tmp_path / "whole", runs=[runs], episodes=3, device="cpu", progress=False
    )
    untouched = json.loads(whole[0].read_text("utf-8"))["rows"]
    second_trial = 2 * untouched[0]["accuracy"] - _first_trial(
        tmp_path / "whole" / "table2.partial.json"
    )
    assert row["accuracy"] == pytest.approx((0.125 + second_trial) / 2, abs=1e-3)
    assert document(tmp_path, "table2")["rows"][1:] == untouched[1:]


def _first_trial(cells: Path) -> float:
    values = next(iter(json.loads(cells.read_text("utf-8"))["cells"].values()))[""]
    return float(sum(values) / len(values))


def test_other_weights_or_episodes_are_other_cells(
    archive: Path, runs: Path, tmp_path: Path
) -> None:
    def cells() -> int:
        return len(json.loads((tmp_path / "fig4.partial.json").read_text("utf-8"))["cells"])

    for number, (episodes, models) in enumerate(
        [(1, "snn-maml"), (1, "snn-maml"), (2, "snn-maml"), (1, "other")]
    ):
        if models == "other":
            train(small(seed=1), archive, tmp_path / "other", progress=False, device="cpu")
        folder = runs / models if models != "other" else tmp_path / "other"
        reproduce(
            "fig4",
            archive,
            tmp_path,
            runs=[folder],
            episodes=episodes,
            device="cpu",
            progress=False,
        )
        assert cells() == (1, 1, 2, 3)[number]


def test_a_tuned_run_is_kept(study: Study) -> None:
    run = study.run("snn-maml")
    first, again = (tuned(study, run, "test", lambda net: variant(run.maml, net)) for _ in range(2))
    for a, b, before in zip(
        first.parameters(), again.parameters(), run.maml.net.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        assert not torch.equal(a, before)
    assert len([*(study.out / "tuned").iterdir()]) == 1


# --- which runs ------------------------------------------------------------------------------------------------------------


def test_runs_are_matched_by_their_configuration(archive: Path, runs: Path, tmp_path: Path) -> None:
    train(
        small("cnn-maml", pairing="published"),
        archive,
        tmp_path / "published",
        progress=False,
        device="cpu",
    )
    train(small("cnn-maml", ways=3), archive, tmp_path / "three", progress=False, device="cpu")
    study = Study(EXPERIMENTS["table2"], archive, tmp_path, runs=[tmp_path, runs / "snn-maml"])
    assert study.find("cnn-maml") is None
    assert study.find("snn-fomaml") is None
    published, three, ours = (
        study.run("cnn-maml", pairing="published"),
        study.run("cnn-maml", ways=3),
        study.run("snn-maml"),
    )
    assert (published.config.pairing, three.config.ways, ours.config.model) == (
        "published",
        3,
        "snn-maml",
    )


def test_a_study_of_pairing_published_takes_a_run_of_pairing_all_where_none_of_its_own_is_given(
    archive: Path, runs: Path, tmp_path: Path
) -> None:
    study = Study(EXPERIMENTS["fig3"], archive, tmp_path, runs=[runs], pairing="published")
    assert study.run("snn-maml").config.pairing == "all"
    assert [run.config.pairing for run in study.given("snn-maml", "cnn-maml")] == ["all", "all"]
    assert study.notes == [
        "snn-maml: trained on pairing all, as no run of pairing published was given.",
        "cnn-maml: trained on pairing all, as no run of pairing published was given.",
    ]
    train(
        small("snn-maml", pairing="published"),
        archive,
        tmp_path / "own",
        progress=False,
        device="cpu",
    )
    own = Study(
        EXPERIMENTS["fig3"], archive, tmp_path, runs=[runs, tmp_path / "own"], pairing="published"
    )
    assert own.run("snn-maml").config.pairing == "published"
    assert not own.notes


def test_the_run_of_the_best_validation_is_taken(archive: Path, tmp_path: Path) -> None:
    for seed in range(3):
        train(
            small("cnn-maml", seed=seed),
            archive,
            tmp_path / str(seed),
            progress=False,
            device="cpu",
        )
    measured = [baselines.load(tmp_path / str(seed)).record.measured for seed in range(3)]
    best = max(values["val_accuracy"] for values in measured if values)
    found = Study(EXPERIMENTS["fig3"], archive, tmp_path, runs=[tmp_path]).run("cnn-maml")
    assert (found.learner.record.measured or {})["val_accuracy"] == best


# --- what they measure -----------------------------------------------------------------------------------------------------


def test_the_inner_step_curve_is_that_of_so_many_steps(study: Study) -> None:
    run = study.run("snn-maml")
    loader = EpisodeLoader(study.test, 5, 1, 5, episodes=3)
    curve = accuracies(loader, after_each_step(run, 3), progress=False)
    for steps in range(4):
        learner = variant(run.maml, steps=steps)
        assert curve[str(steps)] == accuracy(learner, study.test, 5, 1, 5, 3, 0)

    def without_adaptation(support_x: Tensor, support_y: Tensor, ways: int) -> Any:
        return run.maml.net

    class Unadapted:
        adapt = staticmethod(without_adaptation)

    assert curve["0"] == accuracy(Unadapted(), study.test, 5, 1, 5, 3, 0)


def test_a_variant_without_changes_is_the_run_itself(study: Study) -> None:
    for model in ("snn-maml", "cnn-maml"):
        run = study.run(model)
        same = accuracy(variant(run.maml), study.test, 5, 1, 5, 3, 0)
        assert same == accuracy(run.learner, study.test, 5, 1, 5, 3, 0)


def test_nothing_frozen_nothing_dropped_and_no_rounding_are_all_the_same(outputs: Path) -> None:
    fig4 = [row for row in document(outputs, "fig4")["rows"] if row["model"] == "snn-maml"]
    fig5 = [row for row in document(outputs, "fig5")["rows"] if row["panel"] == "accuracy"]
    steps = [row for row in document(outputs, "fig3")["rows"] if row["model"] == "snn-maml"]
    reference = steps[1]["accuracy"]
    assert [row["frozen layers"] for row in fig4] == [0, 1, 2, 3]
    assert [row["share"] for row in fig5] == [0.0, 0.01, 0.05, 0.1, 0.2, 0.5]
    assert fig4[0]["accuracy"] == fig5[0]["accuracy"] == reference
    for name, key in (("quantization", "place"), ("plasticity", "rule")):
        assert document(outputs, name)["rows"][0]["accuracy"] == reference, key


def test_magnitudes_are_those_of_the_updates(outputs: Path, study: Study) -> None:
    rows = {(row["loop"], row["thresholded"]): row for row in document(outputs, "table3")["rows"]}
    run = study.run("snn-maml")
    x = [EpisodeLoader(study.test, 5, 1, 1, episodes=2)[index] for index in range(2)]
    changes = []
    for episode in x:
        params = {
            name: value.detach().requires_grad_() for name, value in run.maml.net.named_parameters()
        }
        loss = torch.nn.functional.cross_entropy(
            run.maml.net.apply_params(params, episode.support_x), episode.support_y
        )
        (gradient,) = torch.autograd.grad(loss, [params["head.weight"]])
        changes.append(run.maml.inner_lrs[run.maml.learning.index("head.weight")] * gradient)
    magnitude = torch.stack(changes).detach().abs()
    assert rows["inner", "no"]["average"] == pytest.approx(float(magnitude.mean()), rel=1e-3)
    assert rows["inner", "no"]["maximum"] == pytest.approx(float(magnitude.max()), rel=1e-3)
    for loop in ("outer", "inner", "non-meta"):
        assert 0 < rows[loop, "yes"]["written"] <= rows[loop, "no"]["written"] <= 1
        assert rows[loop, "yes"]["maximum"] == rows[loop, "no"]["maximum"]
    histogram = [row for row in document(outputs, "fig5")["rows"] if row["panel"] == "histogram"]
    for name in ("outer", "inner, thresholded", "non-meta"):
        assert sum(row[name] for row in histogram) == pytest.approx(1, abs=1e-2)


def test_transfer_learns_from_the_first_shots_of_an_episode(study: Study) -> None:
    run = study.run("snn-transfer")
    episode = EpisodeLoader(study.test, 5, 3, 2, episodes=1)[0]
    told = {
        name: classifier(episode.query_x) for name, classifier in by_shots(run, 3, None)(episode)
    }
    assert list(told) == ["1", "2", "3"]
    first = [index for index in range(15) if index % 3 < 2]
    direct = run.transfer.adapt(episode.support_x[first], episode.support_y[first], 5)(
        episode.query_x
    )
    torch.testing.assert_close(told["2"], direct)


def test_shots_go_as_far_as_the_recordings(outputs: Path, archive: Path) -> None:
    found = document(outputs, "fig6")
    most = max(row["shots"] for row in found["rows"] if row["panel"] == "error")
    test = me.load("double-nmnist", archive, "test")
    EpisodeLoader(test, 20, most, 4)
    with pytest.raises(UsageError):
        EpisodeLoader(test, 20, most + 1, 4)
    assert any(f"has recordings for {most} shots" in note for note in found["notes"])


# --- starting elsewhere ----------------------------------------------------------------------------------------------------


def test_a_task_starts_from_what_start_makes_of_the_meta_parameters(study: Study) -> None:
    maml, format = study.run("snn-maml").maml, FixedPoint(4, 3)
    rounded = variant(maml, start=lambda params: quantized(params, format))
    net = small().network(study.test.frame_shape)
    net.load_state_dict(quantized(maml.net.state_dict(), format))
    elsewhere = variant(maml, net)
    assert accuracy(rounded, study.test, 5, 1, 3, 2, 0) == accuracy(
        elsewhere, study.test, 5, 1, 3, 2, 0
    )


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_meta_gradient_passes_through_start(tasks: int, study: Study) -> None:
    net = small("cnn-maml").network(study.test.frame_shape)
    loader = EpisodeLoader(study.test, 5, 1, 2, episodes=2, batch_size=2, representation="sum")
    batch = loader[0]
    halved = MAML(
        net,
        MAMLConfig(inner_lr=0.1, tasks_at_once=tasks),
        start=lambda p: {n: v / 2 for n, v in p.items()},
    )
    through = halved.accumulate(
        batch.support_x, batch.support_y, batch.query_x, batch.query_y
    ).gradients
    net.load_state_dict({name: value / 2 for name, value in net.state_dict().items()})
    plain = MAML(net, MAMLConfig(inner_lr=0.1, tasks_at_once=tasks))
    gradients = plain.accumulate(
        batch.support_x, batch.support_y, batch.query_x, batch.query_y
    ).gradients
    for name, value in gradients.items():
        torch.testing.assert_close(through[name], value / 2)


# --- one's own -------------------------------------------------------------------------------------------------------------


def test_a_fourth_inner_update_takes_ten_lines(archive: Path, runs: Path, tmp_path: Path) -> None:
    run, dataset, out = runs / "snn-maml", me.load("double-nmnist", archive, "test"), tmp_path

    def sign_descent(params: Params, gradients: Params, step: int) -> Params:
        return {name: value - 0.01 * gradients[name].sign() for name, value in params.items()}

    learner = variant(baselines.load(run).model, update=sign_descent)
    report = me.evaluate(learner, dataset, "sample-5way-1shot", episodes=2, progress=False)
    rules = {
        "gradient": RULES["gradient"],
        "sign": Rule(update=lambda rate, generator: sign_descent),
    }
    reproduce(plasticity(rules), archive, out, runs=[run], **OPTIONS)

    assert report.deterministic
    rows = document(out, "plasticity")["rows"]
    assert [(row["rule"], row["meta-trained"]) for row in rows] == [
        ("gradient", "as it was"), ("gradient", "through the rule"), ("sign", "as it was"), ("sign", "through the rule"),
    ]  # fmt: skip


def test_a_rule_with_one_rate_gets_the_mean_of_the_learned_ones(
    archive: Path, runs: Path, tmp_path: Path
) -> None:
    given = []

    def update(rate: float, generator: torch.Generator) -> Any:
        given.append(rate)
        return own_update(baselines.load(runs / "snn-maml").model)

    reproduce(
        plasticity({"own": Rule(update=update)}),
        archive,
        tmp_path,
        runs=[runs / "snn-maml"],
        **OPTIONS,
    )
    rates = baselines.load(runs / "snn-maml").model.inner_lrs
    assert given[0] == pytest.approx(float(rates.detach().mean()))


def test_an_experiment_of_ones_own(archive: Path, tmp_path: Path) -> None:
    own = Experiment(
        name="mine",
        title="Mine",
        rows=lambda study: [{"x": 1, "classes": len(study.test)}, {"x": 2, "classes": 1 / 3}],
        plot=lambda figure, rows: figure.subplots().plot([row["x"] for row in rows]) and None,
        published=({"x": 1, "published": 20},),
    )
    reproduce(own, archive, tmp_path, **OPTIONS)
    assert document(tmp_path, "mine")["rows"] == [
        {"x": 1, "classes": 20, "published": 20},
        {"x": 2, "classes": 0.3333},
    ]


# --- errors ----------------------------------------------------------------------------------------------------------------


def test_the_command_line_knows_every_experiment() -> None:
    assert tuple(EXPERIMENTS) == _EXPERIMENTS


def test_all_runs_them_all(
    outputs: Path, archive: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--archive",
        archive,
        "--out",
        outputs,
        "--runs",
        runs,
        "--episodes",
        2,
        "--tuning",
        2,
        "--device",
        "cpu",
    ]
    assert main(["reproduce", "all", *map(str, words)]) == 0  # nothing is left to compute
    printed = capsys.readouterr().out
    for experiment in EXPERIMENTS.values():
        assert f"# {experiment.title}\n" in printed
        command = f"python -m baselines reproduce {experiment.name} --archive {archive} "
        assert document(outputs, experiment.name)["command"].startswith(command)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["fig7"], "invalid choice: 'fig7'"),
        (["fig3", "--archive", "nowhere.h5"], "nowhere.h5"),
        (["fig3", "--runs", "{empty}"], "no trained runs in"),
        (["fig3", "--episodes", "0"], "episodes=0; give at least 1"),
        (["fig3", "--device", "abacus"], "no device 'abacus'"),
    ],
)
def test_an_error_is_one_line(
    words: list[str],
    problem: str,
    archive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    words = [word.format(empty=empty) for word in words]
    defaults = {"--archive": str(archive), "--out": str(tmp_path)}
    for option, value in defaults.items():
        words += [] if option in words else [option, value]
    try:
        status = main(["reproduce", *words])
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    error = capsys.readouterr().err
    assert problem in error
    assert len(error.splitlines()) == 1


def test_unknown_names_and_foreign_cells_are_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no experiment 'fig7'; choose one of table2, fig3"):
        reproduce("fig7", archive, tmp_path)
    with pytest.raises(UsageError, match="budget 'huge'; choose one of quick, full"):
        reproduce("fig3", archive, tmp_path, budget="huge")
    with pytest.raises(MissingError):
        reproduce("fig3", tmp_path / "nowhere.h5", tmp_path)
    (tmp_path / "fig3.partial.json").write_text("[]", "utf-8")
    with pytest.raises(UsageError, match=r"fig3\.partial\.json is not what an experiment left"):
        reproduce("fig3", archive, tmp_path)


def test_weights_that_have_seen_the_test_are_refused(
    archive: Path, runs: Path, study: Study
) -> None:
    run = study.run("cnn-maml")
    record = run.learner.record
    seen = replace(record, trained=replace(record.trained, classes=study.test.classes))
    run = replace(run, learner=type(run.learner)(run.maml, run.config, seen))
    with pytest.raises(UsageError, match="the weights have seen the test split"):
        study.measure("test", lambda episode: (), [run])


def test_without_matplotlib_the_error_comes_before_the_work(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match="figures need matplotlib; `pip install matplotlib`"):
        reproduce("fig3", archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
