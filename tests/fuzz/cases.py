"""Hostile requests: a ``Random`` chooses their headers, tokens, paths and bodies.

Hypothesis passes its own ``Random``, with which it searches and shrinks. The long run uses Python's, which is
faster.
"""

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from support.openapi import operations
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.signer import Signer, part
from tests.fixtures.environment import PAGE_ORIGIN

T = TypeVar("T")
Headers = list[tuple[bytes, bytes]]

MARK = "qqzzq"  # part of all generated text, and of no text of ours
NUMBERS = "0 -0 1 -1 1.5 1e400 -1e400 1e-400 NaN Infinity -Infinity 253402300800 9223372036854775808 1e18"
STRANGE = [
    "",
    "\0",
    "\ud800",
    "\u202e",
    "é",
    "💍",
    "\x1b[2J",
    "' OR 1=1 --",
    "../../etc/passwd",
    "%00",
    "{{7*7}}",
]
MEMBERS = "alg kid typ crit b64 jwk jku x5u x5c x5t zip cty enc"
CLAIMS = "exp iat nbf iss aud sub email sid jti azp scope client_id name"
NAMES = (
    "Authorization Cookie Origin Host Content-Type Content-Length Content-Encoding Accept User-Agent Range "
    "X-Request-ID X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto Transfer-Encoding If-None-Match "
    "X-HTTP-Method-Override Access-Control-Request-Method X-Any"
)
PATHS = [
    "/support/attachments",
    "/support/attachments/{}",
    "/support/attachments/{}/upload",
    "/support/attachments/{}/content",
    "/support/health",
    "/support/{}",
]
FORM = (
    b"--b\r\nContent-Disposition: form-data; name=%s; filename=%s\r\nContent-Type: %s\r\n\r\n%s\r\n--b--\r\n"
)


@dataclass
class Case:
    """``secrets``: what may be in no answer and in no line of the log."""

    method: str = "POST"
    path: str = "/support/chatkit"
    query: bytes = b""
    headers: Headers = field(default_factory=list)
    body: list[bytes] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)


class Cases:
    """``person`` is signed in, ``signer`` has a listed key, ``thread_id`` is a thread of the person."""

    def __init__(self, person: Person, signer: Signer, thread_id: str) -> None:
        self.person, self.signer, self.thread_id = person, signer, thread_id
        self.cookie, self.sid = person.cookie, person.session_id

    def one(self, random: Random) -> Case:
        return CaseBuilder(self, random).case()


class CaseBuilder:
    """Builds one case."""

    def __init__(self, given: Cases, random: Random) -> None:
        self.given, self.random = given, random
        self.made = Case()

    def case(self) -> Case:
        kinds = (
            [self.hostile_token] * 12
            + [self.hostile_headers] * 4
            + [self.hostile_body] * 2
            + [self.other_view]
        )
        self.pick(kinds)()
        if self.sometimes(8):
            self.made.headers += [self.header() for _ in range(self.upto(3))]
        return self.made

    # --- Kinds ------------------------------------------------------------------------------------

    def hostile_token(self) -> None:
        self.bearer(self.edited(self.token()) if self.sometimes(3) else self.token())
        self.ask(json.dumps(operations.example("threads.list")).encode())

    def hostile_headers(self) -> None:
        self.made.method = self.pick(["POST", "POST", "GET", "PUT", "OPTIONS", "HEAD", "TRACE", MARK])
        for _ in range(1 + self.upto(4)):
            self.made.headers.append(self.header())
        self.ask(b"{}")

    def hostile_body(self) -> None:
        self.bearer(self.good_token())
        self.ask(self.body())

    def other_view(self) -> None:
        if self.sometimes(2):
            self.bearer(self.good_token())
        self.made.method = self.pick(["GET", "POST", "PUT", "HEAD", "DELETE"])
        path = self.pick(PATHS).format(self.pick([self.text(), operations.ATTACHMENT_ID]))
        self.made.path = path.encode(errors="replace").decode()  # as an ASGI server decodes it
        self.made.query = self.pick([b"", b"signature=" + self.raw(), self.raw()])
        self.made.headers.append(
            (b"content-type", self.pick([b"multipart/form-data; boundary=b", self.raw()]))
        )
        self.made.body = [
            self.pick(
                [FORM % (self.pick([b"file", self.raw()]), *(self.raw() for _ in range(3))), self.raw()]
            )
        ]

    # --- Tokens -----------------------------------------------------------------------------------

    def good_token(self) -> str:
        return self.given.signer.raw(self.claims())

    def claims(self) -> dict[str, Any]:
        person = self.given.person
        return self.given.signer.claims(sub=person.user_id, email=person.email, sid=self.given.sid)

    def token(self) -> str:
        signer = self.given.signer
        match self.upto(9):
            case 0:
                return ".".join(self.text() for _ in range(self.upto(6)))
            case 1:
                return ".".join(part(self.raw()) for _ in range(self.upto(6)))
            case 2:
                return self.edited(self.given.cookie)
            case 3:  # a valid signature of almost valid JSON
                return signer.raw(self.edited(json.dumps(self.claims())).encode(errors="replace"))
            case 4:
                return signer.raw(
                    self.claims(), self.edited(json.dumps(signer.header())).encode(errors="replace")
                )
            case 5:
                return signer.raw(self.claims(), self.changed(signer.header(), MEMBERS.split()))
            case _:
                return signer.raw(self.changed(self.claims(), CLAIMS.split()))

    def changed(self, members: dict[str, Any], names: list[str]) -> bytes:
        """As JSON, with added members, or with members that appear twice."""
        others = [
            f"{json.dumps(self.pick([*names, self.text()]))}: {self.json()}" for _ in range(1 + self.upto(2))
        ]
        return f"{json.dumps(members)[:-1]}, {', '.join(others)}}}".encode(errors="replace")

    # --- Bodies -----------------------------------------------------------------------------------

    def body(self) -> bytes:
        operation = self.pick(list(operations.OPERATIONS))
        request = json.dumps(operations.example(operation)).replace(
            operations.THREAD_ID, self.given.thread_id
        )
        if self.sometimes(8):
            return self.raw()
        if self.sometimes(3):
            return self.edited(request).encode(errors="surrogatepass")
        changed = self.replaced(json.loads(request))
        # Replace the marks by JSON for which Python has no value.
        return json.dumps(changed).replace(f'"{MARK}#', "").replace('#"', "").encode()

    def replaced(self, value: Any) -> Any:
        """A copy in which one value is replaced."""
        inner = (
            list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
        )
        if not inner or self.sometimes(6):
            return (
                f"{MARK}#{self.json()}#".replace('"', "'")
                if self.sometimes(2)
                else self.pick([self.text(), None, [], {}, 0])
            )
        key = self.pick(list(inner))
        copy = value.copy()
        copy[key] = self.replaced(value[key])
        return copy

    # --- Small things -----------------------------------------------------------------------------

    def json(self, depth: int = 2) -> str:
        """The text of a JSON value, or of something that some parsers accept as one."""
        match self.upto(9 if depth else 5):
            case 0 | 1:
                return self.pick(NUMBERS.split())
            case 2:
                return self.pick(["null", "true", "false", "9" * 400, f'"{self.pick(NUMBERS.split())}"'])
            case 3 | 4 | 5:
                return json.dumps(self.text())
            case 6 | 7:
                return f"[{', '.join(self.json(depth - 1) for _ in range(self.upto(3)))}]"
            case _:
                pairs = (f"{json.dumps(self.text())}: {self.json(depth - 1)}" for _ in range(self.upto(3)))
                return f"{{{', '.join(pairs)}}}"

    def header(self) -> tuple[bytes, bytes]:
        name, value = self.pick(NAMES.split()), self.raw()
        match self.upto(5):
            case 0:
                value = b"Bearer " + value
            case 1 if name != "User-Agent":  # the log contains it by design
                value = b"Bearer " + self.edited(self.good_token()).encode(errors="replace")
            case 2 if name != "User-Agent":
                value = f"better-auth.session_token={self.edited(self.given.cookie)}".encode(errors="replace")
            case 3:
                value = self.pick(
                    [PAGE_ORIGIN.encode(), b"gzip", b"chunked", b"99999999999", b"-1", b"bytes=0-"]
                )
        return name.lower().encode(), _sendable(value)

    def text(self) -> str:
        if self.sometimes(40):
            return MARK * 2000
        return MARK + "".join(self.pick(STRANGE) for _ in range(self.upto(2)))

    def raw(self) -> bytes:
        if self.sometimes(3):
            return MARK.encode() + self.random.randbytes(self.upto(12))
        return self.text().encode(errors="surrogatepass")

    def edited(self, text: str) -> str:
        for _ in range(1 + self.upto(2)):
            place, gone = self.upto(len(text)), self.upto(3)
            put = self.pick(["", "", ".", "=", "A", '"', "}", "[", ",", "\\u0000", *STRANGE])
            text = text[:place] + put + text[place + gone :]
        return text

    def bearer(self, token: str) -> None:
        self.made.secrets += [each for each in token.split(".") if len(each) > 40 and MARK not in each]
        scheme = self.pick(["Bearer", "Bearer", "Bearer", "bearer", "Bearer ", "BEARER", "Basic", "Token"])
        value = f"{scheme} {token}".encode(errors="surrogatepass")
        self.made.headers.append((b"authorization", _sendable(value)))

    def ask(self, body: bytes) -> None:
        cut = self.upto(len(body)) if self.sometimes(10) else len(body)
        self.made.body = [body[:cut], body[cut:]]
        self.made.headers.append((b"content-type", b"application/json"))

    def upto(self, most: int) -> int:
        return self.random.randint(0, most)

    def sometimes(self, of: int) -> bool:
        return self.random.randrange(of) == 0

    def pick(self, those: list[T]) -> T:
        return self.random.choice(those)


def _sendable(value: bytes) -> bytes:
    """Without the bytes that no HTTP parser accepts in a header."""
    return value.translate(None, b"\r\n\0")
