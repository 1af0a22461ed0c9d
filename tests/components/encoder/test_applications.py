"""The table of applications against Keras, and networks built from it. Weights are random: nothing is downloaded."""

from pathlib import Path
from typing import Any, NoReturn

import keras
import numpy as np
import pytest

from components.encoder.applications import APPLICATIONS, build, find
from components.errors import CaptioningError, ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras saves weights

PREPARATIONS = {
    "MobileNetV2": "-1 to 1",
    "VGG16": "BGR, means subtracted",
    "DenseNet121": "standardised",
    "MobileNetV3Small": "by the network's own layers",
}
"""An application for each way that Keras prepares pixels."""


def test_the_table_holds_every_application_of_keras_and_nothing_else() -> None:
    public = {name for name in dir(keras.applications) if callable(getattr(keras.applications, name))}
    assert set(APPLICATIONS) == public
    for name, (module, _, _) in APPLICATIONS.items():
        function = getattr(keras.applications, name)
        assert function.__module__.rpartition(".")[2] == module
        assert callable(getattr(keras.applications, module).preprocess_input)


@pytest.mark.parametrize("name", ["EfficientNetB1", "EfficientNetV2B2", "InceptionV3", "NASNetMobile", "Xception"])
def test_sizes_and_dimensions_are_those_of_keras(name: str) -> None:
    _, size, dimension = APPLICATIONS[name]
    network = getattr(keras.applications, name)(weights=None)
    assert network.input_shape == (None, size, size, 3)
    assert network.layers[-1].kernel.shape[0] == dimension  # what its classifier sees


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("InceptionV3", "InceptionV3"),
        ("inception_v3", "InceptionV3"),
        ("inceptionv3", "InceptionV3"),
        ("resnet50", "ResNet50"),
        ("ResNet50V2", "ResNet50V2"),
        ("resnet50_v2", "ResNet50V2"),
        ("nasnet_mobile", "NASNetMobile"),
        ("efficientnet_v2_b0", "EfficientNetV2B0"),
        ("inception", None),
        ("efficientnet_lite0", None),
        ("", None),
    ],
)
def test_applications_are_found_however_their_names_are_spelled(name: str, found: str | None) -> None:
    assert find(name) == found


def test_every_application_is_found_by_its_own_name() -> None:
    assert [find(name) for name in APPLICATIONS] == list(APPLICATIONS)


def trained(name: str, images: np.ndarray) -> Any:
    """Keras' network with random weights; the statistics of its batch norms are those of the images."""
    _, size, _ = APPLICATIONS[name]
    network = getattr(keras.applications, name)(
        include_top=False, pooling="avg", weights=None, input_shape=(size, size, 3)
    )
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    network(images, training=True)
    return network


def pictures(size: int) -> np.ndarray:
    """Three pictures of 16 squares in different colours."""
    squares = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3)).astype(np.uint8)
    side = -(-size // 4)
    return squares.repeat(side, axis=1).repeat(side, axis=2)[:, :size, :size]


@pytest.mark.parametrize("name", PREPARATIONS)
def test_a_network_with_weights_from_a_file_does_what_keras_does(name: str, tmp_path: Path) -> None:
    module, size, dimension = APPLICATIONS[name]
    prepare, images = getattr(keras.applications, module).preprocess_input, pictures(size)
    reference = trained(name, prepare(images.astype(np.float32)))
    reference.save_weights(tmp_path / "a.weights.h5")
    network = build(name, tmp_path / "a.weights.h5")
    found, expected = np.asarray(network(images)), np.asarray(reference(prepare(images.astype(np.float32))))
    assert found.shape == expected.shape == (3, dimension)
    assert found.dtype == np.float32
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)
    otherwise = np.asarray(reference(prepare(images[..., ::-1].astype(np.float32))))
    assert np.linalg.norm(otherwise - expected) > 0.02 * np.linalg.norm(expected)  # so that a mistake would be seen
    assert network.input_shape == (None, size, size, 3)
    assert network.trainable_variables == []


def test_weights_that_cannot_be_downloaded_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: object) -> NoReturn:
        raise Exception("URL fetch failure on https://keras.example/a.h5")  # as Keras does

    monkeypatch.setattr(keras.applications, "MobileNetV3Small", offline)
    with pytest.raises(CaptioningError, match=r"`imagenet` of MobileNetV3Small .*https://keras\.example/a\.h5"):
        build("MobileNetV3Small", "imagenet")


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")  # what Keras says before its error
def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.weights.h5").write_bytes(b"no weights")
    keras.applications.MobileNetV2(include_top=False, weights=None).save_weights(tmp_path / "other.weights.h5")
    (tmp_path / "weights.txt").write_bytes((tmp_path / "other.weights.h5").read_bytes())
    for file in ("notes.weights.h5", "other.weights.h5", "weights.txt"):
        with pytest.raises(ConfigurationError, match=rf"encoder\.weights: .*{file} does not fit MobileNetV3Small: "):
            build("MobileNetV3Small", tmp_path / file)
