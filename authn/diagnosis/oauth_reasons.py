"""The reasons that only OAuth access tokens have, and what else to do about the other reasons."""

from authn.diagnosis.reason import Reason

RECONNECT = "Disconnect the client and connect it again."

# The reasons are in the order in which a request is checked.
OAUTH_REASONS: dict[str, Reason] = {
    "not_an_access_token": Reason(
        "header",
        "The token is not an OAuth access token: it is a token of the jwt() plugin for the chat, or an id "
        "token.",
        "Let the client get an access token from Better Auth's mcp() plugin. The challenge of the 401 names "
        "the metadata document, which names Better Auth.",
    ),
    "other_audience": Reason(
        "audience",
        "The access token is for this resource and for another one too (aud).",
        "Let the client ask for a token with one resource. Otherwise, the other API could use it here.",
    ),
    "no_resource": Reason(
        "audience",
        "The opaque access token is issued for no resource, so every API would accept it.",
        "Let the client send the parameter resource, as MCP requires. For clients that cannot, set "
        "BETTER_AUTH_OAUTH_REQUIRE_RESOURCE=False.",
    ),
    "missing_client_id": Reason(
        "claims",
        "The access token names no client (client_id, azp).",
        "Let Better Auth issue it: its customAccessTokenClaims must not remove these claims.",
    ),
    "client_id": Reason(
        "claims",
        "The access token's client_id is not a client's id, or its azp is another one.",
        "Let Better Auth issue it: its customAccessTokenClaims must not change these claims.",
    ),
    "scope": Reason(
        "claims",
        "The access token's scope is not a list of scopes that are separated by spaces.",
        "Let Better Auth issue it: its customAccessTokenClaims must not change this claim.",
    ),
    "jti": Reason(
        "claims",
        "The access token's jti is not an id.",
        "Let Better Auth issue it: its customAccessTokenClaims must not change this claim.",
    ),
    "sender_constrained": Reason(
        "claims",
        "Only a request with a proof of the client's key may use the access token (cnf, DPoP), and we check "
        "no proofs.",
        "Remove dpopBoundAccessTokensRequired from Better Auth's resource, or dpop_bound_access_tokens from "
        "the client.",
    ),
    "no_user": Reason(
        "claims",
        "The access token is for no user: the client got it for itself (grant client_credentials).",
        "Let the client use the grant authorization_code. It asks a user for consent.",
    ),
    "unknown_access_token": Reason(
        "token",
        "This is not a JWT, and Better Auth has no access token with this hash.",
        f"{RECONNECT} If it happens to all clients, remove Better Auth's own storeTokens.hash, and set "
        "BETTER_AUTH_OAUTH_TOKEN_PREFIX to its prefix.opaqueAccessToken.",
    ),
    "revoked": Reason(
        "token",
        "The opaque access token is revoked: the client revoked it, or its user has signed out.",
        RECONNECT,
    ),
    "client_disabled": Reason(
        "client",
        "The client is disabled in Better Auth, or it has been deleted.",
        "Enable it in Better Auth, or connect the client again.",
    ),
    "consent_revoked": Reason(
        "consent",
        "The user has no consent for this client: they have revoked it.",
        f"{RECONNECT} For a client that never asks for consent, set skipConsent in Better Auth.",
    ),
    "offline_token": Reason(
        "session",
        "The access token names no session: the client refreshed it after the user had signed out.",
        f"{RECONNECT} To let clients act after a sign-out, set BETTER_AUTH_OAUTH_OFFLINE_ACCESS=True. They "
        "also need the scope offline_access.",
    ),
    "signed_out": Reason(
        "session",
        "The session in which the user allowed the client has ended.",
        f"{RECONNECT} To let clients act after a sign-out, set BETTER_AUTH_OAUTH_OFFLINE_ACCESS=True. They "
        "also need the scope offline_access.",
    ),
    "insufficient_scope": Reason(
        "",
        "The access token is accepted, but it does not have a scope that the request needs.",
        "The client asks the user for the scope that the challenge of the 403 names. Better Auth's option "
        "scopes must list it.",
    ),
}

# What to do about an access token with one of the other reasons.
REMEDIES = {
    "issuer": "If it is your Better Auth, set BETTER_AUTH_OAUTH_ISSUER to the token's iss. Every character "
    "counts.",
    "audience": "Set the mcp() plugin's option resource to the URL of the endpoint. Every character counts.",
    "expired": "Let the client refresh it. It needs the scope offline_access for that.",
    "lifetime": "Shorten the mcp() plugin's accessTokenExpiresIn, or raise "
    "BETTER_AUTH_MAX_TOKEN_LIFETIME_SECONDS.",
    "subject": "Let Better Auth issue it: its customAccessTokenClaims must not change sub.",
    "sid": "Let Better Auth issue it: its customAccessTokenClaims must not change sid.",
    "user_not_found": "Check whether the account was deleted. If it happens to all users, set DATABASE_URL "
    "to Better Auth's database.",
    "malformed": "Send the access token complete and unchanged.",
}
