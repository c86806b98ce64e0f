"""Makes the absolute URLs at which ChatKit's client uploads and reads attachments.

The URL for reading is signed, and needs no Authorization header: an ``<img>`` cannot send this header. The
signature is valid for one owner, one attachment and a few minutes. Items get new URLs whenever they are
loaded.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from urllib.parse import quote, urlsplit

from chatkit.types import Attachment, ImageAttachment
from django.core.exceptions import DisallowedHost, ImproperlyConfigured
from django.core.signing import BadSignature, Signer
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from pydantic import AnyUrl

from support.conf import conf

SALT = "support.addresses"  # a signature that was made for another purpose has another salt, and is not valid

# A request, or the scheme and host of one, such as "https://example.com".
_host: ContextVar[HttpRequest | str] = ContextVar("host", default="")


class InvalidUrl(Exception):
    """The signature of the URL is forged or expired, or belongs to another attachment."""


@contextmanager
def use_host_of(request: HttpRequest) -> Iterator[None]:
    """Let URLs that the block makes start with this request's scheme and host, if PUBLIC_URL is not set.

    This also applies to asyncio tasks that the block starts. The host is safe: ``get_host`` raises an
    exception for a host that is not in ALLOWED_HOSTS.
    """
    token = _host.set(request)
    try:
        yield
    finally:
        _host.reset(token)


def keep_only_host() -> None:
    """Let the memory of the request go, because a stream may take minutes. For inside ``use_host_of``."""
    with suppress(DisallowedHost):  # it matters only if a URL is made
        _host.set(_base())


def upload_url(attachment_id: str) -> AnyUrl:
    return AnyUrl(_base() + reverse("chatkit:attachment-upload", args=[attachment_id]))


def content_url(user_id: str, attachment_id: str) -> AnyUrl:
    """Return the URL for reading. It stays the same for some minutes, so browsers can cache the file."""
    step = max(conf.ATTACHMENT_ADDRESS_SECONDS // 2, 1)
    expires_at = (int(time.time()) // step + 2) * step
    signature = Signer(salt=SALT).sign_object([user_id, attachment_id, expires_at])
    return AnyUrl(_base() + _content_path(attachment_id) + f"?signature={quote(signature)}")


def verify(attachment_id: str, signature: str) -> tuple[str, int]:
    """Return the attachment's owner, and the seconds until the URL expires. Raises ``InvalidUrl``."""
    try:
        user_id, signed_id, expires_at = Signer(salt=SALT).unsign_object(signature)
    except BadSignature as exc:
        raise InvalidUrl from exc
    seconds = int(expires_at - time.time())
    if signed_id != attachment_id or seconds <= 0:
        raise InvalidUrl
    return user_id, seconds


def with_fresh_url(user_id: str, attachment: Attachment) -> Attachment:
    """Return the attachment with a new ``preview_url``.

    A ``preview_url`` that is not one of our URLs stays, because a team's server may have set it.
    """
    if not isinstance(attachment, ImageAttachment) or not (conf.PUBLIC_URL or _host.get()):
        return attachment
    try:
        our_path = _content_path(attachment.id)
    except NoReverseMatch:  # the id does not fit into our URLs, so the URL is not ours
        return attachment
    if not urlsplit(str(attachment.preview_url)).path.endswith(our_path):
        return attachment
    return attachment.model_copy(update={"preview_url": content_url(user_id, attachment.id)})


def _content_path(attachment_id: str) -> str:
    return reverse("chatkit:attachment-content", args=[attachment_id])


def _base() -> str:
    if conf.PUBLIC_URL:
        return conf.PUBLIC_URL.rstrip("/")
    host = _host.get()
    if not host:
        raise ImproperlyConfigured("PUBLIC_URL is not set, and there is no request to take the host from.")
    return host if isinstance(host, str) else f"{host.scheme}://{host.get_host()}"
