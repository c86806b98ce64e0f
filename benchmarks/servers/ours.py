"""Ours, for CHATKIT_SERVER: the default server's store, and the answer that all of them give."""

from benchmarks.servers import memory
from support.storage.store import Store


class Server(memory.Server):
    def __init__(self) -> None:
        super().__init__(Store())
