"""The full-size measurements run; here with a hundredth of the recordings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "full_size" / "run.py"


@pytest.mark.attack
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.skipif("METAEVENTS_NMNIST_SAMPLE" not in os.environ, reason="needs recordings")
def test_the_measurements_of_double_nmnist_run(tmp_path: Path) -> None:
    words = ["--work", tmp_path, "--nmnist", os.environ["METAEVENTS_NMNIST_SAMPLE"]]
    words += ["--dataset", "double-nmnist", "--fractions", "0.01", "0.02", "--episodes", "300"]
    words += ["--every", "0.05"]
    subprocess.run([sys.executable, SCRIPT, *words], check=True, timeout=1200)
    results = json.loads((tmp_path / "results.json").read_text())["double-nmnist"]
    assert [build["recordings"] for build in results["build"]] == [700, 1400]
    assert results["workers-threads"]["episodes"] == 300
    assert results["workers-threads"]["samples"][0]["processes"] == 1
    assert results["workers-processes"]["samples"][-1]["processes"] == 5
    for kind in ("threads", "processes"):
        files = results[f"workers-{kind}"]["growth"]["files"]
        assert files["last_tenth"] <= files["second_tenth"] + 2
