import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras import ops
from PIL import Image

from components.decoder import search
from components.decoder.caption import Search
from components.decoder.model import Decoder
from components.model.captioner import Captioner
from components.training.history import read_history
from data_contracts.schema import END, UNK

LENGTH = 6

PARTS = {"saved_model", "vocabulary.json", "model.json", "reference.json", "history.json"}


@pytest.fixture(scope="module")
def exported(package: Path) -> Any:
    import tensorflow as tf

    return tf.saved_model.load(str(package / "captioner" / "saved_model"))


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(12, 5)).astype(np.float32)


def as_arrays(found: Any) -> tuple[np.ndarray, np.ndarray]:
    ids, logprobs = found
    return ops.convert_to_numpy(ids), ops.convert_to_numpy(logprobs)


def test_the_package_is_code_graph_vocabulary_and_card(package: Path) -> None:
    assert {path.name for path in package.iterdir()} == {"model.py", "captioner"}
    assert {path.name for path in (package / "captioner").iterdir()} == PARTS
    card = json.loads((package / "captioner" / "model.json").read_text(encoding="utf-8"))
    encoder = {"name": "toy", "fingerprint": "0123456789abcdef", "dimension": 5, "input_size": 8}
    encoder |= {"preprocessing": "notebook", "storage": "float32"}
    assert card == {"schema": 4, "encoders": [encoder], "bundled": True, "max_length": 7}
    ast.parse((package / "model.py").read_text(encoding="utf-8"))


def test_the_graph_searches_as_the_decoder_does(exported: Any, toy_decoder: Decoder, embeddings: np.ndarray) -> None:
    ids, logprobs = as_arrays(exported.greedy(embeddings, LENGTH))
    expected_ids, expected = as_arrays(search.greedy(toy_decoder, embeddings, LENGTH))
    assert ids.shape == (12, LENGTH)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(logprobs, expected, rtol=1e-5)
    assert len({tuple(caption) for caption in ids.tolist()}) > 3


@pytest.mark.parametrize("width", [1, 2, 4])
def test_the_graph_takes_a_beam_of_any_width(
    exported: Any, toy_decoder: Decoder, embeddings: np.ndarray, width: int
) -> None:
    ids, logprobs = as_arrays(exported.beam(embeddings, LENGTH, width))
    expected_ids, expected = as_arrays(search.beam(toy_decoder, embeddings, LENGTH, width))
    assert ids.shape == (12, width, LENGTH)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(logprobs, expected, rtol=1e-5)


def test_the_graph_takes_batches_of_any_size(exported: Any, embeddings: np.ndarray) -> None:
    ids, _ = as_arrays(exported.greedy(embeddings, LENGTH))
    for batch in (embeddings[:0], embeddings[3:4], embeddings[5:9]):
        rows = [row for row, vector in enumerate(embeddings) if any(np.array_equal(vector, one) for one in batch)]
        np.testing.assert_array_equal(as_arrays(exported.greedy(batch, LENGTH))[0], ids[rows])


def test_the_graph_draws_from_the_softmax_of_the_first_step(exported: Any, toy_decoder: Decoder) -> None:
    embedding, draws, temperature = np.full((1, 5), 0.3, np.float32), 20_000, 1.5
    ids, _ = as_arrays(exported.sample(np.repeat(embedding, draws, axis=0), LENGTH, temperature, 0, 1.0, 3))
    logits = np.asarray(toy_decoder((embedding, np.array([[2]], np.int32))), np.float64)[0, 0, END + 1 :]
    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    found = np.bincount(ids[:, 0], minlength=8)[END + 1 :] / draws
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(draws))


def test_a_seed_decides_the_sample(exported: Any, embeddings: np.ndarray) -> None:
    many = np.repeat(embeddings, 20, axis=0)
    first, same, other = (as_arrays(exported.sample(many, LENGTH, 1.0, 0, 1.0, seed))[0] for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0::20], first[1::20])  # every image of a batch has draws of its own


def test_every_step_has_draws_of_its_own(exported: Any, embeddings: np.ndarray) -> None:
    ids, _ = as_arrays(
        exported.sample(np.repeat(embeddings, 100, axis=0), LENGTH, 1e3, 0, 1.0, 0)
    )  # any word, as likely as any other
    assert (ids[:, 0] == ids[:, 1]).mean() == pytest.approx(1 / 5, abs=0.06)


def test_the_graph_draws_from_the_most_probable_words_only(exported: Any, embeddings: np.ndarray) -> None:
    many = np.repeat(embeddings[:1], 500, axis=0)
    all_words, two, nucleus = (
        {*as_arrays(exported.sample(many, LENGTH, 1.0, top_k, top_p, 0))[0][:, 0].tolist()}
        for top_k, top_p in ((0, 1.0), (2, 1.0), (0, 0.3))
    )
    assert len(two) == 2
    assert nucleus < two < all_words


def test_the_graph_gives_the_probabilities_of_the_next_words(
    exported: Any, toy_decoder: Decoder, embeddings: np.ndarray
) -> None:
    words = np.random.default_rng(0).integers(0, 8, (12, LENGTH)).astype(np.int32)
    found = ops.convert_to_numpy(exported.next_words(embeddings, words))
    np.testing.assert_allclose(found, ops.log_softmax(toy_decoder((embeddings, words))), rtol=1e-4, atol=1e-5)


def test_the_history_goes_with_the_package(package: Path) -> None:
    (row,) = read_history(package / "captioner")
    assert row["val_cider"] == 0.25


def test_a_sample_near_temperature_zero_is_greedy(exported: Any, embeddings: np.ndarray) -> None:
    ids, _ = as_arrays(exported.sample(embeddings, LENGTH, 1e-6, 0, 1.0, 0))
    np.testing.assert_array_equal(ids, as_arrays(exported.greedy(embeddings, LENGTH))[0])
    assert not (ids == UNK).any()


def test_pixels_are_embedded_in_the_graph(exported: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    vectors = ops.convert_to_numpy(exported.embed_0(pixels))
    assert (vectors.shape, vectors.dtype) == ((3, 5), np.float32)
    alone = [ops.convert_to_numpy(exported.embed_0(pixels[row : row + 1]))[0] for row in range(3)]
    np.testing.assert_allclose(vectors, alone, rtol=1e-5, atol=1e-6)
    assert not np.allclose(vectors[0], vectors[1])


@pytest.fixture(scope="module")
def exported_pair(pair: Path) -> Any:
    import tensorflow as tf

    return tf.saved_model.load(str(pair / "captioner" / "saved_model"))


def test_the_card_lists_several_encoders_in_their_order(pair: Path) -> None:
    card = json.loads((pair / "captioner" / "model.json").read_text(encoding="utf-8"))
    listed = [(encoder["name"], encoder["dimension"], encoder["input_size"]) for encoder in card["encoders"]]
    assert listed == [("small", 3, 8), ("large", 2, 12)]


def test_each_encoder_has_its_own_function(exported_pair: Any, networks: list[Any]) -> None:
    for number, (network, size) in enumerate(zip(networks, (8, 12), strict=True)):
        pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3)).astype(np.uint8)
        vectors = ops.convert_to_numpy(getattr(exported_pair, f"embed_{number}")(pixels))
        np.testing.assert_allclose(vectors, np.asarray(network(pixels.astype(np.float32))), rtol=1e-5, atol=1e-5)


def test_the_graph_of_a_decoder_with_every_option_searches_as_it_does(
    exported_pair: Any, strong_decoder: Decoder, embeddings: np.ndarray
) -> None:
    ids, logprobs = as_arrays(exported_pair.greedy(embeddings, LENGTH))
    expected_ids, expected = as_arrays(search.greedy(strong_decoder, embeddings, LENGTH))
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(logprobs, expected, rtol=1e-5)
    assert len({tuple(caption) for caption in ids.tolist()}) > 3
    ids, logprobs = as_arrays(exported_pair.beam(embeddings, LENGTH, 3))
    expected_ids, expected = as_arrays(search.beam(strong_decoder, embeddings, LENGTH, 3))
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(logprobs, expected, rtol=1e-5)


def test_a_number_that_never_changed_in_training_changes_no_caption(exported_pair: Any, embeddings: np.ndarray) -> None:
    moved = embeddings + np.array([0, 0, 0, 0, 1000], np.float32)
    for one, other in zip(exported_pair.greedy(embeddings, LENGTH), exported_pair.greedy(moved, LENGTH), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_loader_in_the_guide_captions_without_mlflow(package: Path, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")
    (loader,) = (block for block in guide.split("```") if block.startswith("python") and "saved_model.load" in block)
    (tmp_path / "loader.py").write_text(loader.removeprefix("python"), encoding="utf-8")
    pixels = np.random.default_rng(3).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")  # of the encoder's size: nothing is cropped or resized
    command = [sys.executable, "-I", "loader.py", str(package / "captioner"), "photo.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300)
    captioner = Captioner(package / "captioner")
    embeddings, _ = captioner.embed([(tmp_path / "photo.png").read_bytes()])
    (ranked,) = captioner.caption(embeddings, Search("beam", beam=5))
    found = [line.rpartition(" ") for line in done.stdout.splitlines()]
    assert [text for text, _, _ in found] == [caption.text for caption in ranked], done.stderr
    assert [float(logprob) for *_, logprob in found] == pytest.approx([caption.logprob for caption in ranked], rel=1e-4)
