"""A home that an earlier commit made goes on working: its champion, its embeddings, its data set.

`earlier_home.zip` is of commit 81457bc: twelve photographs, a toy model without its encoder, `expected.json` with its
captions. Where `test_embeddings_are_found` fails because code changed that gives the same numbers, note the change in
`components/encoder/earlier_code.json`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from components.config import EncoderConfig
from components.decoder.caption import Search
from components.encoder.encoders import describe_encoder
from components.encoder.store import EmbeddingStore
from components.profile import RENAMED
from components.registry import versions
from tests.commands import captioning


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the earlier home, moved to where it is now."""
    folder = tmp_path_factory.mktemp("earlier")
    with ZipFile(Path(__file__).with_name("earlier_home.zip")) as archive:
        archive.extractall(folder)
    profile = (folder / "toy.toml").read_text(encoding="utf-8")
    for was, now in RENAMED.items():
        profile = profile.replace(was, now)
    (folder / "toy.toml").write_text(profile, encoding="utf-8")
    moved = captioning(folder, "relocate", environment={"CAPTIONING_HOME": str(folder / "mlruns")})
    assert moved.returncode == 0, moved.stderr
    return folder


@pytest.mark.parametrize("name", ["efficientnet_lite0", "EfficientNetB0"])
def test_embeddings_are_found(name: str) -> None:
    weights = "package" if name == "efficientnet_lite0" else "imagenet"
    card = describe_encoder(EncoderConfig(name=name, weights=weights))
    assert card.fingerprint == {"efficientnet_lite0": "739b4fe812b69a89", "EfficientNetB0": "fa86b78e2f85fbca"}[name]


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred")  # of MLflow, for the code in the package
def test_the_champion_captions_as_before(earlier: Path, use: Callable[..., Path]) -> None:
    expected: dict[str, Any] = json.loads((earlier / "expected.json").read_text(encoding="utf-8"))
    use(earlier / "mlruns")
    champion = versions.load_captioner("models:/captioner@champion")
    stored = EmbeddingStore.open(earlier / "mlruns" / "stages" / "embeddings-40c0ac3b87466f80").vectors(
        np.array(expected["images"])
    )
    for method, search in {"greedy": Search(), "beam": Search("beam", beam=3)}.items():
        found = [[caption.text for caption in ranked] for ranked in champion.caption(stored, search)]
        assert found == expected[method]


def test_the_line_goes_on_with_embeddings_and_model(earlier: Path, server: dict[str, str]) -> None:
    environment = {"CAPTIONING_HOME": str(earlier / "mlruns"), **server}
    arguments = ("--profile", str(earlier / "toy.toml"), "--set", f"dataset.root={earlier}")
    first = captioning(earlier, "train", *arguments, "--json", environment=environment)
    assert first.returncode == 0, first.stderr
    assert "0 of them to embed" in first.stderr
    assert "models:/captioner/2" in first.stdout
    second = captioning(earlier, "train", *arguments, environment=environment)
    assert second.stderr.count(", reused") >= 12
    assert [folder.name for folder in (earlier / "mlruns" / "embeddings").iterdir()] == ["739b4fe812b69a89"]
