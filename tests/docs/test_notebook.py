"""docs/notebook.ipynb, as it stands there but for its sizes, run by a kernel of its own."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
SMALLER = {
    "train=300,dev=60": "train=48,dev=12",
    'epochs": 12': 'epochs": 1',
    'steps_per_epoch": 40': 'steps_per_epoch": 9',
}


def kinds(notebook: nbformat.NotebookNode) -> list[str]:
    """What each code cell shows, errors and warnings left out."""
    shown = [[output for output in cell.outputs if "data" in output] for cell in notebook.cells if "outputs" in cell]
    return ["+".join(sorted(kind for output in outputs for kind in output.data)) for outputs in shown]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's client
@pytest.mark.filterwarnings("ignore:.*without encryption")
def test_every_cell_runs_and_shows_what_the_page_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONING_HOME", str(tmp_path / "mlruns"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CAPTIONING_VOCABULARY__MIN_COUNT", "2")
    monkeypatch.delenv("PREFECT_HOME")
    notebook = nbformat.read(NOTEBOOK, 4)
    page = kinds(notebook)
    for cell in notebook.cells:
        for text, smaller in SMALLER.items():
            cell.source = cell.source.replace(text, smaller)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert kinds(notebook) == page
    assert any("image/png" in kind for kind in page)
    assert any("data:image/jpeg" in str(cell.get("outputs")) for cell in notebook.cells)
    assert len(notebook.cells) <= 15


def test_the_page_names_no_place_of_the_machine_that_made_it() -> None:
    content = NOTEBOOK.read_text(encoding="utf-8")
    assert "/tmp/" not in content
    assert '"stderr"' not in content
