"""The GPU's part of cards/performance.md, made from what `tests/gpu/run.sh` wrote.

python tests/gpu/card.py            # writes the part
python tests/gpu/card.py --check    # fails if it is out of date
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaevents.benchmark.markdown import table
from metaevents.generated_files import with_part

RESULTS = Path(__file__).parent / "results.json"
CARD = Path(__file__).parents[2] / "cards" / "performance.md"
MARK = "<!-- from tests/gpu/results.json by tests/gpu/card.py -->"

NOT_MEASURED = "not measured"


def part(results: Mapping[str, Any]) -> str:
    """Return the generated part.

    Args:
        results: What `tests/gpu/bench.py` wrote; a part that is missing was not measured.
    """
    device, torch, triton, recordings = (
        results.get(name, NOT_MEASURED) for name in ("device", "torch", "triton", "recordings")
    )
    lines = [
        f"Device: {device}, torch {torch}, Triton {triton}. Recordings: {recordings}. All times "
        "are medians in milliseconds of wall time.",
        "",
        *episodes(results.get("episodes", {})),
        "",
        *steps(results.get("steps", {})),
        "",
        *validation(results.get("validation", {}), results.get("training", {})),
        *script(results.get("tests", {}), results.get("seconds", {})),
    ]
    return "\n".join(lines)


def episodes(measured: Mapping[str, Any]) -> list[str]:
    """Return the table of the loader."""
    rows = [
        [
            form,
            f"{each['gpu_ms']:.2f}",
            f"{each['cpu_and_copy_ms']:.2f}",
            f"{each['cpu_and_copy_ms'] / each['gpu_ms']:.1f}",
            f"{each['zeros_ms']:.3f}",
        ]
        for form, each in measured.items()
    ]
    if not rows:
        return [f"Episodes on a GPU: {NOT_MEASURED}."]
    head = [
        "Episode of 55 samples",
        "filled by the GPU",
        "by the CPU, copied",
        "times",
        "zeros alone",
    ]
    return table(head, rows).splitlines()


def steps(measured: Mapping[str, Any]) -> list[str]:
    """Return the table of outer steps."""
    if not measured:
        return [f"Outer steps on a GPU: {NOT_MEASURED}."]
    peer = measured["step by step"]["ms"]
    rows = [
        [
            name,
            f"{each['ms']:.1f}",
            f"{each['load_ms']:.1f}",
            f"{peer / each['ms']:.0f}"
            if name.startswith("snn-maml paper") and "=4" not in name
            else "",
            f"{each['peak_memory_mb']:.0f}",
        ]
        for name, each in measured.items()
        if name != "step by step"
    ]
    head = [
        "Outer step: model, recipe, changes",
        "per step",
        "of it loading, alone",
        "times faster than step by step",
        "peak memory in MB",
    ]
    return [
        *table(head, rows).splitlines(),
        "",
        f"The network that runs step by step takes {peer:.0f} ms. It computes the same equations "
        "with operations of torch, which are launched one by one.",
    ]


def validation(measured: Mapping[str, Any], training: Mapping[str, Any]) -> list[str]:
    """Return the sentences about validation and the short training."""
    if not measured or not training:
        return [f"Validation and a short training on a GPU: {NOT_MEASURED}."]
    each = "; ".join(f"{name} {one['ms']:.1f} ms" for name, one in measured.items())
    return [
        f"A validation episode of 50 queries: {each}.",
        "",
        f"{training['steps']} steps of the paper's recipe with two validations of "
        f"{training['val_episodes']} episodes: {training['seconds']:.1f} s.",
    ]


def script(tests: Mapping[str, Any], seconds: Mapping[str, float]) -> list[str]:
    """Return the sentence about the tests and the time of the whole script.

    Raises:
        SystemExit: A test failed.
    """
    if not tests:
        return []
    if tests["failed"]:
        raise SystemExit(
            f"{RESULTS}: {tests['failed']} tests failed; figures are published when all tests pass"
        )
    return [
        "",
        f"{tests['passed']} tests for a GPU passed. The script took "
        f"{tests['seconds'] + sum(seconds.values()):.0f} s, {tests['seconds']:.0f} of them for the "
        "tests.",
    ]


def main() -> None:
    """Write the part, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    text = CARD.read_text("utf-8")
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    renewed = with_part(text, MARK, part(results), CARD)
    if options.check:
        if renewed != text:
            raise SystemExit(f"{CARD} is out of date; run python tests/gpu/card.py")
        return
    CARD.write_text(renewed, "utf-8")


if __name__ == "__main__":
    main()
