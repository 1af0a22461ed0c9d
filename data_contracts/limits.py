"""What the data contracts tolerate: every threshold, its default and the reason for it."""

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    """The thresholds of the contracts' rules. Rates and shares are fractions, 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_caption_words: int = Field(
        default=50,
        ge=1,
        description="The longest caption of COCO's validation set has 49 words; more is a pasted paragraph.",
    )
    min_captions_per_image: int = Field(
        default=2,
        ge=1,
        description="The metrics compare with several references; with a single one they are noise.",
    )
    max_captions_per_image: int = Field(
        default=10,
        ge=1,
        description="COCO has 5 to 7 an image; many more suggest that two images share an id.",
    )
    max_bad_fraction: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Of a split's images: a few files are broken anywhere, more is a broken archive.",
    )
    max_vocabulary: int = Field(
        default=30_000,
        ge=5,
        description="COCO 2014 has 8,769 words that occur five times; the softmax costs memory per word.",
    )
    max_unknown_rate: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="Of a split's words: Flickr8k has 0.03, 800 images of COCO 0.11.",
    )
    max_repeated_embedding_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Vectors equal to an earlier one: photographs listed twice, or a broken encoder.",
    )
    max_repeated_caption_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="The most frequent caption's share; a decoder that ignores the image repeats itself.",
    )
    min_captions_to_judge_repeats: int = Field(
        default=20, ge=1, description="Among fewer captions a repeated one says nothing."
    )
