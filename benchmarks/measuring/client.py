"""Clients in their own process, so that they do not use the server's core.

``python -m benchmarks.measuring.client`` reads JSON from stdin: the arguments of ``ask``, or of ``Load``. A
load prints ``{"open": …}`` when the first answer of every client has begun or failed, and its results at the
end. Durations are in milliseconds. Points in time are of ``time.monotonic()``, which all processes share.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.results.table import percentile


def create(deltas: int, seconds: float) -> str:
    """The body of ``threads.create``; its message asks for this many deltas in this many seconds."""
    content = [{"type": "input_text", "text": f"bench {deltas} {seconds:g}"}]
    message = {"content": content, "attachments": [], "inference_options": {}}
    return json.dumps({"type": "threads.create", "params": {"input": message}})


@dataclass
class Load:
    """``clients`` in parallel. Each sends one request after another, each on a new connection.

    Each client starts requests for ``seconds``, at least one and at most ``each``. An answer has begun when
    it contains ``beginning``. It is complete if it contains ``ending``.
    """

    url: str
    tokens: list[str]  # header lines
    body: str
    ending: str
    clients: int
    seconds: float = 0
    each: int = 1
    beginning: str = ""
    timeout: float = 30  # seconds for one request

    firsts: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    errors: int = 0
    # By client: whether its first answer began or failed.
    begun: dict[int, bool] = field(default_factory=dict)

    async def run(self) -> dict[str, float]:
        start = time.monotonic()
        await asyncio.gather(*(self._client(number, start) for number in range(self.clients)))
        firsts = sorted(self.firsts)
        return {
            "requests": len(self.ended),
            "per_second": len(self.ended) / (time.monotonic() - start),
            "errors": self.errors,
            "p50": percentile(firsts, 50),
            "p99": percentile(firsts, 99),
            "last": max(firsts, default=0.0),
            "first_ended_at": min(self.ended, default=0.0),
        }

    async def _client(self, number: int, start: float) -> None:
        lines = self.tokens[number :: self.clients] or self.tokens
        done = 0
        while done < 1 or (done < self.each and time.monotonic() - start < self.seconds):
            done += 1
            try:
                await asyncio.wait_for(self._request(number, lines[done % len(lines)]), self.timeout)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                self.errors += 1
                self._record(number, begun=False)

    async def _request(self, number: int, credential: str) -> None:
        at = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        try:
            writer.write(
                f"POST {at.path} HTTP/1.1\r\nHost: {at.netloc}\r\n{credential}\r\nConnection: close\r\n"
                "Content-Type: application/json\r\n"
                f"Content-Length: {len(self.body)}\r\n\r\n{self.body}".encode()
            )
            sent_at, answer = time.monotonic(), b""
            head = await reader.readuntil(b"\r\n\r\n")
            while chunk := await reader.read(65536):
                if not answer:
                    self.firsts.append((time.monotonic() - sent_at) * 1000)
                answer += chunk
                if number not in self.begun and self.beginning.encode() in answer:
                    self._record(number, begun=True)
        finally:
            writer.close()
        if not head.startswith(b"HTTP/1.1 200") or self.ending.encode() not in answer:
            raise OSError("the answer is incomplete or an error")
        self.ended.append(time.monotonic())

    def _record(self, number: int, *, begun: bool) -> None:
        if number not in self.begun:
            self.begun[number] = begun
            if len(self.begun) == self.clients:
                print(json.dumps({"open": sum(self.begun.values())}), flush=True)


def ask(port: int, path: str, body: str, credentials: list[str], count: int) -> None:
    """Send ``count`` requests one after another on one connection."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    for number in range(count):
        name, _, value = credentials[number % len(credentials)].partition(": ")
        connection.request("POST", path, body, {name: value, "Content-Type": "application/json"})
        response = connection.getresponse()
        if not response.read() or response.status != 200:
            sys.exit(f"The server answered {response.status}.")
    connection.close()


def main(options: dict[str, Any]) -> None:
    if "clients" in options:
        print(json.dumps(uvloop.run(Load(**options).run())), flush=True)
    else:
        ask(**options)


if __name__ == "__main__":
    main(json.load(sys.stdin))
