"""Better Auth's tables, as Django reads them. Better Auth owns them: it creates, changes and fills them.

Only the columns we use are declared, so that a ``SELECT`` names no other: neither a plugin's columns
nor secrets (``jwks.privateKey``, ``session.token``) ever leave the database. This app has no
migrations, for there is nothing here that Django may migrate.
"""

from datetime import UTC, datetime
from typing import Any

from django.db import models
from django.utils import timezone

from authn.conf import conf


class UTCDateTimeField(models.DateTimeField):  # type: ignore[type-arg]  # generic in the stubs alone
    """Aware UTC, from columns without a zone too: Drizzle, Prisma and old Kysely make such, in UTC."""

    def from_db_value(self, value: datetime | None, *_: Any) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class User(models.Model):
    """A person who signed up at Better Auth. ``request.user`` of an authenticated API request."""

    id = models.TextField(primary_key=True)
    name = models.TextField()
    email = models.TextField(unique=True)
    email_verified = models.BooleanField(db_column="emailVerified")
    created_at = UTCDateTimeField(db_column="createdAt")
    updated_at = UTCDateTimeField(db_column="updatedAt")
    if "admin" in conf.BETTER_AUTH_PLUGINS:
        banned = models.BooleanField(null=True)
        ban_expires = UTCDateTimeField(db_column="banExpires", null=True)

    # What Django and DRF ask of a user. Nobody gets here without a verified token and a live session.
    is_authenticated = True
    is_anonymous = False
    is_active = True

    class Meta:
        managed = False
        db_table = "user"

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

    id = models.TextField(primary_key=True)
    user = models.ForeignKey(User, models.DO_NOTHING, db_column="userId", related_name="sessions")
    expires_at = UTCDateTimeField(db_column="expiresAt")
    created_at = UTCDateTimeField(db_column="createdAt")
    updated_at = UTCDateTimeField(db_column="updatedAt")
    ip_address = models.TextField(db_column="ipAddress", null=True)
    user_agent = models.TextField(db_column="userAgent", null=True)

    class Meta:
        managed = False
        db_table = "session"

    def __str__(self) -> str:
        return self.id

    @property
    def is_active(self) -> bool:
        return bool(self.expires_at > timezone.now())


class SigningKey(models.Model):
    """A public key of Better Auth's jwt() plugin. Rows are never deleted when a key retires."""

    kid = models.TextField(primary_key=True, db_column="id")
    public_key = models.TextField(db_column="publicKey")  # the JWK as JSON, without kid and alg
    alg = models.TextField(null=True)
    expires_at = UTCDateTimeField(db_column="expiresAt", null=True)

    class Meta:
        managed = False
        db_table = "jwks"

    def __str__(self) -> str:
        return self.kid
