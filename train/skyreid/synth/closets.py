"""What there is to wear: two closets, and in which cues look-alikes of each differ.

Out of `VIVID` people are told apart by colours mostly, and a network that learns from them alone
lives on colour. `EVERYDAY` is what streets wear: black, grey, navy, denim and white, and of its
look-alikes none differs from another by a colour, only by cut, hair, headgear, bag, build and the
texture of the cloth, which a grey camera sees as well.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Closet:
    """Words to draw from; a word that appears twice is drawn twice as often.

    `air_cues`, `ground_cues` and `common_cues` are the fields of a person that look-alikes may
    differ in, by where they show. `cuts` draws the fields that only some closets vary: how wide
    top and trousers are, how large the bag, how long a coat, what cloth, how bright the dye.
    """

    tops: tuple[str, ...]
    bottoms: tuple[str, ...]
    bags_and_hats: tuple[str, ...]
    shoes: tuple[str, ...]
    patterns: tuple[str, ...]
    headgear: tuple[str, ...]
    hair: tuple[int, ...]
    hems: tuple[str, ...]
    air_cues: tuple[str, ...]
    ground_cues: tuple[str, ...]
    common_cues: tuple[str, ...]
    cuts: bool


def _words(spelled: str) -> tuple[str, ...]:
    """`black*3 navy` is black three times and navy once."""
    found: list[str] = []
    for word in spelled.split():
        name, _, times = word.partition("*")
        found += [name] * int(times or 1)
    return tuple(found)


TEXTURES = _words("smooth*6 ribs quilt mottled*2 panels")
"""Of a top's cloth where a closet varies it."""

VIVID = Closet(
    tops=_words(
        "black*2 charcoal*2 grey*2 navy*2 white*2 blue sky red maroon pink green olive yellow "
        "orange beige brown purple teal"
    ),
    bottoms=_words("black charcoal grey navy beige brown olive white jeans_dark jeans jeans_light"),
    bags_and_hats=_words("black*4 charcoal*2 grey*2 navy*2 brown olive beige white red blue teal"),
    shoes=_words("black white brown red grey navy beige"),
    patterns=_words("solid*2 hstripe vstripe plaid block dots camo yoke"),
    headgear=_words("none*3 cap beanie sunhat hood helmet"),
    hair=tuple(range(7)),
    hems=_words("shirt*6 coat dress"),
    air_cues=("headgear", "hair", "hairstyle", "head_col", "bag", "bag_col", "shoulder"),
    ground_cues=("bottom", "legs", "shoe", "logo", "leg_stripe", "open_front", "sole"),
    common_cues=("pattern", "top2", "sleeve", "build", "height", "back_logo"),
    cuts=False,
)

EVERYDAY = Closet(
    tops=_words(
        "black*10 charcoal*5 grey*4 navy*5 white*5 beige*2 brown*2 olive*2 jeans_dark jeans blue "
        "sky maroon red green"
    ),
    bottoms=_words(
        "black*8 charcoal*4 navy*3 grey*2 jeans_dark*5 jeans*4 jeans_light beige*2 olive brown "
        "white"
    ),
    bags_and_hats=_words("black*8 charcoal*3 grey*2 navy*2 brown*2 beige white olive"),
    shoes=_words("black*5 white*4 brown*2 grey*2 navy beige"),
    patterns=_words("solid*9 hstripe plaid block*2 yoke dots camo"),
    headgear=_words("none*9 cap*2 beanie sunhat hood*2 helmet"),
    hair=(0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 6),
    hems=_words("shirt*6 coat*3 dress"),
    air_cues=("headgear", "hairstyle", "bag", "bag_size", "shoulder", "loose"),
    ground_cues=("legs", "hem", "trouser", "logo", "open_front", "sole"),
    common_cues=("pattern", "texture", "sleeve", "build", "height", "back_logo", "belly"),
    cuts=True,
)

CLOSETS = {"vivid": VIVID, "everyday": EVERYDAY}
"""By the name that `--wardrobe` knows."""
