"""Golden fingerprints and episode digests of the simulated archives.

They change only together with a protocol version, the version of the episode stream, or the
simulator. `python tests/test_golden.py` prints their present values.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from support.archives import build_in

import metaevents as me
from metaevents.simulation.writers import simulate_recordings, write_asl_dvs

SETTINGS = {
    "test": {"split": "test"},
    "train": {"split": "train"},
    "published pairing": {"split": "test", "pairing": "published"},
    "novel components": {"split": "val", "classes": "novel-components"},
}
GOLDEN: dict[str, dict[str, str]] = {
    "double-nmnist": {
        "fingerprint": "bafe8be38950e877bf1ea36edb1bfaf8a62f6d931de8242c54ab5c694ec86b9f",
        "test, 5-way 1-shot": "18b1c703d7e448394ab07dc052e25cc6",
        "test, 4-way 2-shot, seed 7": "14886b1ab795e82e1640de7e6f663894",
        "train, 5-way 1-shot": "088daaa5e64f0789c643e2ec4cbcaf8b",
        "train, 4-way 2-shot, seed 7": "cebb21ee8b5c8bbb6f6d66f8abc2ee97",
        "published pairing, 5-way 1-shot": "d731878c4c108753ba57495af4192694",
        "published pairing, 4-way 2-shot, seed 7": "fd7bf040164c3ad6f04b69341a9381d0",
        "novel components, 5-way 1-shot": "31d9b56a539bd7b1f34a5ea78bc6a3da",
        "novel components, 4-way 2-shot, seed 7": "3158813db019d0094e6aaca536b9702b",
        "frames": "14cfaa4e5ee63cabcef439502ff23204",
    },
    "double-asl-dvs": {
        "fingerprint": "14cb7e95f0eb01c84358308dfb45bb4901b570561222465aa487d618fd87cac3",
        "train, 5-way 1-shot": "7d550eb3d829d10ad08f1bb4636e49c1",
        "train, 4-way 2-shot, seed 7": "8c021e8e504d45fff3779e5be0091b5f",
        "published pairing, 5-way 1-shot": "0e5affd2fefa36962d659cf086285cc2",
        "published pairing, 4-way 2-shot, seed 7": "833a77a6899ebbee478c1070f322f5c8",
        "frames": "bf11764c18746c67d5f13614d36be1bc",
    },
    "sample": {"fingerprint": "f4fbbcd28b9529c8e0d5055940edccff0f5c403b8940c8159d51b3897dcc99b1"},
}


def stream(dataset: me.ComposedDataset, ways: int, shots: int, queries: int, seed: int) -> str:
    """One digest over the digests of the first twenty episodes."""
    loader = me.EpisodeLoader(
        dataset, ways, shots, queries, episodes=20, seed=seed, representation="sum"
    )
    return hashlib.sha256("".join(episode.digest() for episode in loader).encode()).hexdigest()[:32]


def digests(name: str, root: Path, queries: int) -> dict[str, str]:
    """The fingerprint of an archive, digests of its episodes and of one sample's frames."""
    values = {"fingerprint": me.load(name, root).fingerprint}
    for title, options in SETTINGS.items():
        if name == "double-asl-dvs" and title in ("test", "novel components"):
            continue  # two files per letter are too few
        dataset = me.load(name, root, **options)  # type: ignore[arg-type]
        values[f"{title}, 5-way 1-shot"] = stream(dataset, 5, 1, queries, seed=0)
        values[f"{title}, 4-way 2-shot, seed 7"] = stream(dataset, 4, 2, queries, seed=7)
    frames = me.load(name, root, split="train").frames(0, 0, 1).to(int)  # type: ignore[arg-type]
    values["frames"] = hashlib.sha256(frames.numpy().tobytes()).hexdigest()[:32]
    return values


def asl_root(root: Path) -> Path:
    """A folder with the archive of a few simulated hands."""
    return build_in(root, "double-asl-dvs", write_asl_dvs(root / "raw", files=10))


def test_double_nmnist_is_golden(simulated_root: Path) -> None:
    assert digests("double-nmnist", simulated_root, queries=10) == GOLDEN["double-nmnist"]


def test_double_asl_dvs_is_golden(tmp_path: Path) -> None:
    assert digests("double-asl-dvs", asl_root(tmp_path), queries=2) == GOLDEN["double-asl-dvs"]


def test_the_samples_fingerprint_is_golden(sample_root: Path) -> None:
    assert me.DoubleNMNIST(sample_root).fingerprint == GOLDEN["sample"]["fingerprint"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        build_in(root, "double-nmnist", simulate_recordings("double-nmnist", root))
        print({"double-nmnist": digests("double-nmnist", root, 10)})
        print({"double-asl-dvs": digests("double-asl-dvs", asl_root(root / "asl"), 2)})
