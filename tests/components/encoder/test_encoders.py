from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from components.config import EncoderConfig
from components.encoder import encoders
from components.encoder.encoders import describe_encoder, find_encoder, find_encoders, load_network
from components.encoder.extract import Engine, load_engine
from components.encoder.pool import EncoderCard
from components.errors import ConfigurationError
from components.hardware import require_bfloat16
from components.images.preprocessing import PREPROCESSING

LITE = EncoderConfig(name="efficientnet_lite0", weights="package", batch_size=4)
PHOTOS = Path(__file__).parents[3].parent / "shared" / "data" / "coco-photos" / "photos.zip"
BFLOAT16 = LITE.model_copy(update={"precision": "mixed_bfloat16"})


def inception(weights: str | Path) -> EncoderConfig:
    return EncoderConfig(name="inception_v3", weights=str(weights))


def fingerprint(config: EncoderConfig = LITE, **changes: Any) -> str:
    return describe_encoder(config.model_copy(update=changes)).fingerprint


@pytest.mark.parametrize(
    ("name", "weights", "found"),
    [
        ("efficientnet_lite0", "package", ("efficientnet_lite0", 224, 1280)),
        ("inception_v3", "imagenet", ("InceptionV3", 299, 2048)),
        ("InceptionV3", "imagenet", ("InceptionV3", 299, 2048)),
        ("resnet50", "imagenet", ("ResNet50", 224, 2048)),
        ("EfficientNetV2B3", "imagenet", ("EfficientNetV2B3", 300, 1536)),
    ],
)
def test_sizes_are_known_before_a_network_is_built(name: str, weights: str, found: tuple[str, int, int]) -> None:
    encoder = find_encoder(EncoderConfig(name=name, weights=weights))
    assert (encoder.name, encoder.input_size, encoder.dimension) == found


def test_several_encoders_are_found_in_their_order() -> None:
    found = find_encoders([inception("imagenet"), LITE, inception("imagenet")])
    assert [encoder.name for encoder in found] == ["InceptionV3", "efficientnet_lite0", "InceptionV3"]
    assert find_encoders([]) == []


def test_a_mistake_in_any_of_several_encoders_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'inception_v4' is no encoder; did you mean InceptionV3"):
        find_encoders([LITE, EncoderConfig(name="inception_v4", weights="imagenet"), inception("/nowhere/a.h5")])


@pytest.mark.parametrize("load", [find_encoder, describe_encoder, load_network])
@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("inception_v4", "imagenet", "encoder.name: 'inception_v4' is no encoder; "),
        ("efficientnet_lite1", "imagenet", "encoder.name: 'efficientnet_lite1' is no encoder; .*efficientnet_lite0"),
        ("", "imagenet", "encoder.name: '' is no encoder; .*efficientnet_lite0"),
        ("efficientnet_lite0", "imagenet", "encoder.weights: efficientnet_lite0 has `package` only, not 'imagenet'"),
        ("inception_v3", "/nowhere/a.h5", "encoder.weights: there is no file /nowhere/a.h5; give one, or `imagenet`"),
        (
            "inception_v3",
            "package",
            "encoder.weights: `package` is for efficientnet_lite0 only; give `imagenet`, or a ",
        ),
    ],
)
def test_unknown_encoders_and_missing_weights_are_named(
    load: Callable[[EncoderConfig], Any], name: str, weights: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(EncoderConfig(name=name, weights=weights))


def test_a_file_that_holds_no_weights_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.weights.h5"
    path.write_bytes(b"no weights")
    with pytest.raises(ConfigurationError, match=r"encoder\.weights: .*notes\.weights\.h5 does not fit inception_v3"):
        load_network(inception(path))


def test_an_encoders_card_says_what_it_is() -> None:
    config = LITE.model_copy(update={"preprocessing": "notebook", "storage": "float16"})
    expected = EncoderCard("efficientnet_lite0", fingerprint(config), 1280, 224, "notebook", "float16")
    assert describe_encoder(config) == expected


def test_a_fingerprint_is_of_all_that_decides_embeddings(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / f"{name}.weights.h5").write_bytes(content)
    a, b, c = (fingerprint(inception(tmp_path / f"{name}.weights.h5")) for name in "abc")
    different = [
        fingerprint(),
        fingerprint(preprocessing="notebook"),
        fingerprint(precision="mixed_bfloat16"),
        fingerprint(storage="float16"),
        fingerprint(preprocessing="notebook", precision="mixed_bfloat16", storage="float16"),
        fingerprint(inception("imagenet")),
        fingerprint(inception("imagenet"), name="xception"),
        a,
        b,
    ]
    assert len(set(different)) == len(different)
    assert all(len(found) == 16 and set(found) <= set("0123456789abcdef") for found in different)
    assert a == c


def test_a_fingerprint_is_not_of_how_the_work_is_done() -> None:
    assert fingerprint(batch_size=1, shard_size=1) == fingerprint()
    assert fingerprint(inception("imagenet"), name="InceptionV3") == fingerprint(inception("imagenet"))


@pytest.mark.parametrize("preprocessing", ["notebook", "antialias"])
def test_another_version_of_the_preprocessing_changes_the_fingerprint(
    monkeypatch: pytest.MonkeyPatch, preprocessing: Any
) -> None:
    before = fingerprint(preprocessing=preprocessing)
    monkeypatch.setitem(PREPROCESSING, preprocessing, "another")
    assert fingerprint(preprocessing=preprocessing) != before


def test_changed_weights_change_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "a.weights.h5"
    path.write_bytes(b"1")
    before = fingerprint(inception(path))
    path.write_bytes(b"2")
    assert fingerprint(inception(path)) != before


def test_a_network_is_built_once() -> None:
    assert load_network(LITE) is load_network(LITE.model_copy(update={"batch_size": 7, "storage": "float16"}))


def test_bfloat16_is_refused_before_anything_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ConfigurationError("encoder.precision: this CPU has no bfloat16")

    monkeypatch.setattr(encoders, "require_bfloat16", refuse)
    with pytest.raises(ConfigurationError, match=r"encoder\.precision"):
        load_network(inception("imagenet").model_copy(update={"precision": "mixed_bfloat16"}))


def cosines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.asarray((one @ two.T) / np.linalg.norm(one, axis=1)[:, None] / np.linalg.norm(two, axis=1))


@pytest.fixture
def engines() -> tuple[Engine, Engine]:
    """The same encoder in float32 and in bfloat16."""
    try:
        require_bfloat16()
    except ConfigurationError as error:
        pytest.skip(str(error))
    return load_engine(LITE), load_engine(BFLOAT16)


def test_embeddings_in_bfloat16_are_close_to_those_in_float32(
    engines: tuple[Engine, Engine], photograph: Callable[[int], bytes]
) -> None:
    exact, half = engines
    pixels = np.stack([np.asarray(exact.read(photograph(number))) for number in range(4)])
    expected, found = exact.encode(pixels), half.encode(pixels)
    assert found.dtype == np.float32
    assert not np.array_equal(found, expected)
    close = cosines(found, expected)
    assert np.diag(close).min() > 0.98
    assert close.argmax(axis=1).tolist() == [0, 1, 2, 3]


@pytest.mark.skipif(not PHOTOS.exists(), reason=f"no {PHOTOS}")
def test_embeddings_of_photographs_in_bfloat16_are_closer_still(engines: tuple[Engine, Engine]) -> None:
    exact, half = engines
    with ZipFile(PHOTOS) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][:8]
        pixels = np.stack([np.asarray(exact.read(archive.read(name))) for name in names])
    assert np.diag(cosines(half.encode(pixels), exact.encode(pixels))).mean() > 0.998


def test_a_network_in_bfloat16_leaves_keras_as_it_was(engines: tuple[Engine, Engine]) -> None:
    import keras

    assert keras.config.dtype_policy().name == "float32"
    assert load_network(BFLOAT16).get_layer("conv_head").compute_dtype == "bfloat16"
    assert load_network(LITE).get_layer("conv_head").compute_dtype == "float32"
