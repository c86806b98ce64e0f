"""Models of Better Auth's tables. Better Auth creates, migrates and fills them.

The models declare only the columns that we use, so a ``SELECT`` names no other columns. The secrets
(``jwks.privateKey``, ``session.token``) are not declared, so they never leave the database. All models are
unmanaged, so this app has no migrations.
"""

from django.db import models
from django.db.models import lookups
from django.db.models.expressions import Col
from django.utils import timezone

from authn.conf import conf
from authn.tables.fields import IdField, StringListField, UTCDateTimeField
from authn.tables.naming import column, exists, table

# The plugins of Better Auth whose columns the models declare.
PLUGINS = ("admin", "anonymous", "oauth-provider", "organization", "two-factor")
HAS_ORGANIZATIONS = "organization" in conf.BETTER_AUTH_PLUGINS


def split_roles(text: str | None) -> set[str]:
    """Returns the roles in a column of Better Auth, which are separated by commas. NULL has no roles."""
    return {role.strip() for role in (text or "").split(",")} - {""}


class User(models.Model):
    """A user of Better Auth. In an authenticated API request, ``request.user`` is such a user."""

    id = IdField(primary_key=True, db_column=column("user", "id"))
    name = models.TextField(db_column=column("user", "name"))
    email = models.TextField(unique=True, db_column=column("user", "email"))
    email_verified = models.BooleanField(db_column=column("user", "emailVerified"))
    created_at = UTCDateTimeField(db_column=column("user", "createdAt"))
    updated_at = UTCDateTimeField(db_column=column("user", "updatedAt"))
    if "admin" in conf.BETTER_AUTH_PLUGINS:
        role = models.TextField(null=True, db_column=column("user", "role"))  # such as "admin,user"
        banned = models.BooleanField(null=True, db_column=column("user", "banned"))
        ban_reason = models.TextField(null=True, db_column=column("user", "banReason"))
        ban_expires = UTCDateTimeField(null=True, db_column=column("user", "banExpires"))
    # This field is not named "is_anonymous", because that name has another meaning in Django: nobody signed
    # in.
    if "anonymous" in conf.BETTER_AUTH_PLUGINS:
        signed_up_anonymously = models.BooleanField(null=True, db_column=column("user", "isAnonymous"))
    if "two-factor" in conf.BETTER_AUTH_PLUGINS:
        two_factor_enabled = models.BooleanField(null=True, db_column=column("user", "twoFactorEnabled"))

    # Django and DRF read these. They are constants, because only an accepted credential sets
    # ``request.user``.
    is_authenticated = True
    is_anonymous = False
    is_active = True

    class Meta:
        managed = False
        db_table = table("user")
        default_permissions = ["view"]  # only Better Auth adds, changes or deletes users
        permissions = [("revoke_all_sessions", "Can revoke all sessions of a user")]

    def __str__(self) -> str:
        return self.email

    @property
    def roles(self) -> set[str]:
        """The roles of the admin() plugin, such as ``{"admin", "user"}``."""
        return split_roles(self.role)

    @property
    def is_banned(self) -> bool:
        """Whether the user is banned now. NULL means no, and ``banned`` stays set after ``banExpires``."""
        if "admin" not in conf.BETTER_AUTH_PLUGINS or not self.banned:
            return False
        return self.ban_expires is None or bool(self.ban_expires > timezone.now())


class Session(models.Model):
    """One sign-in on one device. A sign-out deletes the row. The row of an expired session stays."""

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
    if HAS_ORGANIZATIONS:  # the user's choice, not a proof of membership
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
        """Returns the queryset of the session with this token.

        The token is not a field of the model, so that nothing can read or show it. PostgreSQL only compares
        it.
        """
        return cls.objects.filter(lookups.Exact(Col(cls._meta.db_table, SESSION_TOKEN), token))


SESSION_TOKEN: "models.TextField[str, str]" = models.TextField()
SESSION_TOKEN.set_attributes_from_name(column("session", "token"))


class SigningKey(models.Model):
    """A public key of Better Auth's jwt() plugin. Better Auth keeps the rows of expired keys."""

    kid = IdField(primary_key=True, db_column=column("jwks", "id"))
    public_key = models.TextField(db_column=column("jwks", "publicKey"))  # a JWK as JSON, without kid and alg
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


if HAS_ORGANIZATIONS:

    class Member(models.Model):
        """The membership of a user in an organization. Better Auth deletes the row if the membership ends.

        We do not read the table ``organization``: a user is a member only of organizations that exist.
        """

        id = IdField(primary_key=True, db_column=column("member", "id"))
        user = models.ForeignKey(
            User, models.DO_NOTHING, db_column=column("member", "userId"), related_name="memberships"
        )
        organization_id = IdField(db_column=column("member", "organizationId"))
        role = models.TextField(db_column=column("member", "role"))  # such as "owner" or "admin,member"

        class Meta:
            managed = False
            db_table = table("member")
            default_permissions = ()  # not in the admin

        def __str__(self) -> str:
            return str(self.id)

        @property
        def roles(self) -> set[str]:
            return split_roles(self.role)


if "oauth-provider" in conf.BETTER_AUTH_PLUGINS:  # the mcp() plugin is this plugin, so it has the same id

    class OAuthClient(models.Model):
        """A program that acts for users, such as an MCP client. ``id``: its ``client_id``."""

        id = models.TextField(primary_key=True, db_column=column("oauthClient", "clientId"))
        disabled = models.BooleanField(null=True, db_column=column("oauthClient", "disabled"))
        skip_consent = models.BooleanField(null=True, db_column=column("oauthClient", "skipConsent"))

        class Meta:
            managed = False
            db_table = table("oauthClient")
            default_permissions = ()  # not in the admin

        def __str__(self) -> str:
            return self.id

    class OAuthConsent(models.Model):
        """A user has allowed a client to act for them. Better Auth deletes the row if the user revokes it."""

        id = IdField(primary_key=True, db_column=column("oauthConsent", "id"))
        user = models.ForeignKey(
            User, models.DO_NOTHING, db_column=column("oauthConsent", "userId"), related_name="+", null=True
        )
        client_id = models.TextField(db_column=column("oauthConsent", "clientId"))

        class Meta:
            managed = False
            db_table = table("oauthConsent")
            default_permissions = ()  # not in the admin

        def __str__(self) -> str:
            return str(self.id)

    class OAuthAccessToken(models.Model):
        """An opaque access token. The column ``token`` has its hash, and is no field of the model.

        A sign-out sets ``revoked``, and deletes ``sessionId``.
        """

        id = IdField(primary_key=True, db_column=column("oauthAccessToken", "id"))
        client_id = models.TextField(db_column=column("oauthAccessToken", "clientId"))
        user_id = IdField(null=True, db_column=column("oauthAccessToken", "userId"))
        session_id = IdField(null=True, db_column=column("oauthAccessToken", "sessionId"))
        resources = StringListField(null=True, db_column=column("oauthAccessToken", "resources"))
        scopes = StringListField(db_column=column("oauthAccessToken", "scopes"))
        expires_at = UTCDateTimeField(db_column=column("oauthAccessToken", "expiresAt"))
        revoked = UTCDateTimeField(null=True, db_column=column("oauthAccessToken", "revoked"))
        # The key that a client must prove to have, as JSON.
        confirmation = models.TextField(null=True, db_column=column("oauthAccessToken", "confirmation"))

        class Meta:
            managed = False
            db_table = table("oauthAccessToken")
            default_permissions = ()  # not in the admin

        def __str__(self) -> str:
            return str(self.id)

        @classmethod
        def with_hash(cls, token_hash: str) -> "models.QuerySet[OAuthAccessToken]":
            return cls._default_manager.filter(lookups.Exact(Col(cls._meta.db_table, TOKEN_HASH), token_hash))

    TOKEN_HASH: "models.TextField[str, str]" = models.TextField()
    TOKEN_HASH.set_attributes_from_name(column("oauthAccessToken", "token"))
