"""The keys of all stages in a copy of the project, after an edit of each of its files; the copy is first on the path.

No work is done: what a stage is made from is caught where it would be looked up.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pandas as pd

from components.artifacts import Artifact, Stage
from components.decoder.caption import Search
from components.demo.scenes import draw_archives
from components.encoder.encoders import describe_encoder
from components.evaluation import tokenize
from components.registry.versions import RegisteredModel
from components.scoring.dataset import Scorer
from components.source_code import NEUTRAL, module_path
from flows import score
from flows.named_profiles import load_profile
from flows.score import ScoringRequest
from flows.tasks import contracts, data, embeddings, evaluation, stages, training

CODE, COMMENT = "\nEDITED = 1\n", "\n# Edited.\n"


def keys(folder: Path) -> dict[str, str]:
    """Each stage's key, and each encoder's fingerprint."""
    found: dict[str, str] = {}
    sources: dict[str, list[str]] = {}

    def catch(_home: Path, stage: Stage, _work: Any, **_: Any) -> Artifact:
        found[stage.name], sources[stage.name] = stage.key, sorted(stage.sources)
        return Artifact(stage.name, "", folder, "", 1, ())

    stages.run_stage = catch  # type: ignore[assignment]
    profile = load_profile("demo", [f"dataset.root={folder}"])
    two = profile.model_copy(update={"further_encoders": {"second": profile.encoder}})
    given = Artifact("given", "", folder, "given", 1, ())
    model = RegisteredModel("captioner", "1", "models:/captioner/1", (), "digest")
    request = ScoringRequest(images=str(folder / "images"), out=folder / "out")
    scorer = Scorer(model.uri, model.digest, Search())
    calls = [
        (data.fetch_dataset, profile),
        (data.build_caption_table, given, profile),
        (data.build_vocabulary, given, profile),
        (data.list_photographs, given, given, profile),
        (training.train_decoder, given, given, given, profile, ""),
        (training.package_model, given, given, given, given, profile),
        (evaluation.evaluate_model, given, given, given, profile, "dev"),
        (evaluation.compare_evaluations, given, model, given, model, ""),
        (contracts.check_captions, given, profile, ""),
        (contracts.check_vocabulary, given, given, profile, ""),
        (contracts.check_images, given, given, profile, ""),
        (contracts.check_embeddings, given, given, profile, ""),
        (contracts.check_training_set, given, given, given, profile, ""),
        (contracts.check_predictions, given, given, given, profile, "dev", ""),
        (contracts.check_drift, given, profile.limits, ""),
        (score.list_inputs, request.images),
        (score.caption_images, given, request, scorer),
        (score.caption_on_spark, request, scorer),
        (embeddings.embed_for_model, model, given, given, {}, "dev"),
        (embeddings.extract_embeddings, given, {}, two),
    ]
    for task, *arguments in calls:
        with contextlib.suppress(FileNotFoundError):  # of what the stage would have left
            getattr(task, "fn", task)(*arguments)
    for name in ("efficientnet_lite0", "inception_v3"):
        weights = "package" if name == "efficientnet_lite0" else "imagenet"
        config = profile.encoder.model_copy(update={"name": name, "weights": weights})
        found[name] = describe_encoder(config).fingerprint
    SOURCES.update(sources)
    return found


SOURCES: dict[str, list[str]] = {}
"""Of each stage."""


def moved(paths: list[Path], text: str, folder: Path, before: dict[str, str]) -> list[str]:
    """The stages whose key another end of these files changes."""
    contents = {path: path.read_bytes() for path in paths}
    for path, content in contents.items():
        path.write_bytes(content + (text if path.suffix == ".py" else "\n").encode())
    try:
        after = keys(folder)
    finally:
        for path, content in contents.items():
            path.write_bytes(content)
    return sorted(name for name in before if before[name] != after[name])


def main(folder: Path) -> None:
    """Prints, as JSON: the sources of each stage, and the stages that edits change."""
    (folder / "images").mkdir()
    for name, content in draw_archives({"train": 1, "dev": 1}, seed=0).items():
        (folder / name).write_bytes(content)
    pd.DataFrame({"uri": ["a"], "image_id": ["b"], "error": [""]}).to_parquet(folder / score.INPUTS_FILE)
    for module, name in ((training, "log_inputs"), (training, "TrainingLog"), (contracts, "EmbeddingStore")):
        setattr(module, name, MagicMock())
    contracts.publish_quarantine = lambda *_: None  # type: ignore[assignment]
    tokenize.find_java = lambda: None  # type: ignore[assignment]
    before = keys(folder)
    paths: dict[str, Path] = {}
    for name in sorted({source for sources in SOURCES.values() for source in sources if ":" not in source}):
        module, _, file = name.partition("/")
        path = module_path(module)
        paths[name] = next(path.parent.rglob(file)) if file else path
    neutral = [module_path(name) for name in NEUTRAL if name not in paths]
    result = {
        "sources": dict(SOURCES),
        "code": {name: moved([path], CODE, folder, before) for name, path in paths.items()},
        "comments": moved([path for path in paths.values() if path.suffix == ".py"], COMMENT, folder, before),
        "neutral": moved(neutral, CODE, folder, before),
        "edited": [len(paths), len(neutral)],
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
