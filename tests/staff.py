"""People with an account in the admin, and exactly the rights that a test gives them."""

from django.contrib.auth.models import Permission
from django.contrib.auth.models import User as Staff
from django.test import Client

VIEW = ["view_user", "view_session", "view_thread"]


def signed_in(*rights: str, name: str = "staff", **options: bool) -> Client:
    """A browser of theirs. ``rights``: codenames of permissions of our two apps; options are ``Client``'s."""
    member = Staff.objects.create_user(name, is_staff=True)
    granted = Permission.objects.filter(content_type__app_label__in=["authn", "support"], codename__in=rights)
    assert granted.count() == len(rights), rights
    member.user_permissions.set(granted)
    client = Client(**options)
    client.force_login(member)
    return client
