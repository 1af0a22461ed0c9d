"""The contract of what a scoring run is given: photographs and captions such as the model was trained on.

It only warns: a model may be meant for other photographs, but somebody should know.
"""

from collections.abc import Iterator

import pandas as pd

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.rules import Suite, in_range, suite, warning
from data_contracts.runner import check_columns, contract, validate
from data_contracts.schema import DRIFT


@contract
def check(drift: pd.DataFrame, limits: Limits) -> Iterator[ContractReport]:
    """Validates a table of `schema.DRIFT`."""
    yield check_columns("drift", {"drift": (drift, DRIFT)})
    yield validate(drift_facts(drift, limits.min_images_for_drift), drift_suite(limits), ids=("images",))


def drift_facts(drift: pd.DataFrame, min_count: int) -> pd.DataFrame:
    """The row with `length_ratio` (of the captions' mean length to training's, or the other way round); all figures
    are null for fewer images than `min_count`.
    """
    ratio = drift["caption_words"] / drift["training_caption_words"]
    facts = drift.assign(length_ratio=ratio.where(ratio >= 1, 1 / ratio))
    figures = ["embedding_shift", "outlier_share", "length_ratio"]
    facts[figures] = facts[figures].where(facts["images"] >= min_count)
    return facts


def drift_suite(limits: Limits) -> Suite:
    """The rules, all of them warnings."""
    shift, far, ratio = limits.max_embedding_shift, limits.max_outlier_share, limits.max_length_ratio
    remedy = "Look at these photographs: if they are what the model is for, train it on images like these."
    return suite("drift", [
        warning("embeddings-centred", in_range("embedding_shift", high=shift),
                f"a mean embedding within {shift:g} standard deviations of training's", remedy=remedy),
        warning("few-embeddings-far", in_range("outlier_share", high=far),
                f"at most {far:g} of the embeddings farther out than all but 0.01 of training's", remedy=remedy),
        warning("caption-length-usual", in_range("length_ratio", high=ratio),
                f"captions whose mean length is within {ratio:g} times training's, up or down",
                remedy="Look at the captions: does the model say the same to everything, or not stop?"),
    ])  # fmt: skip
