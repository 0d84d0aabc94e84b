"""QR codes (ISO/IEC 18004), as images and as text."""

from __future__ import annotations

import io

import segno

MODULE_PIXELS = 6


def code(text: str) -> segno.QRCode:
    """The code. With the least correction: on a screen nothing is torn off, and it is large as it is."""
    return segno.make_qr(text, error="l")


def svg(text: str) -> str:
    """The code as an image (SVG)."""
    drawn = io.BytesIO()
    code(text).save(drawn, kind="svg", scale=MODULE_PIXELS)
    return drawn.getvalue().decode("utf-8")
