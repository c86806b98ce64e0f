"""The admin of Better Auth's users and sessions. Staff can view users and sessions, and revoke sessions.

Django imports this package, and the import registers both admins. The models have no fields for tokens and
secrets, so no page can show them.
"""

from authn.admin import sessions, users  # noqa: F401
