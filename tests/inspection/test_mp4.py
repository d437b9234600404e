"""MP4 and MOV: boxes in every order, fragments, positions, and damage."""

from __future__ import annotations

import io
import random
import shutil
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_360.inspection.formats import inspect_file
from airflow_360.inspection.ranges import Ranges
from tests.inspection.files import inspect_bytes
from tests.inspection.mutations import assert_ends_in_a_result, mutations

NOISE = random.Random(360).randbytes
PLACE = (48.1374, -11.5755)
ISO6709 = b"+48.1374-011.5755/"
GIB = 1 << 30
FRAGMENTED = "frag_keyframe+empty_moov"


def box(name: bytes, *contents: bytes, large: bool = False) -> bytes:
    content = b"".join(contents)
    if large:
        return struct.pack(">I4sQ", 1, name, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, name) + content


@cache
def filmed(
    container: str = "mp4", codec: str = "mpeg4", flags: str = "", sound: bool = False, seconds: int = 1
) -> bytes:
    """Return a video that FFmpeg wrote."""
    av = pytest.importorskip("av")
    numpy = pytest.importorskip("numpy")
    options = {"movflags": flags} if flags else {}
    path = Path(tempfile.mkdtemp()) / "video"  # FFmpeg opens it again to move the index
    with av.open(str(path), "w", format=container, options=options) as video:
        stream = video.add_stream(codec, rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        tracks: list[Any] = [stream]
        if sound:
            tracks.append(video.add_stream("aac", rate=8000))
        for number in range(10 * seconds):
            image = numpy.frombuffer(NOISE(64 * 64 * 3), numpy.uint8).reshape(64, 64, 3)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            video.mux(stream.encode(frame))
        if sound:
            samples = av.AudioFrame.from_ndarray(numpy.zeros((1, 1024), "float32"), "fltp", "mono")
            samples.sample_rate = 8000
            video.mux(tracks[1].encode(samples))
            video.mux(tracks[1].encode())
        video.mux(stream.encode())
    data = path.read_bytes()
    shutil.rmtree(path.parent)
    return data


def place(text: bytes) -> bytes:
    return box(b"udta", box(b"\xa9xyz", struct.pack(">HH", len(text), 0x15C7), text))


def apple_place(text: bytes) -> bytes:
    """Return the metadata in which an iPhone writes the place, after a date."""
    names = [b"com.apple.quicktime.creationdate", b"com.apple.quicktime.location.ISO6709"]
    keys = box(b"keys", struct.pack(">II", 0, 2), *[box(b"mdta", name) for name in names])
    values = [b"2026-08-01T12:00:00+0200", text]
    items = [
        struct.pack(">II", 24 + len(value), number) + box(b"data", struct.pack(">II", 1, 0), value)
        for number, value in enumerate(values, 1)
    ]
    return box(b"meta", box(b"hdlr", bytes(25)), keys, box(b"ilst", *items))


TYPE = box(b"ftyp", b"isom", bytes(4), b"isommp42")
OLD_TYPE = box(b"ftyp", b"qt  ", bytes(4), b"qt  ")
MEDIA = box(b"mdat", NOISE(1000))
INDEX = box(b"moov", box(b"mvhd", bytes(100)), box(b"trak", bytes(300)))
FRAGMENT = box(b"moof", bytes(80)) + box(b"mdat", NOISE(500))
FRAGMENT_INDEX = box(b"mfra", box(b"tfra", bytes(20)), box(b"mfro", struct.pack(">II", 0, 52)))


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("codec", ["mpeg4", "libx264", "mjpeg"])
@pytest.mark.parametrize("flags", ["", "faststart", FRAGMENTED, "frag_keyframe+empty_moov+default_base_moof"])
@pytest.mark.parametrize("sound", [False, True])
def test_videos_of_ffmpeg_pass(container: str, codec: str, flags: str, sound: bool) -> None:
    """FFmpeg's videos have no problems, with the index at the end, at the start and in fragments."""
    result = inspect_bytes(f"a.{container}", filmed(container, codec, flags, sound))
    assert (result.problems, result.unchecked) == ([], [])
    assert result.format == container.upper()
    assert result.counts == {"tracks": 2 if sound else 1}


@pytest.mark.parametrize(
    "video",
    [
        pytest.param(TYPE + MEDIA + INDEX, id="index at the end"),
        pytest.param(TYPE + INDEX + MEDIA, id="index at the start"),
        pytest.param(TYPE + box(b"mdat", NOISE(1000), large=True) + INDEX, id="64-bit size"),
        pytest.param(TYPE + INDEX + b"\0\0\0\0mdat" + NOISE(1000), id="media to the end"),
        pytest.param(MEDIA + INDEX, id="without a type"),
        pytest.param(box(b"wide") + MEDIA + INDEX, id="wide"),
        pytest.param(INDEX + MEDIA, id="starts with the index"),
        pytest.param(
            OLD_TYPE + box(b"free", bytes(99)) + MEDIA + box(b"uuid", bytes(99)) + INDEX, id="others"
        ),
        pytest.param(TYPE + MEDIA + INDEX + bytes(3), id="three zeros"),
        pytest.param(TYPE + MEDIA + INDEX + bytes(100_000), id="zeros"),
        pytest.param(
            TYPE + MEDIA + INDEX + b"\0\0\0\x09\x8d\xb4\x2d\x69" + NOISE(9999), id="a camera's trailer"
        ),
        pytest.param(TYPE + MEDIA + INDEX + struct.pack(">I4s", 9999, b"free"), id="free to beyond the end"),
        pytest.param(TYPE + INDEX + FRAGMENT * 9 + FRAGMENT_INDEX, id="fragments"),
        pytest.param(TYPE + MEDIA * 20 + INDEX, id="several media boxes"),
        pytest.param(TYPE + MEDIA + box(b"moov", box(b"trak", bytes(90_000)) * 5), id="large index"),
    ],
)
def test_boxes_in_other_orders_pass(video: bytes) -> None:
    """Orders, sizes and trailers that cameras write are no problem."""
    result = inspect_bytes("a.mp4", video)
    assert (result.problems, result.unchecked) == ([], [])


def test_many_fragments_are_checked_by_their_index() -> None:
    """A long fragmented recording is complete if it ends with the index of its fragments."""
    video = TYPE + INDEX + (box(b"moof", bytes(80)) + box(b"mdat", bytes(50_000))) * 99
    assert inspect_bytes("a.mp4", video + FRAGMENT_INDEX).unchecked == []
    assert len(inspect_bytes("a.mp4", video).unchecked) == 1
    assert inspect_bytes("a.mp4", video).problems == []


def test_a_video_of_20_gib_takes_two_reads() -> None:
    """The media data is skipped by its size."""
    start = TYPE + struct.pack(">I4sQ", 1, b"mdat", 20 * GIB)
    end = len(TYPE) + 20 * GIB

    def read(offset: int, length: int) -> bytes:
        data = start[offset : offset + length].ljust(length, b"\0")
        return data[: len(data) - len(INDEX)] + INDEX if offset + length == end + len(INDEX) else data

    ranges = Ranges(read, end + len(INDEX))
    assert inspect_file("a.mp4", ranges).problems == []
    assert ranges.reads == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"+48.1374-011.5755/", PLACE),
        (b"+48.1374-011.5755+500.123/", PLACE),
        (b"+48.1374-11.5755/", PLACE),
        (b"+4808.244-01134.530/", PLACE),
        (b"+480814.64-0113431.80/", PLACE),
        (b"+00.0000+000.0000/", None),
        (b"+98.1374-011.5755/", None),
        (b"+48.1374/", None),
        (b"", None),
    ],
)
@pytest.mark.parametrize("metadata", [place, apple_place])
def test_positions_are_read(text: bytes, expected: tuple[float, float] | None, metadata: Any) -> None:
    """The place of a recording is read from both kinds of metadata; an impossible one is none."""
    index = box(b"moov", box(b"mvhd", bytes(100)), box(b"trak", bytes(300)), metadata(text))
    result = inspect_bytes("a.mov", OLD_TYPE + MEDIA + index)
    assert result.problems == []
    assert result.position == (pytest.approx(expected, abs=1e-5) if expected else None)


def test_the_position_that_ffmpeg_writes_is_read() -> None:
    """FFmpeg writes the metadata field "location" into a box of its own."""
    av = pytest.importorskip("av")
    source, out = io.BytesIO(filmed()), io.BytesIO()
    with av.open(source) as old, av.open(out, "w", format="mov") as new:
        new.metadata["location"] = ISO6709.decode()
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert inspect_bytes("a.mov", out.getvalue()).position == pytest.approx(PLACE)


WHOLE = TYPE + MEDIA + INDEX
STREAMED = TYPE + INDEX + MEDIA


@pytest.mark.parametrize(
    ("video", "code"),
    [
        pytest.param(WHOLE[:500], "truncated", id="within the media data"),
        pytest.param(WHOLE[: len(TYPE + MEDIA)], "truncated", id="without the index"),
        pytest.param(WHOLE[:-1], "truncated", id="without the last byte"),
        pytest.param(STREAMED[:-1], "truncated", id="media without the last byte"),
        pytest.param(STREAMED[: len(TYPE + INDEX)], "truncated", id="without media"),
        pytest.param(TYPE, "truncated", id="only the type"),
        pytest.param(TYPE + INDEX + FRAGMENT * 9 + FRAGMENT[:-1], "truncated", id="last fragment"),
        pytest.param(TYPE + bytes(len(WHOLE)), "damaged", id="zeros"),
        pytest.param(WHOLE[: len(TYPE + MEDIA)] + bytes(len(INDEX)), "damaged", id="zeros for the index"),
        pytest.param(TYPE + b"\0\0\0\7mdat" + INDEX, "damaged", id="a size below the header's"),
        pytest.param(
            TYPE + struct.pack(">I4sQ", 1, b"mdat", 2**64 - 1) + INDEX, "truncated", id="a huge size"
        ),
        pytest.param(b"RIFF\0\0\0\0AVI LIST", "wrong_format", id="AVI"),
        pytest.param(b"{}", "wrong_format", id="JSON"),
    ],
)
def test_damaged_videos_are_errors(video: bytes, code: str) -> None:
    """Each kind of damage has its code."""
    assert [problem.code for problem in inspect_bytes("a.mp4", video).errors] == [code]


@pytest.mark.parametrize("flags", ["", "faststart"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_cut_videos_of_ffmpeg_are_errors(flags: str, share: float) -> None:
    """A video that FFmpeg wrote is an error wherever it was cut."""
    video = filmed(flags=flags)
    assert inspect_bytes("a.mp4", video[: int(len(video) * share)]).errors


@given(mutations([TYPE + MEDIA + box(b"moov", box(b"trak"), place(ISO6709), apple_place(ISO6709)), STREAMED]))
def test_any_damage_ends_in_a_result(data: bytes) -> None:
    """No bytes break the inspection."""
    assert_ends_in_a_result("a.mp4", data)


@given(st.text("+-.0123456789/", max_size=60))
def test_any_place_ends_in_a_result(text: str) -> None:
    """No text of a place breaks the inspection."""
    assert_ends_in_a_result("a.mp4", TYPE + MEDIA + box(b"moov", place(text.encode())))
