"""Split files: which photograph is in which split."""

from pathlib import Path

from components.dataset.rows import read_karpathy, read_text
from components.dataset.tables import read_table
from components.errors import ConfigurationError


def read_splits(path: Path) -> dict[str, str]:
    """The split of each photograph: from a Karpathy file (`.json`), or from a CSV with the columns `image` and `split`.

    Raises `ConfigurationError` for a photograph with two splits or none.
    """
    where = str(path)
    text = read_text(path)
    if path.suffix.lower() == ".json":
        unit, rows = "image", read_karpathy(text, where)
    else:
        remedy = "A split file is a Karpathy file (.json) or a CSV with the columns image and split"
        unit, rows = "line", read_table(text, where, {"image": "name", "split": "split"}, remedy)
    rows = rows[["name", "split"]].drop_duplicates()
    for faulty, fault in (
        ((rows == "").any(axis=1), "the image or its split is missing"),
        (rows.duplicated("name"), "this image is in another split already"),
    ):
        if faulty.any():
            number, name = rows.index[faulty][0], rows["name"][faulty].iloc[0]
            raise ConfigurationError(f"{where}, {unit} {number} ({name}): {fault}; give every image one split")
    return dict(zip(rows["name"], rows["split"], strict=True))
