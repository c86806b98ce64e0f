"""Fetches Better Auth's public keys from its JWKS URL. The server may be slow, broken or hostile."""

import json
import threading
import time
from concurrent.futures import Future
from ipaddress import ip_address
from typing import Any

import httpx2

TIMEOUT_SECONDS = 3.0
MAX_BYTES = 256 * 1024
MAX_KEYS_IN_SET = (
    1000  # Better Auth lists a key for 30 days after it has retired, even if it makes one each hour
)


class PrivateAddressRefused(ValueError):
    """The JWKS URL leads to a private address, and BETTER_AUTH_JWKS_PRIVATE is off."""


def fetch(url: str, *, allow_private: bool) -> list[Any]:
    """The ``keys`` of the JWKS document. Raises any exception if there is no such document in time."""
    # httpx2's timeout is for each read, and nothing can interrupt a DNS lookup. So a separate thread
    # downloads, and the caller stops waiting for it. A server that sends its headers byte by byte keeps
    # only that thread.
    document = Future[bytes]()
    arguments = [url, allow_private, document]
    threading.Thread(target=_download, args=arguments, name="jwks", daemon=True).start()
    try:
        keys = json.loads(document.result(TIMEOUT_SECONDS))["keys"]
    except TimeoutError:
        raise ValueError("the JWKS document is too slow") from None
    if not isinstance(keys, list) or len(keys) > MAX_KEYS_IN_SET:
        raise ValueError("not a JWKS document, or it has too many keys")
    return keys


def _download(url: str, allow_private: bool, document: "Future[bytes]") -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    body = b""
    # We ask for no compression and decompress nothing: a few bytes of gzip can become gigabytes.
    headers = {"Accept-Encoding": "identity"}
    try:
        # httpx2 follows no redirects by default.
        with (
            httpx2.Client(timeout=TIMEOUT_SECONDS) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            # Check the address of this connection: a DNS lookup of our own could get another answer. The
            # request may be sent before the check. It holds no secret, and the system checks require https
            # unless a private address is allowed, so the server has shown a certificate for the URL's host.
            stream = response.extensions["network_stream"]
            if not allow_private and is_private(stream.get_extra_info("server_addr")[0]):
                raise PrivateAddressRefused("a private address, and BETTER_AUTH_JWKS_PRIVATE is off")
            response.raise_for_status()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError("the JWKS document is too large")
                if time.monotonic() > deadline:
                    raise ValueError("the JWKS document is too slow")
    except BaseException as exc:
        document.set_exception(exc)
    else:
        document.set_result(body)


def is_private(address: str) -> bool:
    parsed = ip_address(address)
    return not (getattr(parsed, "ipv4_mapped", None) or parsed).is_global
