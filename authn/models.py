"""Better Auth's tables, as Django reads them. Better Auth owns them: it creates, changes and fills them.

Only the columns we use are declared, so that a ``SELECT`` names no other: neither a plugin's columns
nor secrets (``jwks.privateKey``, ``session.token``) ever leave the database. This app has no
migrations, for there is nothing here that Django may migrate.
"""

from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import models
from django.db.models import lookups
from django.db.models.expressions import Col
from django.utils import timezone

from authn.conf import conf
from authn.tables.naming import column, exists, table

PLUGINS = ("admin", "anonymous", "organization", "two-factor")  # those whose columns are declared below


class IdField(models.TextField):  # type: ignore[type-arg]  # generic in the stubs alone
    """Text, integer or uuid in the database; always a ``str`` here, as it is in a token."""

    def from_db_value(self, value: Any, *_: Any) -> str | None:
        return None if value is None else str(value)


class AsText:
    """Compares an id to a value as text: "abc" is no number, and so no row's id, in place of an error of
    PostgreSQL's. Where the column is text already the cast is none, and its index is used as ever."""

    def process_lhs(self, compiler: Any, connection: Any, lhs: Any = None) -> tuple[str, Any]:
        sql, params = super().process_lhs(compiler, connection, lhs)  # type: ignore[misc]
        is_value: bool = self.rhs_is_direct_value()  # type: ignore[attr-defined]
        return (f"CAST({sql} AS text)" if is_value else sql), params

    def process_rhs(self, compiler: Any, connection: Any) -> Any:
        values = self.rhs if isinstance(self.rhs, list | tuple | set) else [self.rhs]  # type: ignore[attr-defined]
        if any("\0" in str(value) for value in values):
            raise EmptyResultSet  # PostgreSQL would refuse it in any text
        return super().process_rhs(compiler, connection)  # type: ignore[misc]


class Stored(lookups.In):
    """One of ids that were read from the database: compared as they are there, so by an index of any type."""

    lookup_name = "stored"


for lookup in (lookups.Exact, lookups.In):
    IdField.register_lookup(type(lookup.__name__, (AsText, lookup), {}))
IdField.register_lookup(Stored)


class UTCDateTimeField(models.DateTimeField):  # type: ignore[type-arg]  # generic in the stubs alone
    """Aware UTC, from any column that Better Auth's adapters make."""

    def from_db_value(self, value: datetime | None, _expression: Any, connection: Any) -> datetime | None:
        if value is None:
            return None
        # Drizzle, Prisma and old Kysely make columns without a zone; TIME_ZONE of the alias says which.
        return (value if value.tzinfo else value.replace(tzinfo=connection.timezone)).astimezone(UTC)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if connection.vendor == "sqlite" and isinstance(value, datetime):
            # As Better Auth writes it there, for SQLite compares text: with Django's space in place of
            # the T, a session would count as active until midnight of the day on which it expired.
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        return super().get_db_prep_value(value, connection, prepared)


class User(models.Model):
    """A person who signed up at Better Auth. ``request.user`` of an authenticated API request."""

    id = IdField(primary_key=True, db_column=column("user", "id"))
    name = models.TextField(db_column=column("user", "name"))
    email = models.TextField(unique=True, db_column=column("user", "email"))
    email_verified = models.BooleanField(db_column=column("user", "emailVerified"))
    created_at = UTCDateTimeField(db_column=column("user", "createdAt"))
    updated_at = UTCDateTimeField(db_column=column("user", "updatedAt"))
    if "admin" in conf.BETTER_AUTH_PLUGINS:
        role = models.TextField(null=True, db_column=column("user", "role"))  # a list: "admin,user"
        banned = models.BooleanField(null=True, db_column=column("user", "banned"))
        ban_reason = models.TextField(null=True, db_column=column("user", "banReason"))
        ban_expires = UTCDateTimeField(null=True, db_column=column("user", "banExpires"))
    if "anonymous" in conf.BETTER_AUTH_PLUGINS:  # "is_anonymous" is Django's word for nobody at all
        signed_up_anonymously = models.BooleanField(null=True, db_column=column("user", "isAnonymous"))
    if "two-factor" in conf.BETTER_AUTH_PLUGINS:
        two_factor_enabled = models.BooleanField(null=True, db_column=column("user", "twoFactorEnabled"))

    # What Django and DRF ask of a user. Nobody gets here without a verified token and a live session.
    is_authenticated = True
    is_anonymous = False
    is_active = True

    class Meta:
        managed = False
        db_table = table("user")
        default_permissions = ["view"]  # nobody adds, changes or deletes anything here
        permissions = [("revoke_all_sessions", "Can revoke all sessions of a user")]

    def __str__(self) -> str:
        return self.email

    @property
    def is_banned(self) -> bool:
        """Banned now: NULL is not banned, and ``banned`` stays set when ``banExpires`` has passed."""
        if "admin" not in conf.BETTER_AUTH_PLUGINS or not self.banned:
            return False
        return self.ban_expires is None or bool(self.ban_expires > timezone.now())


class Session(models.Model):
    """One sign-in on one device. The row goes away on sign-out, but stays when it merely expires."""

    id = IdField(primary_key=True, db_column=column("session", "id"))
    user = models.ForeignKey(
        User, models.DO_NOTHING, db_column=column("session", "userId"), related_name="sessions"
    )
    expires_at = UTCDateTimeField(db_column=column("session", "expiresAt"))
    created_at = UTCDateTimeField(db_column=column("session", "createdAt"))
    updated_at = UTCDateTimeField(db_column=column("session", "updatedAt"))
    ip_address = models.TextField(null=True, db_column=column("session", "ipAddress"))
    user_agent = models.TextField(null=True, db_column=column("session", "userAgent"))
    if "admin" in conf.BETTER_AUTH_PLUGINS:  # the id of the administrator who acts as this user
        impersonated_by = models.TextField(null=True, db_column=column("session", "impersonatedBy"))
    if "organization" in conf.BETTER_AUTH_PLUGINS:  # what the user has chosen, and no proof of membership
        active_organization_id = IdField(null=True, db_column=column("session", "activeOrganizationId"))

    class Meta:
        managed = False
        db_table = table("session")
        default_permissions = ["view"]
        permissions = [("revoke_session", "Can revoke sessions")]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def is_active(self) -> bool:
        return bool(self.expires_at > timezone.now())

    @classmethod
    def with_token(cls, token: str) -> "models.QuerySet[Session]":
        """The token is a login: it is compared where it is, and no field that could be read or shown."""
        return cls.objects.filter(lookups.Exact(Col(cls._meta.db_table, SESSION_TOKEN), token))


SESSION_TOKEN: "models.TextField[str, str]" = models.TextField()
SESSION_TOKEN.set_attributes_from_name(column("session", "token"))


class SigningKey(models.Model):
    """A public key of Better Auth's jwt() plugin. Rows are never deleted when a key retires."""

    kid = IdField(primary_key=True, db_column=column("jwks", "id"))
    public_key = models.TextField(db_column=column("jwks", "publicKey"))  # the JWK, without kid and alg
    if exists("jwks", "alg"):
        alg = models.TextField(null=True, db_column=column("jwks", "alg"))
    if exists("jwks", "expiresAt"):
        expires_at = UTCDateTimeField(null=True, db_column=column("jwks", "expiresAt"))

    class Meta:
        managed = False
        db_table = table("jwks")
        default_permissions = ()  # not in the admin

    def __str__(self) -> str:
        return str(self.kid)
