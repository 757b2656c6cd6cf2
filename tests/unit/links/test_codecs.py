"""Every codec of Kafka is unpacked, in every way in which it is written, and never beyond the bound."""

import contextlib
import gzip
import struct
from collections.abc import Callable

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from links.codecs import MOST, CannotUnpack, TooLarge, unpacked

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
BOMB = MOST + 1


def raw_snappy(data: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(data))


def xerial(data: bytes, block: int = 32 * 1024, versions: bytes = struct.pack(">ii", 1, 1)) -> bytes:
    blocks = [raw_snappy(data[at : at + block]) for at in range(0, len(data), block)]
    return b"\x82SNAPPY\0" + versions + b"".join(struct.pack(">i", len(one)) + one for one in blocks)


def lz4(*, checksum: bool, linked: bool = False) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        packer = cramjam.lz4.Compressor(level=9, content_checksum=checksum, block_linked=linked)
        packer.compress(data)
        return bytes(packer.finish())

    return pack


def zstd_stream(data: bytes) -> bytes:
    """Packed without knowing how much there will be."""
    packer = cramjam.zstd.Compressor()
    for at in range(0, len(data), 1000):
        packer.compress(data[at : at + 1000])
    return bytes(packer.finish())


WAYS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "gzip": (GZIP, gzip.compress),
    "gzip, not packed": (GZIP, lambda data: gzip.compress(data, 0)),
    "gzip, two members": (GZIP, lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:])),
    "snappy": (SNAPPY, raw_snappy),
    "snappy of Java": (SNAPPY, xerial),
    "snappy of Java, small blocks": (SNAPPY, lambda data: xerial(data, 1000)),
    "snappy of kcat": (SNAPPY, lambda data: xerial(data, versions=bytes(8))),
    "lz4": (LZ4, lz4(checksum=False)),
    "lz4 with a checksum": (LZ4, lz4(checksum=True)),
    "lz4, blocks linked": (LZ4, lz4(checksum=True, linked=True)),
    "lz4, two frames": (LZ4, lambda data: lz4(checksum=True)(data[:100]) + lz4(checksum=False)(data[100:])),
    "zstd": (ZSTD, lambda data: bytes(cramjam.zstd.compress(data))),
    "zstd of unknown size": (ZSTD, zstd_stream),
    "zstd, two frames": (
        ZSTD,
        lambda data: bytes(cramjam.zstd.compress(data[:100])) + zstd_stream(data[100:]),
    ),
}


@pytest.mark.parametrize("way", WAYS)
@given(data=st.binary(max_size=300) | st.integers(1, 200_000).map(lambda size: b"hello, world" * (size // 12 + 1)))
def test_what_was_packed_comes_back(way: str, data: bytes) -> None:
    codec, pack = WAYS[way]
    assert unpacked(codec, pack(data)) == data
    assert unpacked(codec, memoryview(pack(data))) == data


@pytest.mark.parametrize("way", WAYS)
def test_no_more_than_the_bound_is_unpacked(way: str) -> None:
    codec, pack = WAYS[way]
    with pytest.raises(TooLarge):
        unpacked(codec, pack(bytes(BOMB)))


@pytest.mark.parametrize("way", ["gzip", "snappy", "snappy of Java", "lz4", "zstd"])
def test_just_the_bound_is_taken(way: str) -> None:
    codec, pack = WAYS[way]
    assert len(unpacked(codec, pack(bytes(MOST)))) == MOST


@pytest.mark.parametrize("way", WAYS)
@given(at=st.integers(0, 400), byte=st.integers(0, 255), cut=st.integers(0, 400))
def test_what_is_broken_raises_nothing_else(way: str, at: int, byte: int, cut: int) -> None:
    codec, pack = WAYS[way]
    packed = bytearray(pack(b"".join(str(number).encode() for number in range(200))))
    packed[at % len(packed)] = byte
    with contextlib.suppress(CannotUnpack):
        unpacked(codec, bytes(packed[: max(1, len(packed) - cut)]))


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD, 5, 6, 7])
@given(data=st.binary(min_size=1, max_size=64))
def test_rubbish_raises_nothing_else(codec: int, data: bytes) -> None:
    with contextlib.suppress(CannotUnpack):
        unpacked(codec, data)


def test_a_codec_that_does_not_exist_is_named() -> None:
    with pytest.raises(CannotUnpack, match="number 5"):
        unpacked(5, b"x")


EMPTY = {"gzip": gzip.compress(b""), "zstd": bytes(cramjam.zstd.compress(b"")), "lz4": lz4(checksum=True)(b"")}


@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY.keys())
def test_very_many_empty_parts_take_no_time_that_grows_with_their_square(empty: bytes) -> None:
    codec = GZIP if empty.startswith(b"\x1f") else ZSTD if empty.startswith(b"\x28") else LZ4
    assert unpacked(codec, empty * (1_000_000 // len(empty))) == b""
