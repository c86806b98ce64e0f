"""Error reports, such as Django mails to ADMINS: what broke and where, and nothing about whom it broke for.

Django shows the request, the settings and every frame's variables, but for those that look like secrets by
their name. Here they are somebody's conversation, under any name, and the address of Redis has its password
in it. A request's id leads from a report to its line in the log.
"""

from collections.abc import ItemsView
from types import FrameType, TracebackType
from typing import Any

from django.http import HttpRequest
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter


class Reporter(ExceptionReporter):
    def __init__(
        self,
        request: HttpRequest | None,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | str | None,
        tb: TracebackType | None,
        is_email: bool = False,
    ) -> None:
        super().__init__(None, exc_type, exc_value, tb, is_email)  # type: ignore[arg-type]


class Filter(SafeExceptionReporterFilter):
    def get_traceback_frame_variables(self, request: Any, tb_frame: FrameType) -> ItemsView[str, Any]:
        return {}.items()

    def get_safe_settings(self) -> dict[str, Any]:
        return {}
