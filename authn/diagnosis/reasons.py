"""All reasons to refuse a request: for each, the step that fails, its meaning, and a remedy.

The audit log's records hold the reason. ``docs/troubleshooting.md`` has the same table.
"""

from authn.diagnosis.oauth_reasons import OAUTH_REASONS
from authn.diagnosis.reason import Reason

# The reasons are in the order in which a request is checked.
REASONS: dict[str, Reason] = {
    "no_credentials": Reason(
        "form",
        "The request has no Authorization: Bearer header, and no session cookie where those are accepted.",
        "Send the token of authClient.token(), and check that no proxy removes the header. If the cookie has "
        "another name, set BETTER_AUTH_COOKIE_NAME. With useSecureCookies: false, set "
        "BETTER_AUTH_SECURE_COOKIES=False.",
    ),
    "too_many_attempts": Reason(
        "",
        "Too many attempts from this IP address, or with this token, were refused. Further attempts are not "
        "logged.",
        "Look at the records before this one. If all clients seem to have one IP address, set NUM_PROXIES.",
    ),
    "two_credentials": Reason(
        "form",
        "The request has more than one credential: two tokens, or a token and a cookie.",
        'Send one. A page that sends a token must fetch with credentials: "omit".',
    ),
    "several_session_cookies": Reason(
        "form",
        "The request has more than one valid session cookie, or more than four session cookies.",
        "Sign out and in again, or delete the site's cookies: an old cookie of the host may remain beside "
        "the new cookie of crossSubDomainCookies. If it happens again, look for a sub-domain that sets the "
        "cookie.",
    ),
    "origin": Reason(
        "form",
        "A session cookie came without the Origin of an allowed page.",
        "Add the page's origin to CORS_ALLOWED_ORIGINS.",
    ),
    "too_long": Reason(
        "form",
        "The token is longer than 8192 characters.",
        "Put fewer claims into it with the jwt() plugin's definePayload. By default it has the whole user, "
        "with the picture.",
    ),
    "malformed": Reason(
        "",
        "This is not a JWT as Better Auth makes it.",
        "Send the token of authClient.token(), complete and unchanged: three parts separated by two dots.",
    ),
    "type": Reason(
        "header",
        "The token is of another type (typ): an access token, a logout token, or a session cache.",
        "Send the token of authClient.token().",
    ),
    "critical_header": Reason(
        "header",
        "The token asks for an extension of JWS (crit, b64) that is not supported.",
        "Better Auth uses no such extension: send the token of authClient.token().",
    ),
    "malformed_kid": Reason(
        "header",
        "The token names no key (kid), or its kid is not an id that Better Auth makes.",
        "Send the token of authClient.token(). A token signed with a secret needs BETTER_AUTH_KEYS=secret.",
    ),
    "keys_unavailable": Reason(
        "key",
        "The keys could not be loaded in time, so the token cannot be verified.",
        "Run manage.py betterauth doctor. It says why.",
    ),
    "unknown_kid": Reason(
        "key",
        "We do not have the key that signed the token. It belongs to another Better Auth, or its row was "
        "deleted.",
        "Make DATABASE_URL and BETTER_AUTH_URL point to the Better Auth that made the token. If its keys "
        "were replaced, get a new token.",
    ),
    "algorithm": Reason(
        "algorithm",
        "The token's algorithm (alg) is not its key's algorithm.",
        "Send the token unchanged. If an RSA key has no alg of its own, put the right one first in "
        "BETTER_AUTH_ALGORITHMS.",
    ),
    "no_secret": Reason(
        "signature",
        "There is no secret to verify a session token's signature with.",
        "Set BETTER_AUTH_SECRET to Better Auth's own secret.",
    ),
    "signature": Reason(
        "signature",
        "The signature is wrong: the token was changed or forged, or it was signed with another secret.",
        "Get a new token. With BETTER_AUTH_KEYS=secret, set BETTER_AUTH_SECRET to the secret that signs the "
        "tokens.",
    ),
    **{
        f"missing_{claim}": Reason("payload", f"The token has no {claim}.", remedy)
        for claim, remedy in {
            "exp": "Let Better Auth set it, with the jwt() plugin's expirationTime, such as 15m.",
            "iat": "Let Better Auth set it: definePayload must not return it empty.",
            "iss": "Let Better Auth set it: definePayload must not return it empty.",
            "aud": "Let Better Auth set it: definePayload must not return it empty.",
            "sub": "Let Better Auth set it: getSubject must return the user's id.",
            "email": "Make definePayload return it: { email: user.email, sid: session.id }.",
            "jti": "Let Better Auth issue the access token.",
            "scope": "Let Better Auth issue the access token.",
        }.items()
    },
    "not_yet_valid": Reason(
        "times",
        "The token is not valid yet: Better Auth's clock is ahead of ours.",
        "Synchronize both clocks with NTP. BETTER_AUTH_LEEWAY_SECONDS allows for a small difference.",
    ),
    "expired": Reason(
        "times",
        "The token has expired.",
        "Get a new one with authClient.token(). If every new token has expired, expirationTime is a number, "
        "and Better Auth reads a number as a date: write 15m.",
    ),
    "issuer": Reason(
        "issuer",
        "The token's issuer (iss) is not the expected one.",
        "If it is your Better Auth, set BETTER_AUTH_ISSUER to the token's iss. Every character counts.",
    ),
    "audience": Reason(
        "audience",
        "The token's audience (aud) is not the expected one.",
        "If the token is for this backend, set BETTER_AUTH_AUDIENCE to its aud. Every character counts.",
    ),
    "subject": Reason(
        "claims",
        "The token's sub is not a user id.",
        "Make the jwt() plugin's getSubject return the user's id, or remove getSubject.",
    ),
    "other_token_kind": Reason(
        "claims",
        "The token comes from Better Auth's OAuth provider (azp, client_id, scope), for another service.",
        "Send the token of authClient.token().",
    ),
    "email": Reason(
        "claims",
        "The token's email is not an email address.",
        "Make definePayload return user.email unchanged.",
    ),
    "sid": Reason(
        "claims",
        "The token's sid is not a session id.",
        "Make definePayload return session.id as sid, and never session.token.",
    ),
    "malformed_date": Reason(
        "claims",
        "One of the token's dates is not a number of seconds.",
        "Let Better Auth set iat and exp.",
    ),
    "lifetime": Reason(
        "lifetime",
        "The token's lifetime is longer than allowed, or it ends before it begins.",
        "Shorten the jwt() plugin's expirationTime (15m), or raise BETTER_AUTH_MAX_TOKEN_LIFETIME_SECONDS.",
    ),
    "key_retired": Reason(
        "lifetime",
        "The token was signed after its key had expired. Better Auth never does that.",
        "Get a new token. If the error stays, the two clocks differ, or the key was stolen: replace it.",
    ),
    "missing_sid": Reason(
        "sid",
        "The token names no session (sid), and BETTER_AUTH_REQUIRE_SID requires it.",
        "Make definePayload return sid: session.id.",
    ),
    "database_unavailable": Reason(
        "user",
        "The database does not answer, so the user cannot be looked up.",
        "Run manage.py betterauth doctor. It says why.",
    ),
    "sessions_unavailable": Reason(
        "session",
        "The Redis with the sessions does not answer.",
        "Run manage.py betterauth doctor. It says why.",
    ),
    "unknown_token": Reason(
        "session",
        "No session has this token. It is not signed, so it may never have been Better Auth's.",
        "Send the signed token. The bearer() plugin returns it in the header set-auth-token.",
    ),
    "user_not_found": Reason(
        "user",
        "No user has the token's email, and no user's id is its sub.",
        "Check whether the account was deleted. If it happens to all users, set DATABASE_URL to Better "
        "Auth's database, and make getSubject return the user's id.",
    ),
    "address_changed": Reason(
        "user",
        "The user with the token's sub now has another email.",
        "Get a new token: a page does so by itself after a 401. If the error stays, Better Auth's "
        "cookieCache still has the old email.",
    ),
    "subject_mismatch": Reason(
        "user",
        "The user with the token's email has another id than the token's sub. The email may belong to "
        "somebody else now.",
        "If the email has changed hands, do nothing. Otherwise make getSubject return the user's id.",
    ),
    "user_banned": Reason(
        "ban",
        "The user is banned.",
        "Unban them in Better Auth, or wait until banExpires.",
    ),
    "session_ended": Reason(
        "session",
        "The token's session has ended, and its user has another active session.",
        "Get a new token: a page does so by itself after a 401. If it happens to all users, make "
        "definePayload return session.id as sid.",
    ),
    "no_active_session": Reason(
        "session",
        "The user has no active session, or the session of this cookie or session token has ended.",
        "Sign in again. If it happens to all users, the sessions may be in another place: run manage.py "
        "betterauth doctor.",
    ),
    **OAUTH_REASONS,
    "error": Reason(
        "",
        "The database does not match the settings, or there was another error on the server.",
        "Run manage.py betterauth doctor. The server's log has the error.",
    ),
}
