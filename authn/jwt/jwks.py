"""The keys that Better Auth serves at its JWKS address, fetched from a peer that may be slow, or anybody."""

import json
import socket
import threading
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import httpx2

TIMEOUT_SECONDS = 3.0
MAX_BYTES = 256 * 1024
MAX_KEYS = 1000  # Better Auth lists a key for 30 days after it has retired, even one of each hour


class PrivateAddress(ValueError):
    """Where keys would be fetched, and BETTER_AUTH_JWKS_PRIVATE does not say that it is meant."""


def fetch(url: str, *, may_be_private: bool) -> list[Any]:
    """The keys of a JWKS document; raises whatever goes wrong."""
    # In a thread of its own, which may be left behind. httpx2's timeout is for each read, and headers may
    # come byte by byte; and while a name is looked up, nobody can interrupt that.
    peer, document = _Peer(may_be_private), Future[bytes]()
    threading.Thread(target=_read, args=[url, peer, document], name="jwks", daemon=True).start()
    try:
        keys = json.loads(document.result(TIMEOUT_SECONDS))["keys"]
    except TimeoutError:
        peer.hang_up()
        raise ValueError("the JWKS document is too slow") from None
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise ValueError("not a JWKS document, or one of too many keys")
    return keys


def _read(url: str, peer: "_Peer", document: "Future[bytes]") -> None:
    body = b""
    request: dict[str, Any] = {
        # Compression is not asked for, and not unpacked below: a few bytes of gzip can become gigabytes.
        "headers": {"Accept-Encoding": "identity"},
        "extensions": {"trace": peer.watch},
    }
    try:
        with (
            httpx2.Client(timeout=TIMEOUT_SECONDS) as client,
            client.stream("GET", url, **request) as response,
        ):
            response.raise_for_status()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError("the JWKS document is too large")
    except BaseException as exc:
        document.set_exception(exc)
    else:
        document.set_result(body)
    finally:
        peer.forget()


class _Peer:
    """Whom keys are fetched from."""

    def __init__(self, may_be_private: bool) -> None:
        self.may_be_private, self.is_late = may_be_private, False
        self._line: socket.socket | None = None

    def watch(self, event: str, info: dict[str, Any]) -> None:
        """Called by httpx2 for each step. The address is the one really connected to, before anything is
        sent: a name that was looked up on its own could mean another one a moment later."""
        if event != "connection.connect_tcp.complete":
            return
        connection = info["return_value"]
        address = ip_address(connection.get_extra_info("server_addr")[0])
        if not (self.may_be_private or (getattr(address, "ipv4_mapped", None) or address).is_global):
            connection.close()
            raise PrivateAddress("a private address, and BETTER_AUTH_JWKS_PRIVATE is off")
        # A second handle on it, that stays ours: TLS takes the first away.
        self._line = connection.get_extra_info("socket").dup()
        if self.is_late:
            self.hang_up()

    def hang_up(self) -> None:
        """From another thread, whatever this one is reading."""
        self.is_late = True
        if self._line:
            with suppress(OSError):  # it is closed already
                self._line.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        if self._line:
            self._line.close()
