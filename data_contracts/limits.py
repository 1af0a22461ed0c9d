"""What the data contracts tolerate: every threshold, its default and the reason for it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1, lt=2**31)]
Share = Annotated[float, Field(ge=0, le=1)]


class Limits(BaseModel):
    """The thresholds of the contracts' rules. Rates and shares are fractions, 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_caption_words: Count = 50
    """The longest caption of COCO's validation set has 49 words; more is a pasted paragraph."""
    min_captions_per_image: Count = 2
    """The metrics compare with several references; with a single one they are noise."""
    max_captions_per_image: Count = 10
    """COCO has 5 to 7 an image; many more suggest that two images share an id."""
    min_letter_share: Share = 0.6
    """Of a caption's visible characters: COCO has no lower than 0.67, Flickr8k 0.80; less is no sentence."""
    max_bad_fraction: Share = 0.05
    """Of a split's images: a few files are broken anywhere, more is a broken archive."""
    max_leaked_images: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Photographs whose very bytes are in two splits: scores on photographs seen in training flatter."""
    max_vocabulary: Annotated[int, Field(ge=5, lt=2**31)] = 30_000
    """COCO 2014 has 8,769 words that occur five times; the softmax costs memory per word."""
    max_unknown_rate: Share = 0.15
    """Of a split's words: Flickr8k has 0.03, 800 images of COCO 0.11."""
    min_known_captions: Share = 0.5
    """Of a split's captions, without any unknown word: Flickr8k has 0.78, COCO's validation set alone 0.75."""
    max_truncated_share: Share = 0.1
    """Of a split's captions, longer than `decoder.max_length`: at 20 COCO has 0.01, Flickr8k 0.04."""
    max_norm_ratio: Annotated[float, Field(gt=1)] = 5.0
    """Of an embedding's length to the median, or the other way round: Flickr8k's are within 1.6."""
    max_repeated_embedding_share: Share = 0.05
    """Vectors equal to an earlier one: photographs listed twice, or a broken encoder."""
    max_repeated_caption_share: Share = 0.2
    """The most frequent caption's share; a decoder that ignores the image repeats itself."""
    min_distinct_captions: Share = 0.05
    """Of a model's captions: the notebook's model has 0.85 on 1,000 photographs; few phrases say little."""
    max_dangling_share: Share = 0.1
    """Of a model's captions, ending in a word such as `a` or `with`: cut off, or trained on the score alone."""
    min_caption_words: Count = 3
    """Of a model's caption: a shorter one says less than a label."""
    min_captions_together: Count = 20
    """Among fewer captions neither a repeated one nor their ends say anything."""
    max_embedding_shift: Annotated[float, Field(gt=0)] = 0.5
    """Of a scoring run's mean embedding from training's, in standard deviations: it sees other photographs."""
    max_outlier_share: Share = 0.1
    """Of a scoring run's embeddings, farther from training's mean than all but 1 % of its own."""
    max_length_ratio: Annotated[float, Field(gt=1)] = 1.5
    """Of a scoring run's mean caption length to training's, or the other way round."""
    min_images_for_drift: Count = 100
    """Of fewer images the mean is noise."""
