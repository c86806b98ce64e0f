"""Makes the HTML of people, times, states and ids, which several pages of the admin show.

The classes are styled in ``static/authn/admin.css``.
"""

from datetime import UTC, datetime
from typing import Any

from django.contrib.admin.utils import quote
from django.db.models import Model
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from authn.admin.devices import device
from authn.models import Session, User

ID_LENGTH = 8  # characters of an id in a list

# Each unit with its seconds. A time is shown in the largest unit that fits.
UNITS = [("y", 31_536_000), ("mo", 2_592_000), ("d", 86_400), ("h", 3_600), ("min", 60)]


def url_name(model: type[Model], page: str) -> str:
    """Return the name of an admin page's URL without its namespace. ``page``: such as "change".

    A project may give the app another label, so the name is not a constant.
    """
    return f"{model._meta.app_label}_{model._meta.model_name}_{page}"


def admin_url(model: type[Model], page: str, *keys: str, **query: str) -> str:
    """Return the URL of an admin page. ``keys``: the primary key, if the page shows one object."""
    url = reverse(f"admin:{url_name(model, page)}", args=[quote(key) for key in keys])
    return f"{url}?{urlencode(query)}" if query else url


def permission(model: type[Model], action: str) -> str:
    """Return the name of a permission on the model, such as "authn.view_session"."""
    return f"{model._meta.app_label}.{action}_{model._meta.model_name}"


def short_time(moment: datetime, *, past: str = "hidden") -> SafeString:
    """Return HTML such as "2 h" or "in 6 d", with the exact time as a tooltip.

    ``past``: "hidden" if only screen readers get the word "ago". This is for columns with past times only.
    """
    seconds = (timezone.now() - moment).total_seconds()
    text = _in_largest_unit(abs(seconds))
    if text == "now":
        words = format_html("{}", text)
    elif seconds < 0:
        words = format_html("in {}", text)
    elif past == "hidden":
        words = format_html('{}<span class="visually-hidden"> ago</span>', text)
    else:
        words = format_html("{} ago", text)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exact_time(moment), words
    )


def _in_largest_unit(seconds: float) -> str:
    for unit, length in UNITS:
        if seconds >= length:
            return f"{int(seconds // length)}\N{NO-BREAK SPACE}{unit}"
    return "now"


def exact_time(moment: datetime) -> str:
    return f"{date_format(moment.astimezone(UTC), 'Y-m-d H:i:s')} UTC"


def long_time(moment: datetime) -> SafeString:
    """Return HTML such as "2026-11-29 08:39:12 UTC (2 h ago)", for the page of one object."""
    return format_html("{} ({})", exact_time(moment), short_time(moment, past="shown"))


def person(user: User) -> SafeString:
    """Return HTML with the name above the email address, or only the address if the user has no name."""
    lines = [("name", user.name)] if user.name.strip() else []
    return format_html_join(
        "", '<span class="person-{}">{}</span>', [*lines, ("email" if lines else "name", user.email)]
    )


def short_id(whole: str) -> SafeString:
    if len(whole) <= ID_LENGTH + 2:
        return format_html('<span class="short-id">{}</span>', whole)
    return format_html('<span class="short-id" title="{}">{}…</span>', whole, whole[:ID_LENGTH])


def badge(kind: str, text: Any, title: str = "") -> SafeString:
    """``kind``: "good", "quiet" or "bad"."""
    if title:
        return format_html('<span class="badge badge-{}" title="{}">{}</span>', kind, title, text)
    return format_html('<span class="badge badge-{}">{}</span>', kind, text)


def session_state(session: Session) -> SafeString:
    state = badge("good", "Active") if session.is_active else badge("quiet", "Expired")
    administrator = getattr(session, "impersonated_by", None)  # a column of the admin() plugin
    if not administrator:
        return state
    return format_html("{} {}", state, badge("bad", "Impersonated", f"by {administrator}"))


def user_state(user: User) -> SafeString:
    # An address that is not verified is normal: many projects verify none.
    verified = (
        badge("good", "Email verified") if user.email_verified else badge("quiet", "Email not verified")
    )
    return format_html("{} {}", badge("bad", "Banned"), verified) if user.is_banned else verified


def session_device(session: Session) -> str:
    return device(session.user_agent) or "-"


def session_link(session: Session) -> SafeString:
    url = admin_url(Session, "change", session.id)
    return format_html('<a href="{}">{}</a>', url, short_id(session.id))


# The sessions on a user's page: the name of each column, and the function that returns its value.
SESSION_COLUMNS = {
    "State": session_state,
    "Device": session_device,
    "Address": lambda session: session.ip_address or "-",
    "Signed in": lambda session: short_time(session.created_at),
    "Last seen": lambda session: short_time(session.updated_at),
    "Expires": lambda session: short_time(session.expires_at, past="shown"),
    "Id": session_link,
}
