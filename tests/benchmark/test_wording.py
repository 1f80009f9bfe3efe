"""Sentences of the leaderboard."""

from __future__ import annotations

from metaevents.benchmark.wording import trained_on


def test_what_weights_were_trained_on_is_said_in_words() -> None:
    seen = {
        "dataset": "double-nmnist",
        "source": "n-mnist-subset",
        "fingerprint": "f" * 64,
        "step": 2000,
        "trained": {"classes": 64, "recordings": 680, "recordings_sha256": "0" * 64},
        "chosen": {"classes": 1, "recordings": 1, "recordings_sha256": "0" * 64},
        "config": {"recipe": "best"},
    }
    assert trained_on(seen) == (
        "680 recordings of 64 classes of double-nmnist (n-mnist-subset); the weights of step 2,000 "
        "were chosen on 1 recording of 1 class"
    )


def test_a_partition_is_said_in_words() -> None:
    seen = {"dataset": "double-nmnist", "partition": "train", "samples": "single recordings"}
    assert trained_on({**seen, "labels": ["0", "1"]}) == (
        "single recordings of the train partition of double-nmnist; labels: 0, 1"
    )


def test_unknown_fields_are_shown_by_name_and_value() -> None:
    assert trained_on(None) is None
    assert trained_on({"my_data": ["a", 1], "trained": 3}) == "my data: a, 1; trained: 3"
    assert "\u202e" not in str(trained_on({"x": "\u202e"}))
    assert len(str(trained_on({"x": "y" * 9000}))) < 4100
