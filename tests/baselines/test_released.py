"""The list of the release's weights agrees with the weights themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from baselines import released
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
        assert config.file_name == f"{each.name}.safetensors"


@pytest.mark.parametrize(
    ("name", "recipe", "ways"),
    [
        ("snn-maml.best.double-nmnist.published.5way", "best", 5),
        ("snn-maml.v1.2.n-omniglot.published.20way", "v1.2", 20),
        ("cnn-transfer.best.double-nmnist.novel-components", "best", None),
    ],
)
def test_a_name_is_taken_apart(
    name: str, recipe: str, ways: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (f"{name}.safetensors", "notes.txt", "x.safetensors"):
        (tmp_path / file).touch()
    monkeypatch.setattr(released, "SHIPPED", tmp_path)
    (found,) = released.released()
    assert (found.name, found.recipe, found.ways) == (name, recipe, ways)
    monkeypatch.setattr(released, "SHIPPED", tmp_path / "none")
    assert list(released.released()) == []
