"""How much memory RocksDB may take for all files of a worker together."""

from typing import Any, Final

import rocksdict

# Faust's 64 MiB for writes and 2 GiB for reads of each partition let a worker grow for hours.
WRITES: Final = 4 * 1024 * 1024  # bytes of one set of files, at most twice
ALL_WRITES: Final = 16 * 1024 * 1024  # bytes of all of them together
STEP: Final = 16 * 1024  # bytes by which one takes of it; with RocksDB's 512 KiB 56 of them fill it with air
READS: Final = 128 * 1024 * 1024  # bytes, shared by all; what is not yet in files counts as well

_cache = rocksdict.Cache(READS)
_buffers = rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(ALL_WRITES, False, _cache)


def bound(options: Any, bloom_bits: int) -> None:
    """Let files that are opened with these options share what there is; `bloom_bits` is the filter's size a key."""
    blocks = rocksdict.BlockBasedOptions()
    blocks.set_bloom_filter(bloom_bits, block_based=True)
    blocks.set_block_cache(_cache)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_manager(_buffers)
    options.set_arena_block_size(STEP)
