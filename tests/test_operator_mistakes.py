"""What an operator or staff may do by mistake, and what then does not happen."""

from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from tests.fixtures.accounts.staff import VIEW, signed_in
from tests.support.admin.test_admin import LIST, a_thread


@pytest.mark.django_db
def test_migrate_leaves_better_auths_own_database_alone(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BETTER_AUTH_DATABASE = "better_auth"
    own = connections["default"].copy("better_auth")
    monkeypatch.setitem(connections.settings, "better_auth", own.settings_dict)

    with pytest.raises(CommandError, match="Better Auth migrates its database itself"):
        call_command("migrate", database="better_auth", verbosity=0)

    call_command("migrate", verbosity=0)  # ours, as ever


@pytest.mark.django_db
@pytest.mark.parametrize("chosen", ["abc", "1' OR '1", "", "9" * 40, "-1"])
def test_a_choice_that_is_none_is_a_400(auth: Any, chosen: str) -> None:
    staff = signed_in(*VIEW, "delete_thread")
    a_thread()

    answer = staff.post(LIST, {"action": "delete_selected", "_selected_action": chosen})

    assert answer.status_code == 400
