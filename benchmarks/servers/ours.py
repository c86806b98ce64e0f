"""Our CHATKIT_SERVER in the benchmark: our store, and the same answers as the other servers."""

from benchmarks.servers import memory
from support.storage.store import Store


class Server(memory.Server):
    def __init__(self) -> None:
        super().__init__(Store())
