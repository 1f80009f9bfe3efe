"""The notebook cards/tutorial.ipynb runs from top to bottom; its outputs are fit to publish."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.packages import import_or_skip

NOTEBOOK = Path(__file__).parents[2] / "cards" / "tutorial.ipynb"


def outputs(cells: list[dict[str, Any]]) -> str:
    """All texts that the cells have put out."""
    texts = []
    for cell in cells:
        for output in cell.get("outputs", []):
            texts.append("".join(output.get("text", [])))
            texts += [
                "".join(value) for kind, value in output.get("data", {}).items() if "text" in kind
            ]
    return "\n".join(texts)


@pytest.fixture(scope="module")
def committed() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text("utf-8"))["cells"]  # type: ignore[no-any-return]


def test_the_notebook_is_small_and_was_run_in_order(committed: list[dict[str, Any]]) -> None:
    assert NOTEBOOK.stat().st_size < 200_000
    code = [cell for cell in committed if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell["outputs"] if o["output_type"] == "error"]
    assert not [o for cell in code for o in cell["outputs"] if o.get("name") == "stderr"]
    assert any("image/png" in o.get("data", {}) for cell in code for o in cell["outputs"])


def test_the_outputs_name_no_place_of_a_machine(committed: list[dict[str, Any]]) -> None:
    assert not re.search(r"(/home|/root|/tmp|/work|/Users|[A-Z]:\\)", outputs(committed))


def test_links_lead_to_files(committed: list[dict[str, Any]]) -> None:
    text = "\n".join("".join(c["source"]) for c in committed if c["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) >= 3
    for link in links:
        assert (NOTEBOOK.parent / link).exists(), link


def test_the_notebook_runs(simulated_root: Path, tmp_path: Path) -> None:
    nbformat = import_or_skip("nbformat")
    client = import_or_skip("nbclient")
    import_or_skip("ipykernel")
    (tmp_path / "data").symlink_to(simulated_root)  # the notebook builds no archive that exists
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    client.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources=resources
    ).execute()
    text = outputs(notebook.cells)
    val, spiking, counts = (
        float(re.search(rf"{name} *([\d.]+)%", text)[1])  # type: ignore[index]
        for name in ("val:", "spiking prototypes", "prototypes of counts")
    )
    assert val > 50
    assert spiking > counts > 20
    assert "score: recomputed from the predictions" in text
    assert "simulated: made on simulated recordings" in text
    assert re.search(r"\| 1 +\| \[?Spiking prototypes", text)
    assert (tmp_path / "leaderboard.html").read_text("utf-8").count("Spiking prototypes") >= 1
