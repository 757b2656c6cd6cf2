"""What a worker remembers of the logs it owns: one RocksDB table a module, its docstring names its single writer."""
