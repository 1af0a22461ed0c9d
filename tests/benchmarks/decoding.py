"""Decoding throughput against the notebook's loop: its decoder, a vocabulary as large as Flickr8k's, 5,000 images.

Run by `make bench-decode`. The decoder first learns the demo's sentences for random embeddings, so that captions end
where captions end; the words it never sees pad its vocabulary. The loop is the notebook's way: one image at a time, the
state and one word in, the probabilities of the next word out, the choice in NumPy (its step compiled once). Ours is the
packaged model's, from embeddings to text. Another size of vocabulary may be given as an argument. Rounds take turns;
medians count. Ends with one JSON line.
"""

import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from tests.recipes import notebook_decoder, notebook_training

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from components.decoder.caption import Caption, Search
from components.decoder.model import Decoder
from components.demo.scene_captions import describe_scene, imagine_scene
from components.encoder.pool import EncoderCard, Vectors
from components.model.captioner import CAPTIONER_FOLDER, Captioner
from components.model.package import write_package
from components.model.reference import Reference
from components.training.batches import TrainingSet
from components.training.history import describe
from components.training.train import load_decoder, train
from components.vocabulary.tokenizer import tokenize
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import END, PAD, SPECIALS, START, UNK

VOCABULARY, DIMENSION, IMAGES = 2539, 2048, 5000
"""Flickr8k's words that occur five times in its training captions, InceptionV3's embeddings."""
SCENES, LOOPED, ROUNDS = 1000, 200, 5
"""Scenes learnt from; images that the loop captions in a round: it takes too long for all."""


def main(vocabulary_size: int) -> None:
    with TemporaryDirectory() as folder:
        captioner, decoder, embeddings = learn(vocabulary_size, Path(folder))
    loop = notebook_loop(decoder, captioner.vocabulary)
    contenders: dict[str, tuple[int, Callable[[np.ndarray], list[str]]]] = {
        "loop": (LOOPED, loop),
        "greedy": (IMAGES, lambda some: texts(captioner.caption(some, Search()))),
        "beam5": (IMAGES, lambda some: texts(captioner.caption(some, Search("beam", beam=5)))),
        "sample": (IMAGES, lambda some: texts(captioner.caption(some, Search("sample")))),
        "nucleus": (IMAGES // 5, lambda some: texts(captioner.caption(some, Search("sample", top_k=50, top_p=0.9)))),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(ROUNDS + 1):
        for name, (count, work) in contenders.items():
            started = time.perf_counter()
            captions = work(embeddings[:count])
            rate = count / (time.perf_counter() - started)
            if round_number:  # the first compiles
                rates[name].append(rate)
                words = statistics.mean(len(caption.split()) for caption in captions)
                tell(f"{name:8} {rate:10,.0f} captions/s of {words:.1f} words")
    same = sum(
        a == b for a, b in zip(loop(embeddings[:LOOPED]), contenders["greedy"][1](embeddings[:LOOPED]), strict=True)
    )
    tell(f"the loop's captions and ours: {same} of {LOOPED} are the same")
    middle = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        tell(f"{name:8} median {middle[name]:10,.0f} captions/s, from {min(values):,.0f} to {max(values):,.0f}")
    result = {
        "greedy_over_loop": round(middle["greedy"] / middle["loop"], 2),
        "beam5_over_greedy": round(middle["beam5"] / middle["greedy"], 3),
        "captions_per_second": round(middle["greedy"]),
    }
    tell(json.dumps(result))


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def texts(captions: list[list[Caption]]) -> list[str]:
    return [best.text for best, *_ in captions]


def learn(vocabulary_size: int, folder: Path) -> tuple[Captioner, Decoder, np.ndarray]:
    """A packaged decoder that describes scenes it has not seen, the same decoder, and the embeddings of 5,000."""
    captions = [describe_scene(imagine_scene(rng), rng) for rng in map(Random, range(SCENES + IMAGES))]
    sentences = [[tokenize(caption) for caption in five] for five in captions]
    seen = Counter(word for five in sentences[:SCENES] for words in five for word in words)
    words = [word for word, _ in seen.most_common()]
    spare = vocabulary_size - len(SPECIALS) - len(words)
    known = (*SPECIALS, *words, *(f"unsaid{number}" for number in range(spare)))
    vocabulary = Vocabulary(known, (0,) * len(SPECIALS) + (5,) * (len(known) - len(SPECIALS)))
    # An embedding is the sum of what its words mean, so that there is something to say about it.
    meanings = np.random.default_rng(0).normal(size=(len(known), DIMENSION)).astype(np.float32)
    embeddings = np.array([meanings[vocabulary.encode(five[0], 99)].sum(axis=0) for five in sentences])
    config = notebook_decoder()
    training = notebook_training(epochs=4, steps_per_epoch=150)
    splits = [
        training_set(sentences[start:end], embeddings[start:end], vocabulary, config.max_length)
        for start, end in ((0, SCENES), (SCENES, SCENES + 100))
    ]
    tell(f"learning from {SCENES:,} scenes, {len(words)} of {len(known):,} words said")
    train(config, training, *splits, vocabulary, folder, lambda row: tell(describe(row)))
    decoder = load_decoder(config, len(vocabulary), DIMENSION, folder)
    card = EncoderCard("none", "0" * 16, DIMENSION, 8, "antialias", "float32")
    reference = Reference([0.0], [0.0], 0.0, 0.0)
    write_package(decoder, vocabulary, [no_encoder()], [card], reference, [], config.max_length, folder / "package")
    return Captioner(folder / "package" / CAPTIONER_FOLDER), decoder, embeddings[SCENES:]


def training_set(
    sentences: list[list[list[str]]], embeddings: np.ndarray, vocabulary: Vocabulary, max_length: int
) -> TrainingSet:
    encoded = [vocabulary.encode(words, max_length) for five in sentences for words in five]
    ids = np.full((len(encoded), max_length), PAD, np.int32)
    for row, caption in zip(ids, encoded, strict=True):
        row[: len(caption)] = caption
    rows = np.repeat(np.arange(len(sentences)), [len(five) for five in sentences])
    places = np.arange(len(embeddings))
    vectors = Vectors([embeddings], np.zeros(len(embeddings), int), places, DIMENSION)
    return TrainingSet(vectors, rows, ids[:, 1:], ids)


def no_encoder() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(DIMENSION, 8)(inputs)))


def notebook_loop(decoder: Decoder, vocabulary: Vocabulary) -> Callable[[np.ndarray], list[str]]:
    """Captions one by one, a word at a time, as the notebook's `generate_caption` does."""
    first_state = tf.function(decoder.first_state, reduce_retracing=True)

    @tf.function(reduce_retracing=True)
    def one_step(word: tf.Tensor, *state: tf.Tensor) -> tuple[tf.Tensor, ...]:
        outputs, state = decoder.step(word, state)
        return tf.nn.softmax(outputs @ decoder.table + decoder.logit_bias), *state

    def caption(embedding: np.ndarray) -> str:
        state, ids = first_state(embedding[None]), [START]
        for _ in range(decoder_length):
            probabilities, *state = one_step(np.array(ids[-1:], np.int32), *state)
            chances = probabilities.numpy()[0]
            chances[[PAD, UNK, START]] = 0
            ids.append(int(chances.argmax()))
            if ids[-1] == END:
                break
        return " ".join(vocabulary.decode(ids))

    decoder_length = notebook_decoder().max_length - 1
    return lambda embeddings: [caption(embedding) for embedding in embeddings]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else VOCABULARY)
