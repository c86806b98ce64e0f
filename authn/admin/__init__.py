"""The admin of Better Auth's users and sessions. Staff can look at both, and revoke sessions.

Django imports this package, and it registers both admins. The models have no tokens and no secrets, so no
page can show them.
"""

from authn.admin import sessions, users  # noqa: F401
