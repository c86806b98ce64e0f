"""Answers that the event loop gives when the sync part of a request is done.

That part (middleware, authentication, the view) runs in one of a few threads. What a ChatKit server
does is async and may take a while: waiting for it in the thread would be one thread fewer for all
others, and once all threads waited, a server that calls the database could never be answered.
"""

from collections.abc import Awaitable, Callable

from asgiref.sync import async_to_sync
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

Work = Callable[[], Awaitable[HttpResponseBase]]


class Later(HttpResponseBase):
    """Stands for the answer while the middleware looks at it. The handler awaits ``answer``."""

    streaming = True  # so that no middleware asks for its content

    def __init__(self, work: Work) -> None:
        super().__init__()
        del self.headers["Content-Type"]
        # So that no compressor takes this for what it is to compress. It is not among what is ``dressed``.
        self.headers["Content-Encoding"] = "identity"
        self._work = work
        self.when_answered: Callable[[int], None] = lambda status_code: None

    async def answer(self) -> HttpResponseBase:
        """Once: the work is let go of, and what was sent with it; a stream may last for minutes."""
        work, self._work = self._work(), _is_over
        status_code = 500  # what the handler makes of whatever is raised
        try:
            response = self.dressed(await work)
            status_code = response.status_code
            return response
        finally:
            self.when_answered(status_code)

    def dressed(self, response: HttpResponseBase) -> HttpResponseBase:
        """With the headers and cookies that middleware has put on this one."""
        for name, value in self.items():
            if name == "Vary":
                patch_vary_headers(response, [part.strip() for part in value.split(",")])
            elif name != "Content-Encoding":
                response.headers.setdefault(name, value)
        response.cookies.update(self.cookies)
        return response


async def _is_over() -> HttpResponseBase:
    raise RuntimeError("It was answered before")


def later(request: HttpRequest, work: Work) -> HttpResponseBase:
    """``Later`` where the handler asks for it; elsewhere (Django's own, its test client) the answer."""
    return Later(work) if getattr(request, "answers_later", False) else async_to_sync(work)()
