"""Keeps the data of users out of the error reports that Django mails to ADMINS.

A report contains only the traceback. Django's own report also shows the request, the settings and the
variables of every frame, and hides only those whose name is like that of a secret. But in this project,
variables of any name may contain a conversation, and CACHE_URL may contain a password. The log has each
error, too, with the id of the request.
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
