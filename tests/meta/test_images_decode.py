"""Image files are decoded into upright RGB pixels; anything unusable becomes one ImageError that names the file."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from fixtures.errors import ImageError
from fixtures.images import loader

HEIGHT, WIDTH = 24, 32
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP"]
LOSSLESS = {"JPEG": {"quality": 100, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}}  # JPEG: nearly
STORED_AS = {  # how an image is stored if its EXIF orientation is 2 to 8
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def picture():
    """An image that looks different in each orientation: left half red, right half blue, top left corner white."""
    image = Image.new("RGB", (WIDTH, HEIGHT), RED)
    image.paste(BLUE, (16, 0, 32, 24))
    image.paste(WHITE, (0, 0, 8, 8))
    return image


def encode(image, kind, **options):
    """Return the content of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, data):
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def empty_png(size):
    """Return a grey PNG whose header declares a size, without pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def read_image(tmp_path):
    """Return a function that decodes the content of a file."""

    def read(data):
        path = tmp_path / "image"
        path.write_bytes(data)
        return loader.read_image(path)

    return read


def max_difference(actual, expected):
    """Return the largest difference of two RGB images, in 0 to 255."""
    assert (actual.mode, actual.size) == ("RGB", expected.size)
    return int(np.abs(np.asarray(actual, np.int16) - np.asarray(expected, np.int16)).max())


BLACK = Image.new("RGB", (WIDTH, HEIGHT))
EXACT = {
    "png": (picture(), "PNG", {}),
    "webp lossless": (picture(), "WEBP", {"lossless": True}),
    "bmp": (picture(), "BMP", {}),
    "gif": (picture(), "GIF", {}),
    "palette": (picture().quantize(), "PNG", {}),
    "opaque alpha": (picture().convert("RGBA"), "PNG", {}),
    "animated gif": (picture(), "GIF", {"save_all": True, "append_images": [BLACK]}),
    "animated webp": (picture(), "WEBP", {"lossless": True, "save_all": True, "append_images": [BLACK]}),
}


@pytest.mark.parametrize("name", EXACT)
def test_lossless_files_decode_to_their_pixels(read_image, name):
    """An animation gives its first frame."""
    image, kind, options = EXACT[name]
    assert max_difference(read_image(encode(image, kind, **options)), picture()) == 0


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", LOSSLESS)
def test_exif_orientation_is_applied(read_image, kind, orientation):
    """In all three formats that have it; 0 and 9 are not defined and ignored."""
    turn = STORED_AS.get(orientation)
    stored = picture() if turn is None else picture().transpose(turn)
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    assert max_difference(read_image(encode(stored, kind, exif=exif, **LOSSLESS[kind])), picture()) <= 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_damaged_exif_does_not_spoil_the_image(read_image, exif, kind):
    """ImageNet has such files."""
    assert max_difference(read_image(encode(picture(), kind, exif=exif, **LOSSLESS[kind])), picture()) <= 3


def test_orientation_is_applied_even_if_exif_cannot_be_rewritten(read_image, monkeypatch):
    """Pillow rewrites the EXIF block after turning the image, and may fail there."""
    exif = Image.Exif()
    exif[Base.Orientation] = 3
    data = encode(picture().transpose(Image.Transpose.ROTATE_180), "PNG", exif=exif)
    monkeypatch.setattr(Image.Exif, "tobytes", lambda _self, _offset=8: 1 / 0)
    assert max_difference(read_image(data), picture()) == 0


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.95])
def test_truncated_file_is_refused(read_image, tmp_path, kind, share):
    """Empty, in the header, in the middle, near the end: no partial image is returned."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))  # incompressible
    data = encode(noise, kind)
    with pytest.raises(ImageError) as caught:
        read_image(data[: int(len(data) * share)])
    assert caught.value.where == str(tmp_path / "image")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("size", [14_000, 60_000, 0])
def test_image_with_no_or_too_many_pixels_is_refused_from_its_header(read_image, size):
    """By Pillow: a few bytes may declare more pixels than memory holds."""
    with pytest.raises(ImageError):
        read_image(empty_png(size))


@pytest.mark.parametrize("data", [b"%PDF-1.4 not", b"\0" * 64, b"<svg/>", b"P6 1 1 255 abc"])
def test_other_formats_are_refused(read_image, data):
    """Also those that Pillow knows: each decoder could be attacked."""
    with pytest.raises(ImageError):
        read_image(data)


@pytest.mark.parametrize("name", ["missing.png", ".", "loop.png"])
def test_path_that_is_not_a_file_is_refused(tmp_path, name):
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(ImageError) as caught:
        loader.read_image(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)


@pytest.mark.parametrize("place", [(Image.Image, "convert"), (ImageOps, "exif_transpose")])
def test_running_out_of_memory_is_not_an_image_error(read_image, monkeypatch, place):
    """It must not count as one damaged file among others."""

    def fail(*_arguments, **_options):
        raise MemoryError

    data = encode(picture(), "PNG")
    monkeypatch.setattr(*place, fail)
    with pytest.raises(MemoryError):
        read_image(data)
