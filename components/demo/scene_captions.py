"""What the demo's scenes show, and the sentences that tell it: a small world and a small grammar."""

from random import Random
from typing import Final, Literal, NamedTuple

Place = Literal["sky", "ground", "water"]
Size = Literal["small", "big"]


class Kind(NamedTuple):
    """A kind of object: where it belongs, what it does there, and the colours it comes in."""

    place: Place
    does: str
    colours: tuple[str, ...]


class Setting(NamedTuple):
    """A background: its name, the preposition before it, and the kinds of object that may be in it."""

    noun: str
    preposition: str
    kinds: tuple[str, ...]


# Three or four colours a kind, well apart: pooled ImageNet features tell those, and would confuse all seven.
# The order is that of mention: of two things, the one that comes first here is the sentence's subject.
KINDS: Final = {
    "balloon": Kind("sky", "floats", ("red", "yellow", "purple")),
    "kite": Kind("sky", "flies", ("orange", "green", "pink")),
    "airplane": Kind("sky", "flies", ("red", "yellow", "blue")),
    "house": Kind("ground", "stands", ("red", "yellow", "blue")),
    "tree": Kind("ground", "grows", ("green", "orange", "pink")),
    "car": Kind("ground", "is parked", ("red", "yellow", "blue")),
    "tent": Kind("ground", "stands", ("green", "blue", "pink")),
    "umbrella": Kind("ground", "stands", ("red", "green", "purple")),
    "lighthouse": Kind("ground", "stands", ("red", "blue")),
    "sailboat": Kind("water", "sails", ("red", "yellow", "purple")),
    "duck": Kind("water", "swims", ("yellow", "green", "pink")),
}

SETTINGS: Final = {
    "meadow": Setting("a green meadow", "in", ("balloon", "kite", "house", "tree", "car")),
    "beach": Setting("a sandy beach", "on", ("tent", "umbrella", "lighthouse", "sailboat")),
    "snow": Setting("a snowy field", "in", ("airplane", "house", "tree", "tent")),
    "desert": Setting("a dry desert", "in", ("balloon", "airplane", "car", "tent")),
    "city": Setting("a city at night", "in", ("balloon", "airplane", "house", "tree", "car")),
    "lake": Setting("a calm lake", "on", ("balloon", "kite", "sailboat", "duck")),
}


class Thing(NamedTuple):
    """One object of a scene; `kind` is a key of `KINDS`."""

    kind: str
    colour: str
    size: Size


class Scene(NamedTuple):
    """One or two things in a setting (a key of `SETTINGS`).

    Of two, the first is above the second when it is in the sky, in front of it when it is on the ground and
    the second on the water, and beside it otherwise.
    """

    setting: str
    things: tuple[Thing, ...]


def imagine_scene(rng: Random) -> Scene:
    """Draw a scene: one thing, or twice as often two of different kind and colour, never two in the sky."""
    setting = rng.choice(list(SETTINGS))
    kinds = rng.sample(SETTINGS[setting].kinds, k=rng.choice((1, 2, 2)))
    if all(KINDS[kind].place == "sky" for kind in kinds):
        kinds = kinds[:1]
    things: list[Thing] = []
    for kind in sorted(kinds, key=list(KINDS).index):
        colours = [colour for colour in KINDS[kind].colours if colour not in {t.colour for t in things}]
        things.append(Thing(kind, rng.choice(colours), rng.choice(("small", "big"))))
    return Scene(setting, tuple(things))


# {a} and {b} are "a big red house"; {short_a} and {short_b} leave the size out where a sentence grows long.
_ONE: Final = (
    "{a} {does} {where}",
    "there is {a} {where}",
    "{where} there is {a}",
    "{where} {does} {a}",
    "a picture of {a} {where}",
    "{a} {does} all alone {where}",
    "{setting} with {a}",
)
_TWO: Final = (
    "{a} {does} {near} {b} {where}",
    "{where}, {a} {does} {near} {short_b}",
    "there is {a} {near} {short_b} {where}",
    "a picture of {short_a} {near} {short_b} {where}",
    "{a} {near} {b} {where}",
    "{setting} with {b} {conversely} {a}",
    "{setting} with {a} and {b}",
)
_SYNONYMS: Final = {"big": ("big", "big", "large"), "small": ("small", "small", "little")}


def describe_scene(scene: Scene, rng: Random) -> list[str]:
    """Return five differently built English sentences, of 6 to 16 words each and all true of the scene."""
    a, b = scene.things[0], scene.things[-1]
    setting, places = SETTINGS[scene.setting], (KINDS[a.kind].place, KINDS[b.kind].place)
    captions = []
    for pattern in rng.sample(_ONE if len(scene.things) == 1 else _TWO, k=5):
        where = f"{setting.preposition} {setting.noun}"
        near, conversely = rng.choice(("next to", "beside")), "next to"
        if places == ("sky", "sky"):
            where = rng.choice((f"over {setting.noun}", f"in the sky over {setting.noun}"))
        elif "sky" in places:
            near, conversely = rng.choice(("above", "over")), "under"
        elif places == ("ground", "water"):
            near, conversely = "in front of", "behind"
        elif scene.setting == "beach" and "water" in places:
            where = f"by {setting.noun}"
        words = pattern.format(
            a=_with_article(rng.choice(_SYNONYMS[a.size]), a.colour, a.kind),
            b=_with_article(rng.choice(_SYNONYMS[b.size]), b.colour, b.kind),
            short_a=_with_article(a.colour, a.kind),
            short_b=_with_article(b.colour, b.kind),
            does=KINDS[a.kind].does,
            near=near,
            conversely=conversely,
            setting=setting.noun,
            where=where,
        )
        captions.append(words[0].upper() + words[1:] + ".")
    return captions


def _with_article(*words: str) -> str:
    return " ".join(("an" if words[0][0] in "aeiou" else "a", *words))
