"""Every stage's key moves with every piece of code that its work depends on, and with nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grimp
import pytest

from components.source_code import NEUTRAL, OURS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    copy, folder = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("work")
    for name in OURS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    script = Path(__file__).with_name("keys_of_a_copy.py")
    own = {"PYTHONPATH": str(copy), "CAPTIONING_HOME": str(folder / "home"), "PREFECT_HOME": str(folder)}
    command = [sys.executable, str(script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=copy, env={**os.environ, **own})
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_every_stage_is_looked_at(found: dict[str, Any]) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "flows").glob("**/*.py"))
    named = set(re.findall(r'Stage\("([\w-]+)"', text)) | {f"check-{n}" for n in re.findall(r'_check\("(\w+)"', text)}
    assert {name.replace("_", "-") for name in named} == set(found["sources"])


def test_an_edit_of_a_module_or_a_data_file_moves_the_keys_of_the_stages_that_use_it(found: dict[str, Any]) -> None:
    encoders = {"efficientnet_lite0", "inception_v3"}
    assert len(found["code"]) > 60
    for name, moved in found["code"].items():
        users = {stage for stage, sources in found["sources"].items() if name in sources}
        assert users <= set(moved), name
        # Embeddings also have the encoder's fingerprint in their key, which is of code.
        assert set(moved) - users - encoders <= {"embeddings", "joined-embeddings"}, name


def test_comments_and_neutral_modules_move_nothing(found: dict[str, Any]) -> None:
    files, neutral = found["edited"]
    assert (files > 60, neutral > 5) == (True, True)
    assert (found["comments"], found["neutral"]) == ([], [])


def test_no_import_is_missed(found: dict[str, Any]) -> None:
    graph = grimp.build_graph(*OURS, exclude_type_checking_imports=True, cache_dir=None)
    for stage, sources in found["sources"].items():
        modules = {name for name in sources if name in graph.modules and not name.startswith("flows")}
        imported = {each for name in modules for each in graph.find_modules_directly_imported_by(name)}
        assert imported - set(NEUTRAL) <= modules, stage


@pytest.mark.parametrize(
    ("stage", "source"),
    [
        ("decoder", "components.training.history"),  # the rule of the best epoch
        ("decoder", "components.vocabulary.vocabulary"),
        ("package", "components.vocabulary.vocabulary"),  # `decode`, which every model carries
        ("package", "components.model.pyfunc_model"),
        ("package", "components.images.preprocessing"),
        ("package", "components.errors"),  # neutral elsewhere; its text is copied into the model
        ("evaluation", "components.pages.rendering/gallery.html.j2"),
        ("evaluation", "components.pages.rendering/page.css"),
        ("evaluation", "components.pages.rendering/gallery.js"),
        ("comparison", "components.pages.rendering/comparison.js"),
        ("captions", "components.dataset.rows"),
        ("captions", "components.vocabulary.tokenizer"),
        ("scoring", "components.scoring.score"),
        ("check-captions", "data_contracts.suites.captions"),
    ],
)
def test_a_stage_depends_on_what_is_known_to_matter(found: dict[str, Any], stage: str, source: str) -> None:
    assert source in found["sources"][stage]
    assert stage in found["code"][source]


def test_a_decoder_is_not_trained_again_for_what_only_reads_captions_files(found: dict[str, Any]) -> None:
    assert "decoder" not in found["code"]["components.dataset.rows"]


def test_a_fingerprint_is_of_the_code_of_its_own_encoder(found: dict[str, Any]) -> None:
    def of(module: str) -> set[str]:
        return {"efficientnet_lite0", "inception_v3"} & set(found["code"][module])

    assert of("components.images.preprocessing") == {"efficientnet_lite0", "inception_v3"}
    assert (
        of("components.encoder.torch_weights") == of("components.encoder.efficientnet_lite") == {"efficientnet_lite0"}
    )
    assert of("components.encoder.folding") == of("components.encoder.applications") == {"inception_v3"}
    assert of("components.encoder.store") == set()
