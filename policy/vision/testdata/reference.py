"""The image recipe in NumPy and Pillow, as an independent second opinion.

usage: reference.py OPERATION WIDTH HEIGHT [ARGUMENT ...] < in > out

Pictures are packed 8-bit RGB of WIDTH x HEIGHT; a JPEG stream stands in for a
picture where the operation says so (WIDTH and HEIGHT are then not read).
"""
import io
import sys

import numpy as np
from PIL import Image

f32 = np.float32


def lanczos3(x):
    x = np.abs(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = f32(3) * np.sin(f32(np.pi) * x) * np.sin(f32(np.pi) * x / f32(3)) / (f32(np.pi) * f32(np.pi) * x * x)
    y = np.where(x <= f32(1e-3), f32(1), y)
    return np.where(x > f32(3), f32(0), y).astype(f32)


def weight_matrix(size_in, size_out):
    """[out, in] float32 weights of scale_and_translate with antialias."""
    scale = f32(size_out) / f32(size_in)
    inverse = f32(1.0 / float(scale))
    widen = max(inverse, f32(1))
    reach = f32(3) * widen
    matrix = np.zeros((size_out, size_in), f32)
    for i in range(size_out):
        at = (f32(i) + f32(0.5)) * inverse
        first = int(np.clip(np.ceil(at - reach - f32(0.5)), 0, size_in - 1))
        last = int(np.clip(np.floor(at + reach - f32(0.5)), 0, size_in - 1))
        distance = np.arange(first, last + 1).astype(f32) + f32(0.5) - at
        weights = lanczos3(distance * (f32(1) / widen))
        matrix[i, first:last + 1] = weights / weights.sum(dtype=f32)
    return matrix


def tf_lanczos(image, width, height):
    rows = weight_matrix(image.shape[0], height)
    columns = weight_matrix(image.shape[1], width)
    x = np.einsum("yh,hwc->ywc", rows, image.astype(f32), optimize=True)
    x = np.einsum("xw,ywc->yxc", columns, x, optimize=True)
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)  # rint: half to even


def axis_positions(n, side):
    low = (f32(1) - side) / f32(2)
    high = low + side
    step = (high - low) * f32(n - 1) / f32(n - 1)
    at = low * f32(n - 1) + np.arange(n).astype(f32) * step
    floor = np.floor(at)
    return floor.astype(int), np.ceil(at).astype(int), (at - floor).astype(f32)


def tf_centre_crop(image, area):
    x = image.astype(f32) * f32(1 / 255)
    side = np.sqrt(f32(area))
    t, b, dy = axis_positions(image.shape[0], side)
    l, r, dx = axis_positions(image.shape[1], side)
    dx, dy = dx[None, :, None], dy[:, None, None]
    top = x[t][:, l] + (x[t][:, r] - x[t][:, l]) * dx
    bottom = x[b][:, l] + (x[b][:, r] - x[b][:, l]) * dx
    y = np.clip(top + (bottom - top) * dy, 0, 1)
    return np.minimum(np.floor(y * f32(255.5)), 255).astype(np.uint8)


def pillow_lanczos(image, width, height):
    """Pillow's own kernel on float pictures, where it neither clips nor rounds between the passes."""
    planes = [Image.fromarray(image[..., c].astype(f32), "F").resize((width, height), Image.LANCZOS) for c in range(3)]
    return np.clip(np.rint(np.stack([np.asarray(p) for p in planes], -1)), 0, 255).astype(np.uint8)


def encode(image, quality):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality, subsampling="4:2:0")
    return out.getvalue()


def decode(stream):
    return np.asarray(Image.open(io.BytesIO(stream)).convert("RGB"))


def recipe(image, rotation, pre, quality, size, area):
    if rotation == 180:
        image = image[::-1, ::-1]
    if pre:
        image = np.asarray(Image.fromarray(image).resize((pre, pre), Image.BICUBIC))
    if quality:
        image = decode(encode(np.ascontiguousarray(image), quality))
    if image.shape[:2] != (size, size):
        image = tf_lanczos(image, size, size)
    return tf_centre_crop(image, area) if area < 1 else image


def yuv(data, width, height, order):
    """BT.601, video range, in float64."""
    y0, u, y1, v = (np.frombuffer(data, np.uint8).reshape(height, width // 2, 4)[..., i].astype(float) for i in order)
    y = np.stack([y0, y1], -1).reshape(height, width)
    u, v = np.repeat(u, 2, 1) - 128, np.repeat(v, 2, 1) - 128
    y = np.maximum(y - 16, 0) * 255 / 219
    k = 255 / 112
    rgb = np.stack([y + 0.701 * k * v, y - 0.886 * k * 0.114 / 0.587 * u - 0.701 * k * 0.299 / 0.587 * v, y + 0.886 * k * u], -1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def main():
    operation, width, height, *args = sys.argv[1:]
    width, height = int(width), int(height)
    data = sys.stdin.buffer.read()
    if operation == "decode":
        out = decode(data)
    elif operation == "yuv":
        out = yuv(data, width, height, [int(i) for i in args])
    else:
        image = decode(data) if data[:2] == b"\xff\xd8" else np.frombuffer(data, np.uint8).reshape(height, width, 3)
        out = {
            "encode": lambda quality: encode(image, int(quality)),
            "tf_lanczos": lambda w, h: tf_lanczos(image, int(w), int(h)),
            "pillow_lanczos": lambda w, h: pillow_lanczos(image, int(w), int(h)),
            "pillow_bicubic": lambda w, h: np.asarray(Image.fromarray(image).resize((int(w), int(h)), Image.BICUBIC)),
            "crop": lambda area: tf_centre_crop(image, float(area)),
            "recipe": lambda rotation, pre, quality, size, area: recipe(image, int(rotation), int(pre), int(quality), int(size), float(area)),
        }[operation](*args)
    sys.stdout.buffer.write(out if isinstance(out, bytes) else np.ascontiguousarray(out).tobytes())


main()
