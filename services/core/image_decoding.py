"""Decodes untrusted images with limits, whatever their name or content type."""

from __future__ import annotations

import io
import struct

from PIL import Image as Pictures
from PIL import UnidentifiedImageError

from bigpe.services.core.errors import RenderError, ScoreError, ServiceError

LONGEST_RATIO = 20
"""Largest ratio of an image's sides."""
MOST_PIXELS = 64_000_000
"""Largest number of pixels of an image; checked before it is decoded."""
LEAST_SIDE = 8
"""Smallest side of an image, pixels. Services often send a single pixel instead of an image."""
BEHIND = (255, 255, 255)
"""Background of transparent images (red, green, blue): white, as in viewers."""
SERVED = ("PNG", "JPEG", "WEBP")
"""Accepted formats of image services."""


def decode(
    data: bytes,
    name: str,
    *,
    formats: tuple[str, ...] | None = None,
    error: type[ServiceError] = ScoreError,
) -> Pictures.Image:
    """The image as RGB. `name` is its name in messages; `formats` are Pillow's names.

    Transparent pictures (RGBA) are laid over white; other modes are converted by Pillow. A turned
    picture stays as it is stored (EXIF is not heeded), as in HPS. `error` for what cannot be
    decoded, is too large (a decompression bomb) or too long.
    """
    try:
        with Pictures.open(io.BytesIO(data), formats=formats) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise error(f"{name} has more than {MOST_PIXELS:,} pixels")
            if max(picture.size) > LONGEST_RATIO * min(picture.size):
                raise error(f"{name} is longer than {LONGEST_RATIO} : 1")
            if picture.mode == "RGBA":
                ground = Pictures.new("RGB", picture.size, BEHIND)
                ground.paste(picture, mask=picture.getchannel("A"))
                return ground
            return picture.convert("RGB")
    except (Pictures.DecompressionBombWarning, Pictures.DecompressionBombError) as bomb:
        raise error(f"{name} has more than {MOST_PIXELS:,} pixels") from bomb
    except UnidentifiedImageError as unknown:
        # Pillow's message contains a memory address; equal failures need equal messages.
        raise error(f"{name} cannot be decoded: it is no picture of a known format") from unknown
    # Pillow's exceptions for damaged files depend on the format and the damage.
    except (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error) as damage:
        raise error(f"{name} cannot be decoded: {damage}") from damage


def served_png(
    data: bytes, name: str, *, size: tuple[int, int] | None = None
) -> tuple[bytes, int, int]:
    """The image of a service as a new PNG without metadata, with its width and height.

    `size`: what was asked for, width and height in pixels. RenderError for what is no PNG, JPEG or
    WebP, is smaller than `LEAST_SIDE`, all black (what safety filters and overflows leave) or of
    another size.
    """
    picture = decode(data, name, formats=SERVED, error=RenderError)
    if min(picture.size) < LEAST_SIDE:
        raise RenderError(f"{name} is {picture.width} x {picture.height} pixels: no real picture")
    if size is not None and picture.size != size:
        raise RenderError(
            f"{name} is {picture.width} x {picture.height} pixels, but {size[0]} x {size[1]} was "
            "asked for; set [render] width and height to what the service makes, or take them out "
            "(an upscaler, such as hires.fix, makes another size)"
        )
    if picture.getbbox() is None:
        raise RenderError(
            f"{name} is all black; the likely cause is the service's safety filter, or a float16 "
            "VAE that overflowed"
        )
    # Keep only the pixels, without colour profiles and texts.
    bare = Pictures.frombytes("RGB", picture.size, picture.tobytes())
    buffer = io.BytesIO()
    bare.save(buffer, "PNG")
    return buffer.getvalue(), bare.width, bare.height
