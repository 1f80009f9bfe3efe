"""The list of the release's weights agrees with the weights themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from baselines import released
from baselines.config import RunConfig
from baselines.weights_file import read_weights


def test_the_names_say_what_the_weights_are() -> None:
    listed = list(released.released())
    assert [each.name for each in listed] == sorted(
        path.name.removesuffix(".safetensors") for path in released.SHIPPED.glob("*.safetensors")
    )
    for each in listed:
        config = read_weights(released.SHIPPED / f"{each.name}.safetensors").config
        assert (each.model, each.recipe, each.dataset, each.classes) == (
            config.model, config.recipe, config.dataset, config.classes,
        )  # fmt: skip
        assert each.ways == (config.ways if config.kind.method == "maml" else None)
        assert (each.pairing, each.seed) == (config.pairing, config.seed)
        assert config.file_name == f"{each.name}.safetensors"


@pytest.mark.parametrize(
    ("name", "recipe", "ways", "pairing", "seed"),
    [
        ("snn-maml.best.double-nmnist.published.5way", "best", 5, "all", 0),
        ("snn-maml.v1.2.n-omniglot.published.20way", "v1.2", 20, "all", 0),
        ("cnn-transfer.best.double-nmnist.novel-components", "best", None, "all", 0),
        ("snn-maml.best.double-nmnist.published.5way.seed12", "best", 5, "all", 12),
        ("cnn-transfer.best.double-nmnist.published.seed1", "best", None, "all", 1),
        (
            "snn-maml.paper.double-nmnist.published.5way.published-pairing.seed2",
            "paper", 5, "published", 2,
        ),
    ],
)  # fmt: skip
def test_a_name_is_taken_apart(
    name: str,
    recipe: str,
    ways: int | None,
    pairing: str,
    seed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for file in (f"{name}.safetensors", "notes.txt", "x.safetensors"):
        (tmp_path / file).touch()
    monkeypatch.setattr(released, "SHIPPED", tmp_path)
    (found,) = released.released()
    assert (found.name, found.recipe, found.ways) == (name, recipe, ways)
    assert (found.pairing, found.seed) == (pairing, seed)
    config = RunConfig(
        found.model, recipe, found.dataset, pairing, found.classes, ways or 5, seed=seed
    )
    assert config.file_name == f"{name}.safetensors"
    monkeypatch.setattr(released, "SHIPPED", tmp_path / "none")
    assert list(released.released()) == []
