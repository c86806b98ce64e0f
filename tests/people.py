"""People who sign up at a real Better Auth."""

import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx2
import jwt

PASSWORD = "correct horse battery staple"


@dataclass
class BetterAuth:
    """A running Better Auth. ``origin`` is where it listens."""

    origin: str
    browsers: list[httpx2.Client] = field(default_factory=list, repr=False)

    def sign_up(self, name: str = "Ada Lovelace", email: str = "") -> "Person":
        person = Person(self, name, email or f"{uuid.uuid4().hex}@example.com", self._browser())
        answer = person.post("sign-up/email", name=name, email=person.email, password=PASSWORD)
        person.user_id = answer["user"]["id"]
        return person

    def sign_in(self, email: str) -> "Person":
        person = Person(self, "", email, self._browser())
        answer = person.post("sign-in/email", email=email, password=PASSWORD)
        person.name, person.user_id = answer["user"]["name"], answer["user"]["id"]
        return person

    def _browser(self) -> httpx2.Client:
        address, headers = f"{self.origin}/api/auth/", {"Origin": self.origin}
        self.browsers.append(httpx2.Client(base_url=address, headers=headers, timeout=20, verify=False))
        return self.browsers[-1]

    def close(self) -> None:
        for browser in self.browsers:
            browser.close()


@dataclass
class Person:
    """A person at one browser: a session of their own."""

    auth: BetterAuth
    name: str
    email: str
    browser: httpx2.Client = field(repr=False)
    user_id: str = ""

    def token(self) -> str:
        """A fresh JWT, as the frontend gets it."""
        answer = self.browser.get("token")
        answer.raise_for_status()
        return str(answer.json()["token"])

    @property
    def session_id(self) -> str:
        return str(jwt.decode(self.token(), options={"verify_signature": False})["sid"])

    @property
    def cookie(self) -> str:
        """The session cookie's value, percent-encoded as the browser has it."""
        return next(value for name, value in self.browser.cookies.items() if name.endswith("session_token"))

    @property
    def session_token(self) -> str:
        return self.cookie.partition(".")[0]

    def sign_out(self) -> None:
        self.post("sign-out")

    def change_email(self, email: str) -> None:
        self.post("change-email", newEmail=email)
        self.email = email

    def post(self, path: str, **body: Any) -> Any:
        answer = self.browser.post(path, json=body)
        answer.raise_for_status()
        return answer.json()
