"""Everything a captioner needs in one folder: what is evaluated, registered and served.

model.py                 the code, for MLflow's models-from-code
captioner/saved_model/   encoder and decoding loops as one graph: embed, greedy, beam, sample
captioner/vocabulary.json
captioner/reference.json what training's embeddings and captions looked like
captioner/model.json     encoder fingerprint, input size, longest caption, schema version
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.decoder import search
from components.decoder.model import Decoder
from components.encoder.pool import EncoderCard
from components.encoder.registry import Network
from components.registry.bundle import bundle
from components.registry.captioner import CAPTIONER_FOLDER, CODE_FILE, MODEL_SCHEMA
from components.registry.reference import REFERENCE_FILE, Reference
from components.vocabulary.vocabulary import Vocabulary


def write_package(
    decoder: Decoder,
    vocabulary: Vocabulary,
    network: Network,
    encoder: EncoderCard,
    reference: Reference,
    max_length: int,
    folder: Path,
) -> int:
    """Writes the package into `folder`. Returns the number of files."""
    inner = folder / CAPTIONER_FOLDER
    inner.mkdir(parents=True, exist_ok=True)
    # The decoder was trained to produce what follows START.
    _export(decoder, network, encoder, max_length - 1, inner / "saved_model")
    vocabulary.save(inner / "vocabulary.json")
    reference.save(inner / REFERENCE_FILE)
    card = {"schema": MODEL_SCHEMA, "encoder": asdict(encoder), "max_length": max_length}
    (inner / "model.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
    (folder / CODE_FILE).write_text(bundle("components.registry.served"), encoding="utf-8")
    return sum(path.is_file() for path in folder.rglob("*"))


def _export(decoder: Decoder, network: Network, encoder: EncoderCard, length: int, folder: Path) -> None:
    import keras
    import tensorflow as tf

    def gumbel(seed: Any) -> Callable[[Any, Any], Any]:
        def noise(logits: Any, step: Any) -> Any:
            uniform = tf.random.stateless_uniform(tf.shape(logits), tf.stack([seed, step]), minval=1e-20)
            return -tf.math.log(-tf.math.log(uniform))

        return noise

    spec = tf.TensorSpec
    size = encoder.input_size
    photographs, scalar = spec([None, size, size, 3], tf.uint8), spec([], tf.int32)
    embeddings = spec([None, encoder.dimension], tf.float32)
    archive = keras.export.ExportArchive()
    archive.track(decoder)
    archive.track(network)
    archive.add_endpoint("embed", lambda pixels: network(tf.cast(pixels, tf.float32), training=False), [photographs])
    archive.add_endpoint("greedy", lambda e: search.greedy(decoder, e, length), [embeddings])
    archive.add_endpoint("beam", lambda e, width: search.beam(decoder, e, length, width), [embeddings, scalar])
    archive.add_endpoint(
        "sample",
        lambda e, temperature, seed: search.sample(decoder, e, length, temperature, gumbel(seed)),
        [embeddings, spec([], tf.float32), scalar],
    )
    archive.write_out(str(folder), verbose=False)
