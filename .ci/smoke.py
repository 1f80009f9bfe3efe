"""A short test of an installed package: `python .ci/smoke.py FOLDER`.

FOLDER is what `metaevents quickstart --out FOLDER` wrote. Fingerprint and episode digests of its
archive must be those of tests/test_golden.py, whatever the interpreter and the versions are. A
trained baseline must load and classify. It needs no test library.
"""

from __future__ import annotations

import importlib.util
import platform
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("numpy", "h5py", "scipy", "torch", "numba", "scikit-learn")


def main(folder: Path) -> None:
    """Print versions, fingerprint and digests; raise an error if one differs."""
    import baselines
    import metaevents as me

    sys.path.insert(0, str(ROOT / "tests"))
    from test_golden import GOLDEN, digests

    installed = " ".join(f"{name} {version(name)}" for name in PACKAGES)
    tonic = "with tonic" if importlib.util.find_spec("tonic") else "without tonic"
    print(f"Python {platform.python_version()}, {tonic}: {installed}")
    assert ROOT not in Path(me.__file__).parents, f"{me.__file__} is not the installed package"
    found = digests("double-nmnist", folder, queries=10)
    for name, expected in GOLDEN["double-nmnist"].items():
        print(f"  {name}: {found[name]}")
        assert found[name] == expected, f"{name} is {found[name]}; it should be {expected}"
    dataset = me.DoubleNMNIST(folder, split="test")
    learner = baselines.load("cnn-maml", dataset="double-nmnist")
    report = me.evaluate(learner, dataset, "sample-5way-1shot", episodes=2, progress=False)
    print(f"  cnn-maml: {report.accuracy:.1%} on two episodes of simulated recordings")
    assert report.accuracy > 0.2, "chance is 20 %"


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
