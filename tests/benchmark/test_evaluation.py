"""evaluate: the episodes of a protocol, trials, worker processes, torchrun, and the command."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.simple_learners import PROTOCOL, ClassMeans, OnSums, evaluate, first_cells
from support.torchrun import python, torchrun

import metaevents as me
from metaevents.benchmark.leaderboard import tables
from metaevents.benchmark.protocols import bind
from metaevents.benchmark.render_html import render_html
from metaevents.benchmark.render_markdown import render_markdown
from metaevents.benchmark.trivial import TRIVIAL_BASELINES
from metaevents.benchmark.validation import validate
from metaevents.errors import UsageError


def test_accuracy_is_that_of_the_loaders_episodes(digits: me.DoubleNMNIST) -> None:
    report = evaluate(ClassMeans(), digits, episodes=6)
    loader = me.EpisodeLoader(
        digits, 5, 1, 10, episodes=6, seed=0, representation="sum", division="episode"
    )
    per_episode, of_class = [], {}
    for ep in loader:
        arrays = ep.numpy()
        scores = ClassMeans().adapt(arrays["support_x"], arrays["support_y"], 5)(arrays["query_x"])
        right = scores.argmax(axis=1) == arrays["query_y"]
        per_episode.append(right.mean())
        for label, hit in zip(arrays["query_y"], right, strict=True):
            of_class.setdefault(ep.classes[label], []).append(hit)
    assert report.per_episode == per_episode
    assert report.accuracy == pytest.approx(np.mean(per_episode))
    assert report.per_class == {
        name: pytest.approx(np.mean(hits)) for name, hits in sorted(of_class.items())
    }
    assert report.accuracy > 0.3
    assert 0 < report.episode_ci95 <= report.ci95 < 1


def test_the_protocol_itself_has_no_deviations(digits: me.DoubleNMNIST) -> None:
    report = evaluate(OnSums(first_cells), digits, episodes=None)
    assert report.is_protocol
    assert report.deviations == []
    assert len(report.per_episode) == 600
    assert report.protocol == bind(PROTOCOL, digits)
    assert report.archive == {
        "fingerprint": digits.fingerprint, "source": "n-mnist-subset", "simulated": False,
        "recordings": 440,
    }  # fmt: skip


def test_other_numbers_and_other_splits_are_reported_as_deviations(
    digits_root: Path,
) -> None:
    val = me.DoubleNMNIST(digits_root, split="val")
    report = evaluate(OnSums(first_cells), val, queries=3)
    assert not report.is_protocol
    assert set(report.deviations) == {
        "split=val instead of test", "queries=3 instead of 10", "episodes=4 instead of 600"
    }  # fmt: skip
    assert report.predictions is not None
    assert report.predictions.labels.shape == (4, 15)


def test_an_archive_too_small_for_a_protocol_is_refused_with_the_one_that_fits(
    digits: me.DoubleNMNIST,
) -> None:
    with pytest.raises(
        UsageError,
        match=r"queries=14 would fit.*'sample-5way-1shot' \(10 queries per class\) fits this",
    ):
        me.evaluate(ClassMeans(), digits, protocol="5way-1shot")


def test_unknown_protocols_are_refused_with_the_known_ones(digits: me.DoubleNMNIST) -> None:
    with pytest.raises(UsageError, match="no protocol '5-way'; choose one of 5way-1shot"):
        me.evaluate(ClassMeans(), digits, protocol="5-way")


def test_composed_datasets_have_protocols_of_their_own(digits_root: Path) -> None:
    triple = me.compose(
        digits_root / "double-nmnist.h5", arity=3, split="test", crop=(32, 32), downsample=2,
        bins=10,
        splits={"train": ["012"], "test": ["345", "678", "999", "036", "147"]},
    )  # fmt: skip
    report = evaluate(ClassMeans(), triple)
    assert report.deviations == [f"episodes={report.protocol.episodes} instead of 600"]
    assert set(report.per_class) == {"345", "678", "999", "036", "147"}
    assert 0 < report.ci95 <= 1


def test_trials_run_on_disjoint_streams(digits: me.DoubleNMNIST) -> None:
    report = evaluate(ClassMeans(), digits, episodes=5, trials=3)
    expected = []
    for seed in (0, 1, 2):
        hits = []
        for ep in me.EpisodeLoader(
            digits, 5, 1, 10, episodes=5, seed=seed, representation="sum", division="episode"
        ):
            arrays = ep.numpy()
            scores = ClassMeans().adapt(arrays["support_x"], arrays["support_y"], 5)(
                arrays["query_x"]
            )
            hits.append((scores.argmax(axis=1) == arrays["query_y"]).mean())
        expected.append(np.mean(hits))
    assert report.trials is not None
    assert report.trials["seeds"] == 3
    assert report.trials["accuracies"] == pytest.approx(expected)
    assert report.trials["mean"] == pytest.approx(np.mean(expected))
    assert report.trials["deviation"] == pytest.approx(np.std(expected, ddof=1))
    assert report.accuracy == pytest.approx(expected[0])


def test_worker_processes_change_nothing(digits: me.DoubleNMNIST) -> None:
    without, with_workers = (
        evaluate(ClassMeans(), digits, episodes=6, workers=workers) for workers in (0, 2)
    )
    assert without.predictions is not None
    assert with_workers.predictions is not None
    np.testing.assert_array_equal(without.predictions.scores, with_workers.predictions.scores)


def test_torchrun_gives_the_predictions_and_accuracies_of_one_process(
    digits_root: Path, method_folder: Path
) -> None:
    command = ("-m", "metaevents", "evaluate", "my_method:ClassMeans", "--archive", digits_root,
               "--protocol", PROTOCOL, "--episodes", 7, "--json")  # fmt: skip
    alone = python(*command, "--predictions", "alone.npz", cwd=method_folder)
    shared = torchrun(*command, "--predictions", "shared.npz", cwd=method_folder)
    assert alone.returncode == 0, alone.stderr
    assert shared.returncode == 0, shared.stderr
    files = [(method_folder / name).read_bytes() for name in ("alone.npz", "shared.npz")]
    assert files[0] == files[1]
    reports = [json.loads(done.stdout) for done in (alone, shared)]
    for report in reports:
        del report["time"], report["peak_memory_mb"]
    assert reports[0] == reports[1]


def test_an_initialized_process_group_is_used_and_stays(
    digits_root: Path, method_folder: Path
) -> None:
    (method_folder / "script.py").write_text(
        "import json, sys\nimport torch.distributed as dist\nimport metaevents as me\n"
        "import my_method\n"
        "dist.init_process_group('gloo')\n"
        "ds = me.DoubleNMNIST(sys.argv[1], split='test')\n"
        "reports = [me.evaluate(my_method.ready, ds, 'sample-5way-1shot', episodes=n)"
        " for n in (5, 1)]\n"
        "assert dist.is_initialized()\n"
        # One write, so that the lines of both processes do not mix.
        "sys.stdout.write(json.dumps([report.per_episode for report in reports]) + '\\n')\n"
        "dist.destroy_process_group()\n",
        "utf-8",
    )
    done = torchrun("script.py", digits_root, cwd=method_folder)
    assert done.returncode == 0, done.stderr
    ds = me.DoubleNMNIST(digits_root, split="test")
    expected = [evaluate(ClassMeans(), ds, episodes=n).per_episode for n in (5, 1)]
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[[")]
    assert printed == [expected, expected]


def test_a_failure_in_one_process_ends_all(digits_root: Path, method_folder: Path) -> None:
    (method_folder / "half.py").write_text(
        "import os\nimport my_method\n\n"
        "class Half(my_method.ClassMeans):\n"
        "    def adapt(self, *given):\n"
        "        if os.environ['RANK'] == '1':\n"
        "            raise RuntimeError('no weights')\n"
        "        return super().adapt(*given)\n",
        "utf-8",
    )
    done = torchrun(
        "-m", "metaevents", "evaluate", "half:Half", "--archive", digits_root,
        "--protocol", PROTOCOL, "--episodes", 4, cwd=method_folder,
    )  # fmt: skip
    assert done.returncode != 0
    assert "episode 1: the learner failed in adapt: RuntimeError: no weights" in done.stderr


def test_the_command_writes_an_entry_and_its_predictions(
    digits_root: Path, method_folder: Path
) -> None:
    done = python(
        "-m", "metaevents", "evaluate", "my_method:factory",
        "--archive", digits_root / "double-nmnist.h5", "--protocol", PROTOCOL, "--episodes", 3,
        "--classes", "novel-components", "--pairing", "published", "--out", "entry.json",
        "--name", "Class means", "--authors", "A. Author", "B. Author", cwd=method_folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "NOT THE PROTOCOL: episodes=3 instead of 600" in done.stdout
    entry = json.loads((method_folder / "entry.json").read_text("utf-8"))
    assert entry["method"]["authors"] == ["A. Author", "B. Author"]
    assert entry["method"]["command"].startswith("metaevents evaluate my_method:factory --archive ")
    assert entry["report"]["learner"] == "my_method:factory"
    assert entry["report"]["protocol"]["classes"] == "novel-components"
    assert entry["report"]["protocol"]["pairing"] == "published"
    assert (method_folder / "predictions.npz").is_file()


def test_a_missing_folder_for_the_entry_is_reported_before_the_work(
    digits_root: Path, method_folder: Path
) -> None:
    done = python(
        "-m", "metaevents", "evaluate", "my_method:ClassMeans", "--archive", digits_root,
        "--out", "nowhere/entry.json", cwd=method_folder,
    )  # fmt: skip
    assert done.returncode == 2
    assert "nowhere" in done.stderr


class Plastic:
    """Learns by gradients, with tensors of torch's default device and dtype where they matter."""

    representation = "sum"

    def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
        features = x.flatten(1).float()
        weight = torch.zeros(
            features.shape[1], ways, dtype=torch.float32, device="cpu", requires_grad=True
        )
        loss = torch.nn.functional.cross_entropy(features @ weight, y)
        (gradient,) = torch.autograd.grad(loss, weight)
        return lambda query_x: query_x.flatten(1).float() @ (weight - gradient)


def same(left: me.Report, right: me.Report) -> bool:
    """Whether two reports agree in all but time and memory."""
    documents = [
        {k: v for k, v in report.to_dict().items() if k not in ("time", "peak_memory_mb")}
        for report in (left, right)
    ]
    return documents[0] == documents[1]


@contextmanager
def defaults(device: str = "cpu", dtype: torch.dtype = torch.float32) -> Iterator[None]:
    torch.set_default_device(device)
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


MODES: list[Callable[[], Any]] = [
    torch.inference_mode,
    torch.no_grad,
    lambda: defaults("meta"),
    lambda: defaults(dtype=torch.float64),
    lambda: defaults(dtype=torch.bfloat16),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("workers", [0, 2])
def test_modes_and_defaults_of_torch_change_no_report(
    digits: me.DoubleNMNIST, mode: Callable[[], Any], workers: int
) -> None:
    expected = evaluate(Plastic(), digits)
    with mode():
        assert same(evaluate(Plastic(), digits, workers=workers), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["chance", "prototypes", "logistic-regression"])
def test_modes_and_defaults_of_torch_change_no_trivial_baseline(
    digits: me.DoubleNMNIST, mode: Callable[[], Any], name: str
) -> None:
    expected = evaluate(TRIVIAL_BASELINES[name](digits), digits, episodes=2)
    with mode():
        assert same(evaluate(TRIVIAL_BASELINES[name](digits), digits, episodes=2), expected)


def test_evaluations_in_several_threads_are_those_of_one(digits: me.DoubleNMNIST) -> None:
    class Noisy(OnSums):
        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            weights = torch.rand(1000, ways)
            time.sleep(0.01)
            noise = torch.rand(ways)
            return lambda query_x: query_x.flatten(1)[:, :1000].float() @ weights + noise

    expected = evaluate(Noisy(first_cells), digits)
    assert expected.deterministic
    with ThreadPoolExecutor(3) as threads:
        reports = list(threads.map(lambda _: evaluate(Noisy(first_cells), digits), range(3)))
    assert all(same(report, expected) for report in reports)


def test_a_learner_may_evaluate_another(digits: me.DoubleNMNIST) -> None:
    def learner(x: Any, y: Any, ways: int) -> Any:
        accuracy = evaluate(ClassMeans(), digits, episodes=1).accuracy
        return lambda query_x: np.full((len(query_x), ways), accuracy)

    assert 0 <= evaluate(learner, digits, episodes=1).accuracy <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": 0}, "episodes=0"),
        ({"episodes": 3.0}, "episodes=3.0"),
        ({"episodes": True}, "episodes=True"),
        ({"episodes": "3"}, "episodes='3'"),
        ({"episodes": 10**12}, "episodes=1000000000000"),
        ({"queries": 10**18}, "queries"),
        ({"queries": 999_999_999}, "queries"),
        ({"queries": -1}, "queries=-1"),
        ({"queries": float("nan")}, "queries=nan"),
        ({"trials": 0}, "trials=0"),
        ({"trials": 2.0}, "trials=2.0"),
        ({"workers": -1}, "workers=-1"),
        ({"workers": 10**9}, "workers=1000000000"),
        ({"workers": None}, "workers=None"),
        ({"protocol": 5}, "no protocol '5'"),
        ({"protocol": ["5way-1shot"]}, "no protocol"),
        ({"protocol": "x" * 10_000}, "no protocol 'xxx"),
    ],
)
def test_odd_arguments_are_refused_before_the_work(
    digits: me.DoubleNMNIST, options: dict[str, Any], message: str
) -> None:
    def learner(x: Any, y: Any, ways: int) -> Any:
        pytest.fail("the learner was called")

    start = time.perf_counter()
    with pytest.raises(UsageError, match=message):
        evaluate(learner, digits, **{"episodes": 1, **options})
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("pairing", ["all", "published"])
def test_absurd_numbers_of_queries_are_refused_by_arithmetic(
    digits_root: Path, pairing: str
) -> None:
    ds = me.DoubleNMNIST(digits_root, split="test", pairing=pairing)
    for queries in (10**6, 10**9, 10**18):
        with pytest.raises(UsageError, match="queries"):
            evaluate(ClassMeans(), ds, queries=queries)


def test_numbers_of_numpy_are_those_of_python(digits: me.DoubleNMNIST) -> None:
    report = evaluate(
        ClassMeans(), digits, episodes=np.int64(3), queries=np.uint8(4), trials=np.int32(1)
    )
    assert same(report, evaluate(ClassMeans(), digits, episodes=3, queries=4))


def test_what_is_no_dataset_is_refused(digits_root: Path) -> None:
    with pytest.raises(UsageError, match="the dataset is str, expected the test split"):
        me.evaluate(ClassMeans(), str(digits_root))  # type: ignore[arg-type]


def test_a_wrong_method_field_is_reported_before_the_work(
    digits_root: Path, method_folder: Path
) -> None:
    done = python(
        "-m", "metaevents", "evaluate", "my_method:fails", "--archive", digits_root,
        "--protocol", PROTOCOL, "--commit", "main", cwd=method_folder,
    )  # fmt: skip
    assert done.returncode == 2
    assert 'method.commit is "main", expected the commit of the code' in done.stderr


def test_a_command_without_the_probe_gives_an_entry_that_says_so(
    digits_root: Path, method_folder: Path
) -> None:
    words = ("-m", "metaevents", "evaluate", "my_method:ClassMeans", "--archive", digits_root,
             "--protocol", PROTOCOL, "--no-probe", "--out", "entry.json",
             "--name", "Class means", "--authors", "A. Author", "--code", "https://example.org",
             "--commit", "1.0.0", "--other-data", "none", "--hardware", "a CPU")  # fmt: skip
    done = python(*words, cwd=method_folder)
    assert done.returncode == 0, done.stderr
    assert "setting       not probed" in done.stdout
    entry = method_folder / "entry.json"
    document = json.loads(entry.read_text("utf-8"))
    assert document["method"]["command"].endswith(" --no-probe")
    for field in ("transductive", "stateful", "deterministic"):
        assert document["report"][field] is None
    assert document["report"]["time"]["probe_s"] is None
    result = validate(entry)
    assert result.entry.setting == "not probed"
    assert any(remark.startswith("not probed: ") for remark in result.remarks)
    (shown,) = tables([result.entry])
    assert "not probed" in render_markdown([shown])
    page = render_html([shown])
    assert "not probed: evaluated with the option --no-probe" in page
    assert "not deterministic" not in page
