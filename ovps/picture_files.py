"""Pictures in files: which of them have one reading as 8-bit RGB."""

from __future__ import annotations

from PIL import Image

COLOURS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}  # modes that PIL brings to RGB without loss
DEEP = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}  # what it would clip at 255


def colour_fault(image: Image.Image) -> str | None:
    """Say why the pixels of an image are not grey or RGB of 8 bits; None if they are. Decodes nothing."""
    if image.mode in DEEP:
        return f"has more than 8 bits a pixel (mode {image.mode})"
    return None if image.mode in COLOURS else f"has the colours {image.mode}, expected grey or RGB"


def count_pictures(image: Image.Image) -> int:
    """Count the pictures of an animation or of pages; an MPO is one, a JPEG with previews behind it."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def ends_in_zeros(raw: bytes) -> bool:
    """Tell whether zeros stand instead of the marker that ends a JPEG; zeros after it are padding."""
    content = raw.rstrip(b"\0")
    return len(content) < len(raw) and not content.endswith(b"\xff\xd9")
