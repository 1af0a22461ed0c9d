"""Captioning a batch of images, part by part: one row per image, whatever happened to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from components.archives.archive import Location
from components.artifacts import Incomplete, write_atomic
from components.encoder.pool import EmbeddingPool, JoinedVectors, PoolLookup
from components.encoder.store import reasons_of
from components.images.photographs import is_transient
from components.model.captioner import Captioner
from components.model.reference import REFERENCE_FILE, Reference
from components.scoring.dataset import NOTHING, PART, PART_PATTERN, Scorer
from components.scoring.embed import SHARD, fill_pools
from data_contracts.schema import PREDICTIONS

DRIFT_FILE = "drift.parquet"
Captions = dict[str, tuple[str, float]]
"""Content → caption and log-probability."""


def with_identity(photographs: pd.DataFrame) -> pd.DataFrame:
    """Inputs (see `inputs.read_inputs`) with the content's digest as `image_id`."""
    return photographs.assign(image_id=photographs["digest"].where(photographs["digest"] != "", NOTHING))


def parts_of(folder: Path) -> list[Path]:
    """The parts that `score_parts` wrote."""
    return sorted(folder.glob(PART_PATTERN))


def score_parts(
    new: pd.DataFrame,
    known: pd.DataFrame,
    archives: Mapping[str, Location],
    captioner: Captioner,
    scorer: Scorer,
    pools: Path,
    folder: Path,
) -> int:
    """Writes the predictions (`schema.PREDICTIONS`) of the new inputs in parts, and how they drift. Returns the rows.

    `known` are predictions of the same scorer: a content that is among them, or came in an earlier part, is not
    captioned again. A part that is there already, of a run that was killed, stays, unless a reason in it may have
    passed. `pools` holds each encoder's pool. `Incomplete` when an input that was read could not be embedded for now.
    """
    captions = _captions(known)
    work = _Work(captioner, scorer, archives, pools, captions)
    again = False
    for number, start in enumerate(range(0, len(new), SHARD)):
        path, inputs = folder / PART.format(number), new.iloc[start : start + SHARD]
        table = pd.read_parquet(path) if path.exists() else None
        if table is None or _failed_for_now(table, inputs):
            table = work.part(inputs)
            with write_atomic(path) as temporary:
                table.to_parquet(temporary, index=False)
        captions |= _captions(table)
        again |= _failed_for_now(table, inputs)
    work.drift(new).to_parquet(folder / DRIFT_FILE, index=False)
    return Incomplete(len(new)) if again else len(new)


def _failed_for_now(table: pd.DataFrame, inputs: pd.DataFrame) -> bool:
    """Whether an input that could be read has no caption, for a reason that may pass."""
    return bool((is_transient(table["error"]).to_numpy() & (inputs["digest"] != "").to_numpy()).any())


def _captions(predictions: pd.DataFrame) -> Captions:
    ok = predictions[predictions["status"] == "ok"]
    return dict(zip(ok["image_id"], zip(ok["caption"], ok["logprob"], strict=True), strict=True))


@dataclass(frozen=True)
class _Work:
    captioner: Captioner
    scorer: Scorer
    archives: Mapping[str, Location]
    pools: Path
    captions: Captions

    def part(self, inputs: pd.DataFrame) -> pd.DataFrame:
        """The predictions of some inputs; their new contents' captions are remembered."""
        photographs = inputs.assign(image_id=range(len(inputs)))
        filled = fill_pools(self.captioner, photographs, self.archives, self.pools)
        found = [pool.find(inputs["digest"].tolist()) for pool in filled]
        good = inputs["digest"].map(lambda digest: all(digest in known.places for known in found)).astype(bool)
        unseen = [digest for digest in inputs.loc[good, "digest"].unique() if digest not in self.captions]
        vectors = _join(filled, found, unseen)
        for digest, (best, *_) in zip(unseen, self.captioner.caption(vectors, self.scorer.search), strict=True):
            self.captions[digest] = best.text, best.logprob
        table = pd.DataFrame(
            {
                "image_id": inputs["image_id"],
                "uri": inputs["uri"],
                "caption": "",
                "logprob": np.nan,
                "status": np.where(good, "ok", "quarantined"),
                "error": "",
                "model_version": self.scorer.model.rpartition("/")[2],
                "encoder_fingerprint": self.captioner.fingerprint,
                "scored_at": datetime.now(UTC),
            }
        )
        said = [self.captions[digest] for digest in inputs.loc[good, "digest"]]
        table.loc[good, "caption"] = [text for text, _ in said]
        table.loc[good, "logprob"] = [logprob for _, logprob in said]
        table.loc[~good, "error"] = reasons_of(photographs[~good], found)
        return table.astype(PREDICTIONS)[list(PREDICTIONS)]

    def drift(self, inputs: pd.DataFrame) -> pd.DataFrame:
        """How the inputs that could be read lie from what the model was trained on: `schema.DRIFT`."""
        pools = fill_pools(self.captioner, inputs.iloc[:0], self.archives, self.pools)
        found = [pool.find(inputs["digest"].unique().tolist()) for pool in pools]
        there = [d for d in inputs["digest"] if all(d in known.places for known in found)]
        digests = [d for d in there if d in self.captions]  # another run may have embedded one meanwhile
        vectors = _join(pools, found, digests)
        texts = pd.Series([self.captions[digest][0] for digest in digests], dtype="str")
        return Reference.load(self.captioner.folder / REFERENCE_FILE).compare(vectors, texts)


def _join(pools: Sequence[EmbeddingPool], found: Sequence[PoolLookup], digests: Sequence[str]) -> JoinedVectors:
    parts = zip(pools, found, strict=True)
    return JoinedVectors([pool.vectors([known.places[digest] for digest in digests]) for pool, known in parts])
