"""Where attachments are uploaded to and read from: absolute addresses, as ChatKit's client wants them.

The address to read from needs no header, because an ``<img>`` sends none. It is signed instead, for one
owner, one attachment and a few minutes, and made anew whenever items are loaded.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import quote, urlsplit

from chatkit.types import Attachment, ImageAttachment
from django.core.exceptions import ImproperlyConfigured
from django.core.signing import BadSignature, Signer
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from pydantic import AnyUrl

from support.conf import conf

SALT = "support.addresses"  # a signature made for anything else is none here

_seen_by: ContextVar[HttpRequest | None] = ContextVar("seen_by", default=None)


class BadAddress(Exception):
    """Forged, expired, or of another attachment."""


@contextmanager
def as_seen_by(request: HttpRequest) -> Iterator[None]:
    """Inside, and in what is started there, addresses without a PUBLIC_URL begin as the request's own.

    Its host is one that ALLOWED_HOSTS names, or ``get_host`` would have raised.
    """
    token = _seen_by.set(request)
    try:
        yield
    finally:
        _seen_by.reset(token)


def upload(attachment_id: str) -> AnyUrl:
    return AnyUrl(_base() + reverse("attachment-upload", args=[attachment_id]))


def content(user_id: str, attachment_id: str) -> AnyUrl:
    """The same for minutes, although made anew each time: so browsers cache what they read from it."""
    step = max(conf.ATTACHMENT_ADDRESS_SECONDS // 2, 1)
    expires_at = (int(time.time()) // step + 2) * step
    signature = Signer(salt=SALT).sign_object([user_id, attachment_id, expires_at])
    return AnyUrl(_base() + _content_path(attachment_id) + f"?signature={quote(signature)}")


def verify(attachment_id: str, signature: str) -> tuple[str, int]:
    """Whose attachment it is, and for how many seconds the address is still good."""
    try:
        user_id, signed_id, expires_at = Signer(salt=SALT).unsign_object(signature)
    except BadSignature as exc:
        raise BadAddress from exc
    seconds = int(expires_at - time.time())
    if signed_id != attachment_id or seconds <= 0:
        raise BadAddress
    return user_id, seconds


def renewed(user_id: str, attachment: Attachment) -> Attachment:
    """With an address as of now, if the one it has is ours: a team's server may have its own."""
    if not isinstance(attachment, ImageAttachment) or not (conf.PUBLIC_URL or _seen_by.get()):
        return attachment
    try:
        our_path = _content_path(attachment.id)
    except NoReverseMatch:  # not an id of ours
        return attachment
    if not urlsplit(str(attachment.preview_url)).path.endswith(our_path):
        return attachment
    return attachment.model_copy(update={"preview_url": content(user_id, attachment.id)})


def _content_path(attachment_id: str) -> str:
    return reverse("attachment-content", args=[attachment_id])


def _base() -> str:
    if conf.PUBLIC_URL:
        return conf.PUBLIC_URL.rstrip("/")
    request = _seen_by.get()
    if request is None:
        raise ImproperlyConfigured("PUBLIC_URL is not set, and there is no request to tell.")
    return f"{request.scheme}://{request.get_host()}"
