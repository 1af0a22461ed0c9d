"""Is scoring as fast as embedding alone, and does a grown inbox cost what is new? 5,000 photographs, then 50 more.

Run by `make bench-scoring`: the demo's champion (EfficientNet-Lite0) on drawn 640 × 480 JPEGs. The baseline is the
extraction of the same photographs by training's code, before and after, each in a process of its own. Ends with one
JSON line: the flow's rate over the mean of the baselines, the second command's wall time over the first's, and how many
images the second one embedded.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.scaling import draw

IMAGES, NEW = 5000, 50


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        captioning(folder, "train", "--profile", "demo")
        images = folder / "photos.zip"
        draw(IMAGES, images)
        rates = [extraction_rate()]
        first, seconds = captioning(folder, "score", "--images", str(images), "--out", str(folder / "predictions"))
        rates.append(extraction_rate())
        scored = rate_of(folder, first["run_id"])
        sys.stderr.write(f"extraction {rates} images/s, scoring {scored:.1f} images/s; command {seconds:.1f} s\n")
        draw(IMAGES + NEW, images)
        second, again = captioning(folder, "score", "--images", str(images), "--out", str(folder / "predictions"))
        sys.stderr.write(f"with {NEW} more: command {again:.1f} s\n")
    ratios = {
        "scoring_over_extraction": round(scored / (sum(rates) / len(rates)), 3),
        "second_command_over_first": round(again / seconds, 3),
        "scored_again": second["captioned"] - NEW,
    }
    sys.stdout.write(json.dumps(ratios) + "\n")


def captioning(folder: Path, *arguments: str) -> tuple[dict[str, Any], float]:
    """What the command prints as JSON, and its wall time in seconds."""
    command = [sys.executable, "-m", "flows.commands.cli", *arguments, "--json"]
    environment = os.environ | {"CAPTIONING_HOME": str(folder / "home")}
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout), time.perf_counter() - started


def extraction_rate() -> float:
    """Images a second of training's extraction of the same photographs; loading the network counts, as in the flow."""
    command = [sys.executable, "-m", "tests.benchmarks.scaling", str(IMAGES)]
    run = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return round(run["images"] / (run["loading"] + run["seconds"]), 1)


def rate_of(folder: Path, run_id: str) -> float:
    """Images a second of the flow's run, loading the model included."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder / 'home' / 'mlflow.db'}")
    return float(client.get_run(run_id).data.metrics["images_per_second"])


if __name__ == "__main__":
    main()
