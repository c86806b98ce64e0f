"""A front door, as somebody may send it along."""

from io import BytesIO

from PIL import Image, ImageDraw


def _front_door() -> bytes:
    picture, content = Image.new("RGB", (640, 420), "#c9b79c"), BytesIO()
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 350, 640, 420), fill="#8d8f94")
    draw.rectangle((220, 50, 420, 350), fill="#f4efe6")
    draw.rectangle((235, 65, 405, 350), fill="#2f5d50")
    for top in (85, 215):
        for left in (253, 328):
            draw.rectangle((left, top, left + 59, top + 110), outline="#24483e", width=4)
    draw.ellipse((383, 205, 397, 219), fill="#e0b354")
    draw.rectangle((60, 90, 170, 230), fill="#9ec1d6", outline="#f4efe6", width=10)
    draw.rectangle((470, 90, 580, 230), fill="#9ec1d6", outline="#f4efe6", width=10)
    picture.save(content, "PNG", optimize=True)
    return content.getvalue()


FRONT_DOOR = _front_door()
