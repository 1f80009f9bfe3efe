"""Speed on a GPU: episodes, training steps, validation and a short training, into one JSON file.

    python tests/gpu/bench.py --out gpu.json [--archive double-nmnist.h5] [--parts episodes steps]
                              [--profile]

Without an archive it builds one of simulated recordings in a temporary folder. The parts:

episodes    one 5-way 1-shot episode with 10 queries, 55 samples of [100, 2, 16, 32], beside the
            same episode filled by the CPU and copied, and beside filling that memory with zeros
steps       one outer step, loading included, for models, precisions and numbers of tasks, beside
            the same step of a network that runs all layers one time step after another
validation  one validation episode: adaptation and classification of 50 queries
training    200 steps of the paper's recipe with two validations of 50 episodes

Every number is a median of repetitions, in milliseconds of wall time with the GPU synchronized.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

import metaevents as me
from baselines.config import RunConfig, recipe
from baselines.models import build_maml, build_network
from baselines.precision import arithmetic
from baselines.training.loop import TrainingRun, train
from baselines.training.step import GraphedSteps
from metaevents.episodes import EpisodeLoader

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))

PARTS = ("episodes", "steps", "validation", "training")

# Model, recipe, and what of it is changed.
STEPS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("snn-maml", "paper", {}),
    ("snn-maml", "paper", {"precision": "tf32"}),
    ("snn-maml", "paper", {"precision": "bfloat16"}),
    ("snn-maml", "paper", {"meta_batch_size": 4}),
    ("snn-maml", "paper", {"precision": "tf32", "meta_batch_size": 4}),
    ("snn-maml", "paper", {"precision": "bfloat16", "meta_batch_size": 4}),
    ("snn-maml", "best", {}),
    ("snn-fomaml", "paper", {}),
    ("snn-fomaml", "best", {}),
    ("snn-transfer", "best", {}),
    ("cnn-maml", "best", {}),
    ("cnn-transfer", "best", {}),
)


def timed(function: Callable[[], Any], repetitions: int, warm_up: int = 3) -> float:
    """Return the median of the milliseconds that a call takes, until the GPU has finished."""
    times = []
    for repetition in range(repetitions + warm_up):
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        torch.cuda.synchronize()
        if repetition >= warm_up:
            times.append(1000 * (time.perf_counter() - start))
    return median(times)


def back_to_back(function: Callable[[int], Any], calls: int, first: int = 0) -> float:
    """Return the milliseconds per call of many calls, as in a loop that never waits."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for call in range(first, first + calls):
        function(call)
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start) / calls


def episodes(archive: Path) -> dict[str, Any]:
    """Measure the loader."""
    dataset = me.load("double-nmnist", archive, "train")
    return {
        f"{representation} {str(dtype).removeprefix('torch.')}": one_form(
            dataset, representation, dtype
        )
        for representation in ("frames", "sum")
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.uint8)
    }


def one_form(
    dataset: me.ComposedDataset, representation: str, dtype: torch.dtype
) -> dict[str, float]:
    """Measure one representation and dtype; the frames must be those of the CPU, bit for bit."""
    options: dict[str, Any] = {"representation": representation, "dtype": dtype}
    here = EpisodeLoader(dataset, 5, 1, 10, episodes=10_000, **options)
    there = EpisodeLoader(dataset, 5, 1, 10, episodes=10_000, device="cuda", **options)
    for number in range(3):
        for part in ("support_x", "query_x", "support_y", "query_y"):
            one, other = (getattr(loader[number], part) for loader in (here, there))
            assert other.is_cuda
            assert torch.equal(one, other.cpu()), (representation, dtype, part)
    shape = (55, *there[0].support_x.shape[1:])
    stream = iter(there)
    for _ in range(300):  # a processor starts slowly
        next(stream)
    return {
        "gpu_ms": timed(lambda: next(stream), 200),
        "gpu_ms_back_to_back": back_to_back(lambda _: next(stream), 500),
        "cpu_and_copy_ms": timed(lambda: here[5].pin_memory().to("cuda", non_blocking=True), 30),
        "zeros_ms": timed(lambda: torch.zeros(shape, dtype=dtype, device="cuda"), 200),
    }


def steps(archive: Path, out: Path, profile: bool) -> dict[str, Any]:
    """Measure outer steps."""
    results: dict[str, Any] = {}
    for number, (model, name, changes) in enumerate(STEPS):
        label = " ".join([model, name, *(f"{field}={value}" for field, value in changes.items())])
        config = recipe(model, name, steps=10_000, pretrain_steps=0, **changes)
        shown = label if profile and number < 3 else None
        results[label] = one_step(config, archive, out / str(number), shown)
        print(label, results[label], flush=True)
        torch.cuda.empty_cache()
    results["step by step"] = {"ms": peer(archive)}
    return results


def one_step(config: RunConfig, archive: Path, out: Path, shown: str | None) -> dict[str, Any]:
    """Measure the steps of one configuration; print its kernels under the title `shown`."""
    torch.cuda.reset_peak_memory_stats()
    run = TrainingRun(config, archive, out, device="cuda", progress=False)
    taken, share = run._new_steps(), range(config.meta_batch_size)
    assert isinstance(taken, GraphedSteps)
    with arithmetic(config.precision):
        for step in range(6):
            taken.take(step)
        per_step = [back_to_back(taken.take, 30, 6 + 30 * part) for part in range(4)]
        batch = run._objective.load(0, range(run._objective.samples))
        if shown is not None:
            show_kernels(lambda: [taken._run(*batch) for _ in range(5)], shown)
        return {
            "ms": median(per_step),
            "graphed": taken._run.graphed,
            "replay_ms": timed(lambda: taken._run(*batch), 20),
            "load_ms": back_to_back(lambda step: run._objective.load(step, share), 50),
            "peak_memory_mb": torch.cuda.max_memory_allocated() / 1e6,
        }


def show_kernels(function: Callable[[], Any], label: str) -> None:
    """Print the kernels that take the longest."""
    from torch.profiler import ProfilerActivity, profile

    function()
    with profile(activities=[ProfilerActivity.CUDA]) as measured:
        function()
        torch.cuda.synchronize()
    print(label)
    kernels = sorted(measured.key_averages(), key=lambda each: -each.self_device_time_total)
    for kernel in kernels[:40]:
        name = kernel.key.replace("at::native::", "").replace("(anonymous namespace)::", "")
        print(f"{kernel.self_device_time_total:9.0f} us {kernel.count:5d} {name[:200]}")


def peer(archive: Path) -> float:
    """Return the milliseconds per outer step of the network that runs step by step."""
    from bench_maml_step import StepByStep, peer_step

    dataset = me.load("double-nmnist", archive, "train")
    episode = EpisodeLoader(dataset, 5, 1, 10, device="cuda")[0]
    net = StepByStep("max").to("cuda")
    data = episode.support_x, episode.support_y, episode.query_x, episode.query_y
    return timed(lambda: peer_step(net, *data), 5, 2)


def validation(archive: Path) -> dict[str, Any]:
    """Measure validation episodes of learners with initial weights."""
    dataset = me.load("double-nmnist", archive, "val")
    results: dict[str, Any] = {}
    for model, name in (("snn-maml", "paper"), ("snn-maml", "best"), ("cnn-maml", "best")):
        config = recipe(model, name)
        learner = build_maml(config, build_network(config, dataset.frame_shape)).to("cuda")
        loader = EpisodeLoader(
            dataset, 5, 1, 10, device="cuda", representation=learner.representation
        )

        def answer(index: int, loader: Any = loader, learner: Any = learner) -> torch.Tensor:
            episode = loader[index]
            classifier = learner.adapt(episode.support_x, episode.support_y, 5)
            return classifier(episode.query_x).argmax(-1).cpu()

        with arithmetic("float32"):
            for index in range(8):
                answer(index)
            results[f"{model} {name}"] = {"ms": back_to_back(answer, 50, 8)}
    return results


def training(archive: Path, out: Path) -> dict[str, Any]:
    """Measure a short training with validation."""
    config = recipe("snn-maml", "paper", steps=200, val_every=100, val_episodes=50)
    start = time.perf_counter()
    result = train(config, archive, out / "training", device="cuda", progress=False)
    assert result is not None
    return {
        "seconds": time.perf_counter() - start,
        "steps": config.steps,
        "val_episodes": config.val_episodes,
        "val_accuracy": result["val_accuracy"],
    }


def simulated_archive(folder: Path) -> Path:
    """Build an archive of simulated recordings."""
    from metaevents.quickstart import quickstart

    quickstart(folder)
    return folder / "double-nmnist.h5"


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--profile", action="store_true", help="print the longest kernels")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; run this on a machine with one")
    import triton

    with tempfile.TemporaryDirectory() as folder:
        archive = options.archive or simulated_archive(Path(folder) / "data")
        results: dict[str, Any] = {
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "triton": triton.__version__,
            "python": platform.python_version(),
            "recordings": "simulated" if options.archive is None else "sample",
            "seconds": {},
        }
        for part in options.parts:
            start = time.perf_counter()
            results[part] = {
                "episodes": lambda: episodes(archive),
                "steps": lambda: steps(archive, Path(folder) / "steps", options.profile),
                "validation": lambda: validation(archive),
                "training": lambda: training(archive, Path(folder)),
            }[part]()
            results["seconds"][part] = time.perf_counter() - start
            print(f"{part}: {results['seconds'][part]:.1f} s", flush=True)
            options.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
