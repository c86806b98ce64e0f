"""The context of a request. It tells ChatKit's server and its stores about the caller."""

from dataclasses import dataclass
from typing import Any, Self, cast

from django.utils.translation.trans_real import parse_accept_lang_header
from rest_framework.request import Request

from authn.jwt.tokens import Claims
from authn.models import Session, User
from authn.sessions import Identity, Organization
from support.conf import PER_ORGANIZATION, conf


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The caller of a request.

    ``user_id``: the request may read and change only the data of this user. ``claims``: the claims of the
    JWT, or ``None`` if the caller sent a session token. ``locale``: a lower-case language tag, or empty.
    ``organization``: the user's active organization, or ``None``. The user is a member of it now.
    ``client_id``: the OAuth client that acts for the user, or empty if the user's own page sent the request.
    ``session``: ``None`` only if such a client acts after the user has signed out. By default none may
    (BETTER_AUTH_OAUTH_OFFLINE_ACCESS).
    """

    user_id: str
    user: User
    session: Session | None
    claims: Claims | None
    locale: str
    request_id: str
    organization: Organization | None = None
    client_id: str = ""


def build(request: Request) -> RequestContext:
    """Return the context of a request. CHATKIT_CONTEXT names this function by default.

    It is called once for each request, after authentication.
    """
    identity = cast(Identity, request.auth)
    languages = parse_accept_lang_header(request.META.get("HTTP_ACCEPT_LANGUAGE", ""))
    return RequestContext(
        user_id=identity.user_id,
        user=identity.user,
        session=identity.session,
        claims=identity.claims,
        locale=languages[0][0] if languages else "",
        request_id=getattr(request, "request_id", ""),
        organization=identity.organization,
        client_id=identity.access_token.client_id if identity.access_token else "",
    )


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of conversations and attachments.

    ``organization_id``: ``None`` if SUPPORT_CONVERSATIONS is "user". Otherwise the id of an organization, or
    "" for the rows without an organization.
    """

    user_id: str
    organization_id: str | None = None

    @classmethod
    def of(cls, context: Any) -> Self:
        """Return the owner whose rows the request with this context may read and change.

        A team's own context needs the attribute ``organization`` only for "user_and_organization".
        """
        if conf.SUPPORT_CONVERSATIONS != PER_ORGANIZATION:
            return cls(context.user_id)
        return cls(context.user_id, context.organization.id if context.organization else "")

    @property
    def columns(self) -> dict[str, str]:
        """The columns by which this owner's rows are found. A new row gets these values."""
        own = {"user_id": self.user_id}
        return own if self.organization_id is None else own | {"organization_id": self.organization_id}

    @property
    def condition(self) -> str:
        """The SQL for the rows of this owner. Its parameters are the values of ``columns``."""
        return " AND ".join(f"{name} = %s" for name in self.columns)
