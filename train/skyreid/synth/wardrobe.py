"""Who walks in the world: the schema of a person, its palettes, and families of look-alikes.

A family shares most of its clothes. Its members differ in a few cues, and the cues are known: some
show from above, some from the street, some from both. So the task is hard in a way one can count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from skyreid.synth.closets import TEXTURES, VIVID, Closet

FAMILY_SIZE = 4

SKIN = (
    (0.95, 0.78, 0.67),
    (0.88, 0.67, 0.53),
    (0.76, 0.55, 0.40),
    (0.60, 0.41, 0.29),
    (0.43, 0.28, 0.20),
    (0.30, 0.19, 0.14),
)
HAIR = (
    (0.07, 0.06, 0.05),
    (0.16, 0.10, 0.07),
    (0.30, 0.19, 0.11),
    (0.45, 0.29, 0.16),
    (0.72, 0.56, 0.32),
    (0.48, 0.46, 0.44),
    (0.50, 0.20, 0.10),
)
DENIM = {
    "jeans_dark": (0.12, 0.16, 0.27),
    "jeans": (0.26, 0.36, 0.53),
    "jeans_light": (0.50, 0.60, 0.72),
}
COLOUR = {  # sRGB, 0..1
    "black": (0.07, 0.07, 0.08),
    "charcoal": (0.20, 0.20, 0.22),
    "grey": (0.48, 0.48, 0.50),
    "white": (0.90, 0.90, 0.88),
    "navy": (0.09, 0.13, 0.28),
    "blue": (0.15, 0.33, 0.66),
    "sky": (0.50, 0.69, 0.86),
    "red": (0.70, 0.12, 0.13),
    "maroon": (0.36, 0.08, 0.12),
    "pink": (0.88, 0.55, 0.63),
    "green": (0.16, 0.42, 0.22),
    "olive": (0.33, 0.35, 0.18),
    "yellow": (0.90, 0.76, 0.20),
    "orange": (0.88, 0.45, 0.13),
    "beige": (0.76, 0.67, 0.52),
    "brown": (0.36, 0.23, 0.15),
    "purple": (0.37, 0.20, 0.48),
    "teal": (0.10, 0.44, 0.46),
    **DENIM,
}

HAIRSTYLES = "short short buzz bald bob long bun pony afro".split()
BAGS = "none none backpack backpack crossbody handbag suitcase".split()
LOGOS = "none disc bar cross tri square ring".split()
LEGS = "long long long long long long shorts shorts skirt".split()
POSES = "walk walk walk walk walk phone pocket".split()

PRIVATE_CUES = ("skin", "stride", "pose")  # every member of a family draws its own

LONG_HAIR = ("bob", "long", "bun", "pony", "afro")  # shows under a hat


@dataclass(frozen=True)
class Person:
    """One person: body, clothes and gait. The fields are the keys of `ids.json`.

    `height` is in metres; `build`, `shoulder` and `stride` are factors of the average; `belly` is 0
    for none. Colours are names of `COLOUR`; `skin` and `hair` index their palettes. `sleeve` is the
    covered part of the arm. `bag_side` is +1 left, -1 right. `loose`, `trouser` and `bag_size` are
    factors of the width of the top, of the trousers and of the bag; `tone` of the top's brightness;
    `coat_m` is the height of a coat's lower edge. `cues` are the fields that were drawn anew for
    this person, not taken from the first of its family.
    """

    pid: int
    family: int
    height: float
    build: float
    shoulder: float
    belly: float
    skin: int
    hair: int
    hairstyle: str
    headgear: str
    head_col: str
    top: str
    top2: str
    pattern: str
    pscale: float
    sleeve: float
    open_front: bool
    logo: str
    logo_col: str
    back_logo: str
    hem: str
    bottom: str
    legs: str
    leg_stripe: str
    shoe: str
    sole: str
    sock: str
    bag: str
    bag_col: str
    bag_col2: str
    bag_side: int
    pose: str
    stride: float
    seed: int
    loose: float = 1.0
    trouser: float = 1.0
    bag_size: float = 1.0
    tone: float = 1.0
    coat_m: float = 0.52
    texture: str = "smooth"
    cues: tuple[str, ...] = ()


def random_person(
    rng: np.random.Generator, pid: int, family: int, closet: Closet = VIVID
) -> Person:
    """Draw one person with no regard to anybody else."""

    def pick(words: Sequence[str]) -> str:
        return str(rng.choice(words))

    person = Person(
        pid=pid,
        family=family,
        height=float(np.clip(rng.normal(1.71, 0.09), 1.5, 1.95)),
        build=float(np.clip(rng.normal(1, 0.1), 0.8, 1.3)),
        shoulder=float(rng.normal(1, 0.06)),
        belly=float(max(0.0, rng.normal(0, 0.35))),
        skin=int(rng.integers(len(SKIN))),
        hair=closet.hair[int(rng.integers(len(closet.hair)))],
        hairstyle=pick(HAIRSTYLES),
        headgear=pick(closet.headgear),
        head_col=pick(closet.bags_and_hats),
        top=pick(closet.tops),
        top2=pick(closet.tops),
        pattern=pick(closet.patterns),
        pscale=float(rng.uniform(0.7, 1.6)),
        sleeve=float(rng.choice([0.38, 0.38, 0.95, 0.95, 0.95, 0.0])),
        open_front=bool(rng.random() < 0.25),
        logo=pick(LOGOS),
        logo_col=pick(closet.tops),
        back_logo=pick(LOGOS) if rng.random() < 0.35 else "none",
        hem=pick(closet.hems),
        bottom=pick(closet.bottoms),
        legs=pick(LEGS),
        leg_stripe=pick("none none none none none white red".split()),
        shoe=pick(closet.shoes),
        sole=pick("white black beige".split()),
        sock=pick("white black grey".split()),
        bag=pick(BAGS),
        bag_col=pick(closet.bags_and_hats),
        bag_col2=pick(closet.bags_and_hats),
        bag_side=int(rng.choice([-1, 1])),
        pose=pick(POSES),
        stride=float(rng.uniform(0.8, 1.15)),
        seed=int(rng.integers(1 << 30)),
    )
    if not closet.cuts:
        return person
    return replace(
        person,
        loose=float(rng.choice([0.97, 1.0, 1.08, 1.18, 1.32])),
        trouser=float(rng.choice([0.85, 1.0, 1.0, 1.2, 1.45])),
        bag_size=float(rng.choice([0.7, 1.0, 1.3])),
        tone=float(np.exp(rng.normal(0, 0.22))),
        coat_m=float(rng.choice([0.32, 0.45, 0.6, 0.72])),
        texture=pick(TEXTURES),
    )


def look_from_above(person: Person) -> tuple[Any, ...]:
    """What a drone can tell this person by, apart from the top; equal tuples look alike."""
    hair = ("bald", person.skin) if person.hairstyle == "bald" else (person.hairstyle, person.hair)
    head: tuple[Any, ...]
    if person.headgear == "none":
        head = hair
    elif person.headgear == "hood":  # a hood has the colour of the top and hides the hair
        head = ("hood",)
    else:
        head = (person.headgear, person.head_col)
        head += hair if person.hairstyle in LONG_HAIR else ()
    bag: tuple[Any, ...] = ("none",)
    if person.bag != "none":
        bag = (person.bag, person.bag_col, person.bag_size)
    return head, bag, round(person.shoulder / 0.06), person.loose


def look_from_street(person: Person) -> tuple[Any, ...]:
    """What a street camera can tell this person by, apart from the top, head and bag."""
    trousers = (person.legs, person.bottom)
    if person.hem == "dress":  # a dress hides a skirt, and its legs are bare
        trousers = (person.legs, "" if person.legs == "skirt" else person.bottom)
    stripe = person.leg_stripe if person.legs == "long" else "none"
    logo = (
        ("none",) if person.open_front or person.logo == "none" else (person.logo, person.logo_col)
    )
    # Who wears a coat differs from who does not; the vivid closet never draws the rest anew.
    cut = (person.hem, person.trouser)
    return trousers, cut, stripe, person.shoe, person.sole, person.open_front, logo


def draw_sibling(
    rng: np.random.Generator, family: list[Person], pid: int, closet: Closet = VIVID
) -> Person:
    """A look-alike of `family[0]` that visibly differs from every member, from above and below.

    Drawing two cues is not enough: a new hair colour does not show under a hood, and a new shoe may
    have the old colour. Such draws are rejected.
    """
    eldest = family[0]
    from_above = {look_from_above(member) for member in family}
    from_street = {look_from_street(member) for member in family}
    while True:
        stranger = random_person(rng, pid, eldest.family, closet)
        drawn: list[str] = []
        for cues in (closet.air_cues, closet.ground_cues, closet.common_cues):
            drawn += [str(cue) for cue in rng.choice(cues, 2, replace=False)]
        changes = {cue: getattr(stranger, cue) for cue in (*drawn, *PRIVATE_CUES)}
        seed = int(rng.integers(1 << 30))
        sibling = replace(eldest, pid=pid, seed=seed, cues=tuple(drawn), **changes)
        if (
            look_from_above(sibling) not in from_above
            and look_from_street(sibling) not in from_street
        ):
            return sibling


def population(
    count: int, seed: int, family_size: int = FAMILY_SIZE, closet: Closet = VIVID
) -> list[Person]:
    """`count` people, numbered from 1, in families of look-alikes (the last may be smaller)."""
    rng = np.random.default_rng(seed)
    people: list[Person] = []
    family: list[Person] = []
    for pid in range(1, count + 1):
        if len(family) in (0, family_size):
            family = [random_person(rng, pid, (pid - 1) // family_size, closet)]
        else:
            family.append(draw_sibling(rng, family, pid, closet))
        people.append(family[-1])
    return people


def person_as_json(person: Person) -> dict[str, Any]:
    """The person as it stands in `ids.json`."""
    return {field.name: getattr(person, field.name) for field in fields(person)}
