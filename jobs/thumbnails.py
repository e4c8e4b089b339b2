"""Small pictures of a dataset's images, made when they are first looked at, and kept."""

import io
import warnings

from django.core.files.base import ContentFile
from django.core.files.storage import storages
from PIL import Image, ImageOps

from jobs.models import Blob

SIZE_PIXELS = 320
CONTENT_TYPE = "image/jpeg"


class NoPicture(Exception):
    """The image is gone, or cannot be drawn."""


def of(blob: Blob) -> bytes:
    """The small picture of an image, as JPEG. Raises NoPicture."""
    store, name = storages["default"], f"thumbnails/{blob.team_id}/{blob.sha256[:2]}/{blob.sha256}.jpg"
    try:
        with store.open(name) as kept:
            return bytes(kept.read())
    except FileNotFoundError:
        drawn = _draw(blob)
    saved_as = store.save(name, ContentFile(drawn))
    if saved_as != name:  # somebody else looked at it in the same moment
        store.delete(saved_as)
    return drawn


def _draw(blob: Blob) -> bytes:
    drawn = io.BytesIO()
    try:
        with storages["datasets"].open(blob.stored_as) as stream, warnings.catch_warnings():
            # Pillow warns of pictures that are large enough to fill the memory; here such a one is no picture.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(stream) as image:
                image.draft("RGB", (SIZE_PIXELS, SIZE_PIXELS))
                small = ImageOps.exif_transpose(image)
                small.thumbnail((SIZE_PIXELS, SIZE_PIXELS))
                _on_white(small).save(drawn, "JPEG", quality=80)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise NoPicture(str(error)) from error
    return drawn.getvalue()


def _on_white(image: Image.Image) -> Image.Image:
    """JPEG knows no transparency."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    seen = image.convert("RGBA")
    ground = Image.new("RGBA", seen.size, "white")
    return Image.alpha_composite(ground, seen).convert("RGB")
