"""Every reason for which somebody is not let in: where it stops, what it means, and what to do.

The reasons are those of the audit record. ``docs/troubleshooting.md`` has the same table.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """``step``: of ``authn.diagnosis.explanation.STEPS``; "" where the reason alone does not say it."""

    step: str
    meaning: str
    remedy: str


# In the order in which they are met.
REASONS: dict[str, Reason] = {
    "no_credentials": Reason(
        "form",
        "The request has no Authorization: Bearer header, and no session cookie where those are accepted.",
        "Send the token of authClient.token(); look whether a proxy drops the header. If the cookie has "
        "another name, write BETTER_AUTH_COOKIE_NAME; with useSecureCookies: false, "
        "BETTER_AUTH_SECURE_COOKIES=False.",
    ),
    "too_many_attempts": Reason(
        "",
        "Too many attempts of this address, or with this token, were refused. Those that follow are not "
        "written down.",
        "Look at the records before this one; if everybody has one address, set NUM_PROXIES.",
    ),
    "two_credentials": Reason(
        "form",
        "The request carries more than one credential: two tokens, or a token and a cookie.",
        'Send one. A page that sends a token fetches with credentials: "omit".',
    ),
    "several_session_cookies": Reason(
        "form",
        "More than one session cookie on the request is good, or there are more than four.",
        "Sign out and in again, or delete the site's cookies: an old one of the host may remain beside the "
        "new one of crossSubDomainCookies. If it happens again, look for a sub-domain that sets the cookie.",
    ),
    "origin": Reason(
        "form",
        "A session cookie came without the Origin of a page that may send it.",
        "Name the page in CORS_ALLOWED_ORIGINS.",
    ),
    "too_long": Reason(
        "form",
        "The token is longer than 8192 characters.",
        "Put fewer claims into it with the jwt() plugin's definePayload: by default it has the whole user, "
        "picture "
        "included.",
    ),
    "malformed": Reason(
        "",
        "This is not a JWT as Better Auth makes them.",
        "Send what authClient.token() gives, whole and unchanged: three parts between two dots.",
    ),
    "type": Reason(
        "header",
        "The token is of another kind (typ): an access or logout token, or a session cache.",
        "Send the token of authClient.token().",
    ),
    "critical_header": Reason(
        "header",
        "The token asks for an extension of JWS (crit, b64) that is not supported.",
        "Better Auth sets none: send the token of authClient.token().",
    ),
    "malformed_kid": Reason(
        "header",
        "The token names no key, or one that no Better Auth would make.",
        "Send the token of authClient.token(); one signed with a secret needs BETTER_AUTH_KEYS=secret.",
    ),
    "keys_unavailable": Reason(
        "key",
        "The key could not be read, or not soon enough, so that the token cannot be checked.",
        "manage.py betterauth doctor says why.",
    ),
    "unknown_kid": Reason(
        "key",
        "The key that signed the token is not among ours: it is of another Better Auth, or its row is gone.",
        "Have DATABASE_URL and BETTER_AUTH_URL mean the Better Auth that made the token; get a new token "
        "after its "
        "keys were replaced.",
    ),
    "algorithm": Reason(
        "algorithm",
        "The token names another algorithm than its key has.",
        "Send the token unchanged. For an RSA key without an algorithm of its own, name it first in "
        "BETTER_AUTH_ALGORITHMS.",
    ),
    "no_secret": Reason(
        "signature",
        "There is no secret to check a session token's signature with.",
        "Write Better Auth's own secret in BETTER_AUTH_SECRET.",
    ),
    "signature": Reason(
        "signature",
        "The signature is not of this key: the token was changed or forged, or the secret is another.",
        "Get a new token; with BETTER_AUTH_KEYS=secret write the secret that signs the tokens in "
        "BETTER_AUTH_SECRET.",
    ),
    **{
        f"missing_{claim}": Reason("payload", f"The token has no {claim}.", remedy)
        for claim, remedy in {
            "exp": "Let Better Auth set it: the jwt() plugin's expirationTime, such as 15m.",
            "iat": "Let Better Auth set it: definePayload must not return it empty.",
            "iss": "Let Better Auth set it: definePayload must not return it empty.",
            "aud": "Let Better Auth set it: definePayload must not return it empty.",
            "sub": "Let Better Auth set it: getSubject must return the user's id.",
            "email": "Have definePayload return it: { email: user.email, sid: session.id }.",
        }.items()
    },
    "not_yet_valid": Reason(
        "times",
        "The token is from the future: the clock of Better Auth is ahead of ours.",
        "Set both clocks by NTP; BETTER_AUTH_LEEWAY_SECONDS allows for a small difference.",
    ),
    "expired": Reason(
        "times",
        "The token has expired.",
        "Get a new one: authClient.token(). One that is born expired comes of a number in expirationTime, "
        "which "
        "Better Auth takes for a date: write 15m.",
    ),
    "issuer": Reason(
        "issuer",
        "The token is of another issuer than is expected.",
        "Write what the token says in BETTER_AUTH_ISSUER, if that is your Better Auth: every character "
        "counts.",
    ),
    "audience": Reason(
        "audience",
        "The token is for another audience than is expected.",
        "Write what the token says in BETTER_AUTH_AUDIENCE, if it is meant for this backend: every "
        "character counts.",
    ),
    "subject": Reason(
        "claims",
        "The token's sub is no user's id.",
        "Have the jwt() plugin's getSubject return the user's id, or leave it out.",
    ),
    "other_token_kind": Reason(
        "claims",
        "The token is of Better Auth's OAuth provider (azp, client_id, scope), made for another service.",
        "Send the token of authClient.token().",
    ),
    "email": Reason(
        "claims",
        "The token's email is no address.",
        "Have definePayload return user.email as it is.",
    ),
    "sid": Reason(
        "claims",
        "The token's sid is no session's id.",
        "Have definePayload return session.id as sid, and never session.token.",
    ),
    "malformed_date": Reason(
        "claims",
        "One of the token's dates is no number of seconds.",
        "Let Better Auth set iat and exp.",
    ),
    "lifetime": Reason(
        "lifetime",
        "The token lives longer than is allowed, or ends before it begins.",
        "Shorten the jwt() plugin's expirationTime (15m), or raise BETTER_AUTH_MAX_TOKEN_LIFETIME_SECONDS.",
    ),
    "key_retired": Reason(
        "lifetime",
        "The token was signed after its key had retired, which Better Auth does not do.",
        "Get a new token; if it stays, the two clocks differ or the key is in somebody else's hands: "
        "replace it.",
    ),
    "missing_sid": Reason(
        "sid",
        "The token names no session (sid), and BETTER_AUTH_REQUIRE_SID asks for one.",
        "Have definePayload return sid: session.id.",
    ),
    "database_unavailable": Reason(
        "user",
        "The database does not answer, so that nobody can be looked up.",
        "manage.py betterauth doctor says why.",
    ),
    "sessions_unavailable": Reason(
        "session",
        "The Redis with the sessions does not answer.",
        "manage.py betterauth doctor says why.",
    ),
    "unknown_token": Reason(
        "session",
        "No session has this token, and without a signature nothing says that one ever had.",
        "Send the signed token, which the bearer() plugin gives in the header set-auth-token.",
    ),
    "user_not_found": Reason(
        "user",
        "No user has the token's address, and no user's id is its sub.",
        "Was the account deleted? If it happens to everybody: write the address of Better Auth's database in "
        "DATABASE_URL, and have getSubject return the user's id.",
    ),
    "address_changed": Reason(
        "user",
        "The user with the token's sub now has another address.",
        "Get a new token: a page does so by itself after a 401. If the error stays, Better Auth's "
        "cookieCache still has the old address.",
    ),
    "subject_mismatch": Reason(
        "user",
        "The token's address belongs to somebody else by now: the user with it has another id than its sub.",
        "Nothing, if the address has changed hands; else have getSubject return the user's id.",
    ),
    "user_banned": Reason(
        "ban",
        "The user is banned.",
        "Unban them in Better Auth, or wait until banExpires.",
    ),
    "session_ended": Reason(
        "session",
        "The token's session has ended, and its user has another live session.",
        "Get a new token: a page does so by itself after a 401. If it happens to everybody: sid must be "
        "session.id.",
    ),
    "no_active_session": Reason(
        "session",
        "The user has no live session, or the session of this cookie or session token has ended.",
        "Sign in again. If it happens to everybody: the sessions must be in this database "
        "(manage.py betterauth doctor).",
    ),
    "error": Reason(
        "",
        "The database is not as the settings describe it, or something else broke down.",
        "manage.py betterauth doctor says which; the server's log has the error.",
    ),
}
