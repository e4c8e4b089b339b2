"""A small dataset, drawn here so that none has to be fetched: houses at the sea, each with a caption that is true."""

import io
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIDE = 768
COUNT = 12
TIMES = {
    "at dawn": ((250, 214, 190), (255, 238, 214), (236, 142, 110)),
    "at noon": ((141, 196, 230), (220, 240, 250), (255, 233, 150)),
    "at dusk": ((88, 74, 125), (226, 138, 116), (255, 190, 120)),
    "at night": ((18, 26, 54), (46, 60, 104), (238, 238, 220)),
}
WALLS = {"white": (245, 242, 234), "red": (190, 70, 60), "yellow": (232, 190, 84)}
SEA = (60, 110, 140)
TRIGGER = "tnhs style"


@dataclass(frozen=True)
class Drawing:
    name: str
    caption: str
    jpeg: bytes


def drawings() -> Iterator[Drawing]:
    """Twelve JPEGs of 768 px, the same on every machine, with their captions."""
    scenes = [(time, wall) for wall in WALLS for time in TIMES]
    for number, (time, wall) in enumerate(scenes[:COUNT], start=1):
        image = _scene(time, wall, random.Random(number))  # noqa: S311 - it only has to be repeatable
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=90)
        yield Drawing(f"house-{number:02}.jpg", f"a {wall} house by the sea {time}, {TRIGGER}", stream.getvalue())


def _scene(time: str, wall: str, dice: random.Random) -> Image.Image:
    top, bottom, light = TIMES[time]
    image = Image.new("RGB", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    horizon = 430 + dice.randrange(-40, 40)
    for y in range(horizon):
        draw.line([(0, y), (SIDE, y)], fill=_blend(top, bottom, y / horizon))
    x, y, radius = dice.randrange(90, SIDE - 90), dice.randrange(70, 210), dice.randrange(34, 58)
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=light)
    for y in range(horizon, SIDE):
        wave = int(8 * math.sin(y / 9 + dice.random()))
        draw.line([(0, y), (SIDE, y)], fill=_blend(_blend(SEA, bottom, 0.35), SEA, (y - horizon) / (SIDE - horizon) + wave / 400))
    _house(draw, wall, time, dice)
    return image


def _house(draw: ImageDraw.ImageDraw, wall: str, time: str, dice: random.Random) -> None:
    ground = 590 + dice.randrange(0, 50)
    left, width, height = dice.randrange(150, 400), dice.randrange(180, 250), dice.randrange(130, 180)
    draw.ellipse([left - 170, ground - 60, left + width + 170, SIDE + 190], fill=(104, 138, 92) if time != "at night" else (34, 52, 50))
    dim = 0.45 if time == "at night" else 1.0
    body = tuple(int(value * dim) for value in WALLS[wall])
    draw.rectangle([left, ground - height, left + width, ground], fill=body)
    roof = [(left - 18, ground - height), (left + width + 18, ground - height), (left + width // 2, ground - height - 90)]
    draw.polygon(roof, fill=(96, 56, 48) if time != "at night" else (44, 30, 34))
    draw.rectangle([left + width // 2 - 20, ground - 74, left + width // 2 + 20, ground], fill=(70, 48, 40))
    glow = (255, 226, 140) if time in ("at night", "at dusk") else (176, 208, 222)
    for column in (left + 24, left + width - 64):
        draw.rectangle([column, ground - height + 28, column + 40, ground - height + 68], fill=glow)


def _blend(first: tuple[int, int, int], second: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    share = min(1.0, max(0.0, share))
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
