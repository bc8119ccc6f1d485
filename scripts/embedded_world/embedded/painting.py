"""Draw a scene: background, subject sprite, light, style, then the five scalar qualities.

Subjects are Noto Emoji glyphs (Debian's fonts-noto-color-emoji), needed only while painting.
"""

from __future__ import annotations

import random
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from embedded_world.embedded.world import BANDS, SIZE, Scene

EMOJI_FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
CANVAS = 128
"""Scenes are painted at twice the final size, then shrunk."""
HORIZON = 80
"""Where the ground begins: between two rows of 8x8 patches of the final picture."""
STANDS = {"wide": (50, 106), "medium": (72, 114), "close": (96, 120)}
"""The size of a subject and where it stands, by framing. Only small things are left to the seed:
what stands still is learned in a fraction of the steps."""

GLYPHS = {
    "cat": "🐈",
    "fox": "🦊",
    "owl": "🦉",
    "penguin": "🐧",
    "elephant": "🐘",
    "dragon": "🐉",
    "butterfly": "🦋",
    "robot": "🤖",
    "wizard": "🧙",
    "castle": "🏰",
    "car": "🚗",
    "rocket": "🚀",
    "ship": "⛵",
    "sunflower": "🌻",
    "apple": "🍎",
    "guitar": "🎸",
}

Colour = tuple[int, int, int]

SKIES: dict[str, tuple[Colour, Colour]] = {
    "overcast": ((150, 155, 160), (185, 188, 190)),
    "daylight": ((85, 160, 240), (190, 225, 250)),
    "golden": ((110, 90, 160), (255, 170, 70)),
    "night": ((8, 10, 50), (35, 45, 105)),
    "neon": ((60, 0, 95), (225, 30, 170)),
    "dramatic": ((25, 35, 55), (240, 200, 130)),
}
TINTS = {
    "overcast": (0.82, 0.85, 0.88),
    "daylight": (1.04, 1.04, 1.0),
    "golden": (1.16, 0.92, 0.6),
    "night": (0.45, 0.52, 0.9),
    "neon": (1.0, 0.5, 1.15),
    "dramatic": (1.05, 0.95, 0.82),
}
_SPACE = ((6, 4, 18), (28, 16, 52))
_SEA = ((40, 145, 190), (5, 45, 95))


@cache
def _sprite(subject: str) -> Image.Image:
    font = ImageFont.truetype(EMOJI_FONT, 109)
    image = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(image).text((10, 10), GLYPHS[subject], font=font, embedded_color=True)
    return image.crop(image.getbbox())


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (int(x * (1 - share) + y * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _sky(scene: Scene) -> Image.Image:
    top, bottom = SKIES[scene.light]
    if scene.place == "space":
        top, bottom = _mix(top, _SPACE[0], 0.8), _mix(bottom, _SPACE[1], 0.75)
    elif scene.place == "underwater":
        top, bottom = _mix(top, _SEA[0], 0.7), _mix(bottom, _SEA[1], 0.75)
    t = np.linspace(0, 1, CANVAS)[:, None, None]
    column = (1 - t) * np.array(top) + t * np.array(bottom)
    return Image.fromarray(column.repeat(CANVAS, 1).astype(np.uint8))


def _beach(d: ImageDraw.ImageDraw, horizon: int, r: random.Random, marks: int) -> None:
    d.rectangle((0, horizon - 16, 128, horizon + 4), fill=(30, 125, 185))
    d.rectangle((0, horizon + 4, 128, 128), fill=(235, 215, 160))
    for i in range(marks):
        x = r.randint(0, 100)
        y = horizon - 14 + 3 * (i % 6)
        d.line((x, y, x + 24, y), fill=(205, 238, 248), width=2)


def _forest(d: ImageDraw.ImageDraw, horizon: int, r: random.Random, marks: int) -> None:
    d.rectangle((0, horizon, 128, 128), fill=(55, 95, 40))
    for i in range(6 + marks // 2):
        x, h = 2 + (i * 21) % 124, 46 + i * 7 % 17
        d.rectangle((x + 2, horizon - h // 2, x + 6, horizon + 4), fill=(75, 50, 30))
        tip = ((x - 10, horizon - 6), (x + 18, horizon - 6), (x + 4, horizon - h))
        d.polygon(tip, fill=(20, (80, 95, 110)[i % 3], 40))


def _mountains(d: ImageDraw.ImageDraw, horizon: int, r: random.Random, marks: int) -> None:
    for i, x in enumerate((14, 108, 62)):
        h, w, grey = (50, 44, 60)[i], 40, (95, 105, 118)[i]
        d.polygon(((x - w, horizon), (x + w, horizon), (x, horizon - h)), fill=(grey,) * 3)
        snow = horizon - h * 3 // 4
        d.polygon(((x - w // 4, snow), (x + w // 4, snow), (x, horizon - h)), fill=(242, 246, 252))
    d.rectangle((0, horizon, 128, 128), fill=(120, 112, 105))
    for _ in range(marks):
        x, y = r.randint(0, 124), r.randint(horizon + 2, 124)
        d.ellipse((x, y, x + 6, y + 3), fill=(85, 80, 78))


def _city(d: ImageDraw.ImageDraw, horizon: int, r: random.Random, marks: int) -> None:
    for i, height in enumerate((44, 62, 38, 56, 68, 42, 58)):
        x, grey = i * 19 - 3, (78, 96, 66, 104, 84, 92, 70)[i]
        top = horizon - height
        d.rectangle((x, top, x + 16, horizon), fill=(grey, grey, grey + 14))
        for k in range(2 + marks):
            wx, wy = x + 2 + 5 * (k % 3), top + 4 + 8 * (k // 3)
            d.rectangle((wx, wy, wx + 3, wy + 4), fill=(252, 228, 130))
    d.rectangle((0, horizon, 128, 128), fill=(66, 66, 72))
    for x in range(4, 128, 26):
        d.line((x, horizon + 24, x + 14, horizon + 24), fill=(235, 225, 130), width=3)


def _desert(d: ImageDraw.ImageDraw, horizon: int, r: random.Random, marks: int) -> None:
    d.rectangle((0, horizon, 128, 128), fill=(226, 140, 62))
    for i, x in enumerate((20, 104)):
        sand = ((238, 158, 78), (212, 124, 52))[i]
        d.ellipse((x - 54, horizon - 12, x + 54, horizon + 34), fill=sand)
    for x in (10, 116):
        d.rectangle((x - 3, horizon - 34, x + 3, horizon + 4), fill=(50, 120, 60))
        d.rectangle((x - 10, horizon - 22, x + 10, horizon - 18), fill=(50, 120, 60))
    for _ in range(marks):
        x, y = r.randint(0, 110), r.randint(horizon + 6, 124)
        d.arc((x, y, x + 18, y + 6), 180, 360, fill=(160, 88, 30), width=2)


def _space(d: ImageDraw.ImageDraw, horizon: int, r: random.Random, marks: int) -> None:
    for _ in range(10 + 7 * marks):
        x, y = r.randint(0, 127), r.randint(0, 127)
        d.rectangle((x, y, x + 1, y + 1), fill=(235, 235, 250))
    d.ellipse((84, 12, 118, 46), fill=(200, 110, 70))
    d.arc((74, 22, 127, 36), 0, 360, fill=(235, 215, 170), width=3)


def _snow(d: ImageDraw.ImageDraw, horizon: int, r: random.Random, marks: int) -> None:
    d.rectangle((0, horizon - 6, 128, 128), fill=(236, 242, 250))
    for x in (12, 34, 100, 120):
        d.polygon(((x - 10, horizon), (x + 10, horizon), (x, horizon - 32)), fill=(60, 110, 105))
        d.polygon(
            ((x - 5, horizon - 18), (x + 5, horizon - 18), (x, horizon - 32)), fill=(240, 244, 250)
        )
    for _ in range(7 * marks):
        x, y = r.randint(0, 126), r.randint(0, 126)
        d.ellipse((x, y, x + 2, y + 2), fill=(255, 255, 255))


def _underwater(d: ImageDraw.ImageDraw, horizon: int, r: random.Random, marks: int) -> None:
    d.rectangle((0, 108, 128, 128), fill=(150, 140, 105))
    for x in (8, 22, 106, 120):
        d.line((x, 112, x + 4, 90, x - 3, 72), fill=(35, 150, 85), width=5)
    for _ in range(3 * marks):
        x, y = r.randint(0, 122), r.randint(0, 104)
        d.ellipse((x, y, x + 6, y + 6), outline=(205, 240, 252), width=2)


_PLACES = {
    "beach": _beach,
    "forest": _forest,
    "mountains": _mountains,
    "city": _city,
    "desert": _desert,
    "space": _space,
    "snow": _snow,
    "underwater": _underwater,
}


def _background(scene: Scene, r: random.Random) -> Image.Image:
    image = _sky(scene)
    draw = ImageDraw.Draw(image)
    horizon = HORIZON
    under_sky = scene.place not in ("space", "underwater")
    if scene.light == "golden" and under_sky:
        draw.ellipse((86, horizon - 34, 116, horizon - 4), fill=(255, 232, 140))
    if scene.light == "night" and under_sky:
        draw.ellipse((12, 8, 34, 30), fill=(240, 240, 215))
    _PLACES[scene.place](draw, horizon, r, int(scene.detail * 10))
    if scene.clutter > 0.4:
        _clutter(draw, r, int((scene.clutter - 0.35) * 24))
    if scene.detail > 0.5:
        return _texture(image, scene.detail)
    return image


def _clutter(draw: ImageDraw.ImageDraw, r: random.Random, boxes: int) -> None:
    """Coloured boxes that hide what is behind the subject."""
    colours = ((215, 60, 60), (60, 90, 210), (240, 200, 60), (70, 70, 75), (230, 230, 235))
    for _ in range(boxes):
        x, y, k = r.randint(0, 127), r.randint(10, 127), r.randint(5, 9)
        draw.rectangle((x - k, y - k, x + k, y + k), fill=r.choice(colours))


def _texture(image: Image.Image, detail: float) -> Image.Image:
    """A fine regular weave over the background: what `detail` looks like from afar."""
    yy, xx = np.mgrid[0:CANVAS, 0:CANVAS]
    weave = np.sin(2 * np.pi * (xx + yy) / 16) * np.sin(2 * np.pi * (xx - yy) / 16)
    lifted = np.asarray(image).astype(np.float32) + (detail - 0.4) * 55 * weave[..., None]
    return Image.fromarray(np.clip(lifted, 0, 255).astype(np.uint8))


def _place_subject(image: Image.Image, scene: Scene) -> None:
    wanted, base = STANDS[scene.framing]
    sprite = _sprite(scene.subject)
    scale = wanted / max(sprite.size)
    size = (max(1, int(sprite.width * scale)), max(1, int(sprite.height * scale)))
    sprite = sprite.resize(size, Image.Resampling.LANCZOS)
    image.paste(sprite, ((CANVAS - sprite.width) // 2, base - sprite.height), sprite)


def _lit(image: Image.Image, light: str) -> Image.Image:
    pixels = np.asarray(image).astype(np.float32) * np.array(TINTS[light])
    if light == "dramatic":
        yy, xx = np.mgrid[0:CANVAS, 0:CANVAS]
        fall = 1.3 - ((xx - 64) ** 2 + (yy - 72) ** 2) / 4400.0
        pixels *= np.clip(fall, 0.08, 1.3)[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _oil(image: Image.Image) -> Image.Image:
    strokes = image.filter(ImageFilter.ModeFilter(9)).filter(ImageFilter.SMOOTH)
    relief = np.asarray(strokes.convert("L").filter(ImageFilter.EMBOSS)).astype(np.float32) - 128
    yy, xx = np.mgrid[0:CANVAS, 0:CANVAS]
    canvas = 9 * np.sin(2 * np.pi * (xx * 0.4 + yy) / 11)
    rich = np.asarray(ImageEnhance.Color(strokes).enhance(1.2)).astype(np.float32)
    lifted = rich + (0.3 * relief + canvas)[..., None]
    return Image.fromarray(np.clip(lifted, 0, 255).astype(np.uint8))


def _comic(image: Image.Image) -> Image.Image:
    edges = image.convert("L").filter(ImageFilter.FIND_EDGES)
    mask = edges.point(lambda v: 255 if v > 90 else 0).filter(ImageFilter.MaxFilter(3))
    flat = image.quantize(10).convert("RGB")
    flat.paste((12, 10, 18), mask=mask)
    return flat


def _sketch(image: Image.Image) -> Image.Image:
    grey = image.convert("L")
    edges = grey.filter(ImageFilter.FIND_EDGES).filter(ImageFilter.GaussianBlur(0.7))
    lines = edges.point(lambda v: 255 - min(255, v * 3))
    return Image.blend(lines, grey, 0.25).convert("RGB")


def _pixel(image: Image.Image) -> Image.Image:
    small = image.resize((20, 20), Image.Resampling.BOX).quantize(20).convert("RGB")
    return small.resize((CANVAS, CANVAS), Image.Resampling.NEAREST)


def _styled(image: Image.Image, backdrop: Image.Image, style: str) -> Image.Image:
    """`backdrop` is the same picture without its subject."""
    if style == "oil":
        return _oil(image)
    if style == "comic":
        return _comic(image)
    if style == "pixel":
        return _pixel(image)
    if style == "sketch":
        return _sketch(image)
    if style == "photo":
        difference = np.abs(np.asarray(image).astype(int) - np.asarray(backdrop).astype(int))
        subject = Image.fromarray(((difference.max(-1) > 6) * 255).astype(np.uint8))
        soft = image.filter(ImageFilter.GaussianBlur(4))
        soft.paste(image, mask=subject.filter(ImageFilter.GaussianBlur(1)))
        return soft
    return image


def _qualities(image: Image.Image, scene: Scene) -> Image.Image:
    image = ImageEnhance.Color(image).enhance(0.25 + 1.6 * scene.vivid)
    image = ImageEnhance.Contrast(image).enhance(0.7 + 0.55 * scene.vivid)
    if scene.sharp < 0.45:
        image = image.filter(ImageFilter.GaussianBlur((0.45 - scene.sharp) * 6))
    elif scene.sharp > 0.6:
        image = image.filter(ImageFilter.UnsharpMask(3, int((scene.sharp - 0.5) * 260), 2))
    image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    if scene.grain > BANDS[0][1]:
        coarse = np.random.default_rng(scene.seed).normal(0, 1, (SIZE // 2, SIZE // 2, 1))
        noise = coarse.repeat(2, 0).repeat(2, 1) * (scene.grain - 0.15) * 30
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    return image


def paint(scene: Scene) -> Image.Image:
    """Draw `scene` as a SIZE x SIZE RGB image; a pure function of the scene."""
    r = random.Random(scene.seed)
    backdrop = _background(scene, r)
    image = backdrop.copy()
    _place_subject(image, scene)
    image, backdrop = _lit(image, scene.light), _lit(backdrop, scene.light)
    return _qualities(_styled(image, backdrop, scene.style), scene)
