"""Everything a captioner needs in one folder: what is evaluated, registered and served.

model.py                 the code, for MLflow's models-from-code
captioner/saved_model/   encoders and decoding loops as one graph: embed_0 (and so on), greedy, beam, sample, next_words
captioner/vocabulary.json
captioner/reference.json what training's embeddings and captions looked like
captioner/history.json   the decoder's training, epoch by epoch
captioner/model.json     the encoders' fingerprints and input sizes, longest caption, schema version
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.decoder import search
from components.decoder.model import Decoder
from components.encoder.encoders import Network
from components.encoder.pool import EncoderCard
from components.model.bundle import bundle
from components.model.captioner import CAPTIONER_FOLDER, CODE_FILE, MODEL_SCHEMA
from components.model.reference import REFERENCE_FILE, Reference
from components.training.history import History, write_history
from components.vocabulary.vocabulary import Vocabulary


def write_package(
    decoder: Decoder,
    vocabulary: Vocabulary,
    networks: Sequence[Network],
    encoders: Sequence[EncoderCard],
    reference: Reference,
    history: History,
    max_length: int,
    folder: Path,
) -> int:
    """Writes the package into `folder`, with the encoders' `networks` or, without any, for embeddings only.

    Returns the number of files.
    """
    inner = folder / CAPTIONER_FOLDER
    inner.mkdir(parents=True, exist_ok=True)
    # The decoder was trained to produce what follows START.
    _export(decoder, networks, encoders, max_length - 1, inner / "saved_model")
    vocabulary.save(inner / "vocabulary.json")
    reference.save(inner / REFERENCE_FILE)
    write_history(history, inner)
    cards = [asdict(encoder) for encoder in encoders]
    card = {"schema": MODEL_SCHEMA, "encoders": cards, "bundled": bool(networks), "max_length": max_length}
    (inner / "model.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
    (folder / CODE_FILE).write_text(bundle("components.model.pyfunc_model"), encoding="utf-8")
    return sum(path.is_file() for path in folder.rglob("*"))


def _export(
    decoder: Decoder, networks: Sequence[Network], encoders: Sequence[EncoderCard], longest: int, folder: Path
) -> None:
    import keras
    import tensorflow as tf

    def sample(embeddings: Any, length: Any, temperature: Any, top_k: Any, top_p: Any, seed: Any) -> Any:
        uniform = tf.random.stateless_uniform([length, tf.shape(embeddings)[0]], tf.stack([seed, 0]))
        return search.sample(decoder, embeddings, length, uniform, temperature, top_k, top_p)

    def next_words(embeddings: Any, words: Any) -> Any:
        return tf.nn.log_softmax(decoder((embeddings, words)))

    def embed(network: Network) -> Callable[[Any], Any]:
        return lambda pixels: network(tf.cast(pixels, tf.float32), training=False)

    spec = tf.TensorSpec
    embeddings = spec([None, sum(encoder.dimension for encoder in encoders)], tf.float32)
    number, share = spec([], tf.int32), spec([], tf.float32)
    archive = keras.export.ExportArchive()
    archive.track(decoder)
    for position, (network, encoder) in enumerate(zip(networks, encoders, strict=bool(networks))):
        archive.track(network)
        photographs = spec([None, encoder.input_size, encoder.input_size, 3], tf.uint8)
        archive.add_endpoint(f"embed_{position}", embed(network), [photographs])
    archive.add_endpoint("greedy", lambda e, length: search.greedy(decoder, e, length), [embeddings, number])
    archive.add_endpoint(
        "beam", lambda e, length, width: search.beam(decoder, e, length, width), [embeddings, number, number]
    )
    archive.add_endpoint("sample", sample, [embeddings, number, share, number, share, number])
    archive.add_endpoint("next_words", next_words, [embeddings, spec([None, longest], tf.int32)])
    archive.write_out(str(folder), verbose=False)
