"""What the data contracts tolerate: every threshold, its default and the reason for it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
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
    max_bad_fraction: Share = 0.05
    """Of a split's images: a few files are broken anywhere, more is a broken archive."""
    max_vocabulary: Annotated[int, Field(ge=5)] = 30_000
    """COCO 2014 has 8,769 words that occur five times; the softmax costs memory per word."""
    max_unknown_rate: Share = 0.15
    """Of a split's words: Flickr8k has 0.03, 800 images of COCO 0.11."""
    max_repeated_embedding_share: Share = 0.05
    """Vectors equal to an earlier one: photographs listed twice, or a broken encoder."""
    max_repeated_caption_share: Share = 0.2
    """The most frequent caption's share; a decoder that ignores the image repeats itself."""
    min_captions_to_judge_repeats: Count = 20
    """Among fewer captions a repeated one says nothing."""
