"""Two evaluations of the same images, judged by a paired bootstrap: CIDEr, its interval, and that of the difference.

    .venv/bin/python -m tests.benchmarks.compare EVALUATION [OTHER]

Each is the folder of an evaluation, where `captioning train` and `evaluate` say the gallery is. Ends with one JSON
line.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from components.evaluation.bootstrap import interval
from components.evaluation.report import PREDICTIONS_FILE


def main(folders: list[str]) -> None:
    tables = [pd.read_parquet(Path(folder) / PREDICTIONS_FILE).set_index("image_id")["cider"] for folder in folders]
    found = {name: asdict(interval(table.to_numpy())) for name, table in zip(("first", "second"), tables, strict=False)}
    if len(tables) == 2:
        first, second = tables
        found["difference"] = asdict(interval((second.loc[first.index] - first).to_numpy()))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
