"""Every kind of image file becomes the RGB image that a person sees; every kind of rubbish one line that names it."""

import contextlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fixtures.errors import ImageError
from fixtures.images import decode
from fixtures.images.decode import MOST_PIXELS, READINGS, UPRIGHT, read_image

HEIGHT, WIDTH = 24, 32
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def picture():
    """Red left half, blue right half, a white corner at the top left: every turn looks different."""
    image = Image.new("RGB", (WIDTH, HEIGHT), RED)
    image.paste(BLUE, (16, 0, 32, 24))
    image.paste(WHITE, (0, 0, 8, 8))
    return image


def saved(image, kind, **options):
    """Bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, data):
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *, depth=8, colour=0, rows=b"", hidden=b""):
    """A PNG by hand, with a header that may lie; ``hidden`` is the transparent colour."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    clear = chunk(b"tRNS", hidden) if hidden else b""
    data = clear + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


def difference(actual, expected):
    """Greatest difference of two images, in steps of 255."""
    assert actual.mode == "RGB"
    assert actual.size == expected.size
    return int(np.abs(np.asarray(actual, np.int16) - np.asarray(expected, np.int16)).max())


EXACT = {
    "png": lambda: saved(picture(), "PNG"),
    "webp lossless": lambda: saved(picture(), "WEBP", lossless=True),
    "bmp": lambda: saved(picture(), "BMP"),
    "gif": lambda: saved(picture(), "GIF"),
    "palette": lambda: saved(picture().quantize(), "PNG"),
    "opaque alpha": lambda: saved(picture().convert("RGBA"), "PNG"),
    "animated gif": lambda: saved(picture(), "GIF", save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))]),
    "animated webp": lambda: saved(
        picture(), "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))]
    ),
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("kind", EXACT)
def test_lossless_files_come_out_as_they_went_in(kind, reading):
    """In every format; of an animation the first frame."""
    assert difference(read_image(EXACT[kind](), reading), picture()) == 0


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L", "1"])
def test_other_colour_models_become_rgb(mode, reading):
    """JPEG in colour, CMYK (stored inverted, as Adobe does) and grey; black and white as PNG."""
    image = Image.new(mode, (WIDTH, HEIGHT), 0 if mode in {"L", "1"} else None)
    image.paste(picture().convert(mode).crop((16, 0, 32, 24)), (16, 0))
    data = saved(image, "PNG") if mode == "1" else saved(image, "JPEG", quality=100, subsampling=0)
    assert difference(read_image(data, reading), image.convert("RGB")) <= 3  # JPEG is lossy


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_turned_upright_as_exif_says(kind, orientation):
    """All eight orientations; as timm reads it, it stays as it is stored."""
    back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}.get(orientation, UPRIGHT.get(orientation))
    stored = picture() if back is None else picture().transpose(back)
    exif = Image.Exif()
    exif[decode.ORIENTATION] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "PNG": {}}[kind]
    data = saved(stored, kind, exif=exif, **options)
    assert difference(read_image(data), picture()) <= 3
    assert difference(read_image(data, "timm"), stored) <= 3


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_a_damaged_exif_block_does_not_cost_the_image(exif, kind, reading):
    """Its pixels are good. ImageNet has such files; Pillow warns of them, and warnings are errors in this suite."""
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "PNG": {}}[kind]
    assert difference(read_image(saved(picture(), kind, exif=exif, **options), reading), picture()) <= 3


def test_an_orientation_that_does_not_exist_turns_nothing():
    """Zero or nine."""
    for value in (0, 9):
        exif = Image.Exif()
        exif[decode.ORIENTATION] = value
        assert difference(read_image(saved(picture(), "PNG", exif=exif.tobytes())), picture()) == 0


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3)])
def test_sixteen_bits_keep_the_upper_byte(colour, channels):
    """In grey as in colour, so that a grey file and the same in colour are the same image."""
    values = np.array([0, 255, 256, 0x7FFF, 0x8000, 0xFFFF])
    row = np.repeat(values, channels).astype(">u2").tobytes()
    image = read_image(png(6, 1, depth=16, colour=colour, rows=b"\0" + row))
    assert np.asarray(image)[0].tolist() == [[value >> 8] * 3 for value in values]


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3)])
def test_sixteen_bits_have_a_transparent_colour_too(colour, channels):
    """It is white, and the others stay."""
    values = np.array([0x1234, 0x8000, 0xFFFF])
    row = np.repeat(values, channels).astype(">u2").tobytes()
    image = read_image(png(3, 1, depth=16, colour=colour, rows=b"\0" + row, hidden=row[: 2 * channels]))
    assert np.asarray(image)[0].tolist() == [[255] * 3, [128] * 3, [255] * 3]


def test_sixteen_bit_grey_as_timm_reads_it_is_cut_at_255():
    """Pillow's own conversion, for who compares with published accuracies."""
    image = read_image(png(2, 1, depth=16, rows=b"\0" + np.array([200, 300], ">u2").tobytes()), "timm")
    assert np.asarray(image)[0].tolist() == [[200] * 3, [255] * 3]


def transparent(mode):
    """A file whose left half is transparent, with red behind, and whose right half is blue."""
    layer = Image.new("RGBA", (WIDTH, HEIGHT), (*RED, 0))
    layer.paste((*BLUE, 255), (16, 0, 32, 24))
    if mode == "RGBA":
        return saved(layer, "PNG"), RED
    if mode == "LA":
        return saved(layer.convert("LA"), "PNG"), None
    if mode == "RGB":
        plain = Image.new("RGB", layer.size, RED)
        plain.paste(BLUE, (16, 0, 32, 24))
        return saved(plain, "PNG", transparency=RED), RED
    palette = Image.new("P", layer.size, 0)
    palette.putpalette([*RED, *BLUE])
    palette.paste(1, (16, 0, 32, 24))
    return saved(palette, "PNG", transparency=b"\0\xff" if mode == "P bytes" else 0), RED


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGB", "P bytes", "P index"])
def test_what_is_transparent_is_white(mode):
    """In full colour, grey and palette; as timm reads it, what hides behind appears."""
    data, hidden = transparent(mode)
    seen = read_image(data)
    assert seen.getpixel((4, 4)) == WHITE
    assert seen.getpixel((20, 4)) == (BLUE if hidden else read_image(data, "timm").getpixel((20, 4)))
    if hidden:
        assert read_image(data, "timm").getpixel((4, 4)) == hidden


def test_half_transparent_is_half_white():
    """Laid over, not cut."""
    assert read_image(saved(Image.new("RGBA", (2, 2), (255, 0, 0, 128)), "PNG")).getpixel((0, 0)) == (255, 127, 127)


def noise():
    """Incompressible, so that a cut hits the pixels."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_truncated_file_is_refused(tmp_path, kind, share, reading):
    """At the header, in the middle, near the end: never half an image."""
    data = saved(noise(), kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(
        ImageError, match=r"cut\.[a-z]+: (cannot be decoded: .+|is no image that can be read) -> "
    ) as caught:
        read_image(path, reading)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.filterwarnings("ignore")
def test_flipped_bytes_give_an_image_or_an_image_error(kind):
    """Nothing else, wherever they are: 100 seeded damages a format."""
    good = saved(picture(), kind)
    draw = np.random.default_rng(1)
    for _ in range(100):
        bad = bytearray(good)
        for place in draw.integers(0, len(bad), 3):
            bad[place] = draw.integers(256)
        with contextlib.suppress(ImageError):
            assert read_image(bytes(bad)).mode == "RGB"


@pytest.mark.parametrize("side", [9500, 14_000, 60_000])
def test_a_bomb_is_refused_by_its_header(side):
    """A few bytes that declare more pixels than memory holds, below and above Pillow's own limits."""
    with pytest.raises(ImageError, match=r"is too large, or a decompression bomb: .+ -> scale it down"):
        read_image(png(side, side, rows=b"\0" * 100))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_where_pillow_only_warns():
    """The declared size is in the message."""
    with pytest.raises(ImageError, match=r"bomb: 9500x9500 pixels -> scale it down to at most 89478485 pixels"):
        read_image(png(9500, 9500))
    assert MOST_PIXELS < 9500**2


def test_an_image_without_pixels_is_refused():
    """Zero wide or high."""
    for size in ((0, 4), (4, 0)):
        with pytest.raises(ImageError, match=r"bytes: (has no pixels|cannot be decoded|is no image)"):
            read_image(png(*size))
    with pytest.raises(ImageError, match=r"has no pixels \(0x4\)"):
        decode._check_size(Image.new("RGB", (0, 4)), "x")


def test_a_sliver_is_an_image():
    """Decoding has nothing against it; the transform judges shapes."""
    assert read_image(saved(Image.new("L", (1, 50_000)), "PNG")).size == (1, 50_000)


@pytest.mark.parametrize("data", [b"%PDF-1.4 not", b"\0" * 64, b"<svg/>", b"P6 1 1 255 abc"])
def test_what_is_no_image_is_refused(data):
    """Other formats too, even those that Pillow knows: each is a decoder that might be attacked."""
    with pytest.raises(
        ImageError, match=rf"{len(data)} bytes: is no image that can be read -> choose a JPEG, PNG, WebP"
    ):
        read_image(data)


def test_what_cannot_be_opened_is_refused(tmp_path):
    """Missing, a folder, a pipe that would block for ever, empty, a link to itself."""
    (tmp_path / "empty.png").touch()
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name, what in {
        "gone.png": "does not exist",
        ".": "is no regular file",
        "pipe.png": "is no regular file",
        "empty.png": "is empty",
        "loop.png": "does not exist|cannot be opened",
    }.items():
        with pytest.raises(ImageError, match=what) as caught:
            read_image(tmp_path / name)
        assert caught.value.where == str(tmp_path / name)
    with pytest.raises(ImageError, match="is empty"):
        read_image(b"")


def test_running_out_of_memory_is_not_the_images_fault(monkeypatch):
    """It passes through, and is not counted as one damaged file among others."""

    def hungry(_image):
        raise MemoryError

    monkeypatch.setitem(READINGS, "seen", hungry)
    with pytest.raises(MemoryError):
        read_image(saved(picture(), "PNG"))
