from pathlib import Path

import pytest

from components.config import EncoderConfig
from components.encoder import registry
from components.encoder.registry import find_encoder, load_network
from components.errors import ConfigurationError

LITE = EncoderConfig(name="efficientnet_lite0", weights="package")


def inception(weights: str | Path) -> EncoderConfig:
    return EncoderConfig(name="inception_v3", weights=str(weights))


def test_sizes_are_known_before_a_network_is_built() -> None:
    lite, notebook = find_encoder(LITE), find_encoder(inception("imagenet"))
    assert (lite.name, lite.input_size, lite.dimension) == ("efficientnet_lite0", 224, 1280)
    assert (notebook.name, notebook.input_size, notebook.dimension) == ("inception_v3", 299, 2048)


def test_fingerprint_is_of_architecture_weights_and_preprocessing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.weights.h5").write_bytes(b"1")
    (tmp_path / "b.weights.h5").write_bytes(b"2")
    (tmp_path / "c.weights.h5").write_bytes(b"1")
    configs = [LITE, inception("imagenet"), *(inception(tmp_path / f"{name}.weights.h5") for name in "abc")]
    lite, imagenet, a, b, c = (find_encoder(config).fingerprint for config in configs)
    assert len({lite, imagenet, a, b}) == 4
    assert a == c
    assert all(len(found) == 16 and int(found, 16) for found in (lite, imagenet, a, b))
    assert find_encoder(LITE.model_copy(update={"batch_size": 1, "threads": 1, "shard_size": 1})).fingerprint == lite
    monkeypatch.setattr(registry, "PREPROCESSING", "another")
    assert find_encoder(LITE).fingerprint != lite


def test_changed_weights_change_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "a.weights.h5"
    path.write_bytes(b"1")
    before = find_encoder(inception(path)).fingerprint
    path.write_bytes(b"2")
    assert find_encoder(inception(path)).fingerprint != before


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("inception_v4", "imagenet", "encoder.name: 'inception_v4' is not one of efficientnet_lite0, inception_v3"),
        ("efficientnet_lite0", "imagenet", "encoder.weights: efficientnet_lite0 has `package` only, not 'imagenet'"),
        ("inception_v3", "/nowhere/a.h5", "encoder.weights: there is no file /nowhere/a.h5; give one, or `imagenet`"),
        ("inception_v3", "package", "encoder.weights: there is no file package; give one, or `imagenet`"),
    ],
)
def test_unknown_encoders_and_missing_weights_are_named(name: str, weights: str, message: str) -> None:
    config = EncoderConfig(name=name, weights=weights)
    with pytest.raises(ConfigurationError, match=message):
        find_encoder(config)
    with pytest.raises(ConfigurationError, match=message):
        load_network(config)


def test_a_file_that_holds_no_weights_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.weights.h5"
    path.write_bytes(b"no weights")
    with pytest.raises(ConfigurationError, match=r"encoder\.weights: .*notes\.weights\.h5 does not fit InceptionV3"):
        load_network(inception(path))


def test_a_network_is_built_once() -> None:
    assert load_network(LITE) is load_network(EncoderConfig(name="efficientnet_lite0", weights="package"))
