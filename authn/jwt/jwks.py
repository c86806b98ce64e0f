"""Fetches Better Auth's public keys from its JWKS URL. The server of this URL may be slow or hostile."""

import json
import threading
import time
from concurrent.futures import Future
from ipaddress import ip_address
from typing import Any

TIMEOUT_SECONDS = 3.0
MAX_BYTES = 256 * 1024
# Better Auth lists a key until 30 days after it has expired. With a new key each hour, these are 720 keys.
MAX_KEYS_IN_SET = 1000


class PrivateAddressRefused(ValueError):
    """The JWKS URL leads to a private IP address, and BETTER_AUTH_JWKS_PRIVATE is off."""


def fetch(url: str, *, allow_private: bool) -> list[Any]:
    """Returns the ``keys`` of the JWKS document.

    Raises an exception of any type if there is no JWKS document, or if it does not arrive in time.
    """
    # httpx2's timeout is for each read, so a server could send byte by byte for hours. Also, nothing can
    # interrupt a DNS lookup. So a separate thread downloads the document, and the caller waits for this
    # thread for TIMEOUT_SECONDS at most. Then only the thread keeps waiting.
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
    # Ask for no compression, and decompress nothing: a few bytes of gzip can become gigabytes.
    headers = {"Accept-Encoding": "identity"}
    try:
        import httpx2  # imported here, because most deployments read the keys from the database

        # By default, httpx2 follows no redirects.
        with (
            httpx2.Client(timeout=TIMEOUT_SECONDS) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            # Check the IP address of this connection. A DNS lookup of our own could get another IP address.
            # The request is already sent when we check. This does no harm: the request holds no secret. And
            # the system checks require https here, so the server has shown a certificate for the URL's host.
            stream = response.extensions["network_stream"]
            if not allow_private and is_private(stream.get_extra_info("server_addr")[0]):
                raise PrivateAddressRefused("a private IP address, and BETTER_AUTH_JWKS_PRIVATE is off")
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


def is_private(ip: str) -> bool:
    parsed = ip_address(ip)
    return not (getattr(parsed, "ipv4_mapped", None) or parsed).is_global
