"""The stack that was planned at first: FastAPI, python-jose, SQLAlchemy and psycopg2.

The database session is a FastAPI dependency. PEER_CAREFUL=1 avoids its two performance problems: the look-up
runs in a thread, and it releases its connection before the answer begins.
"""

import functools
import os
from datetime import UTC, datetime

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from jose import JWTError, jwt
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker

from benchmarks.peers.chat import answer

BETTER_AUTH_URL = os.environ["BETTER_AUTH_URL"]

engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg2:"))
sessions = sessionmaker(engine)


class Base(DeclarativeBase): ...


class User(Base):
    __tablename__ = "user"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]
    email_verified: Mapped[bool] = mapped_column("emailVerified")
    sessions: Mapped[list["UserSession"]] = relationship()


class UserSession(Base):
    __tablename__ = "session"
    id: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[str]
    expires_at: Mapped[datetime] = mapped_column("expiresAt")
    user_id: Mapped[str] = mapped_column("userId", ForeignKey("user.id"))


@functools.cache
def public_keys():
    keys = httpx.get(f"{BETTER_AUTH_URL}/api/auth/jwks").json()["keys"]
    return {key["kid"]: key for key in keys}


def verified_email(token):
    try:
        key = public_keys()[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, ["ES256"], audience=BETTER_AUTH_URL, issuer=BETTER_AUTH_URL)
        return claims["email"]
    except (JWTError, KeyError) as exc:
        raise HTTPException(401, "Invalid token") from exc


def find_user(db, token):
    user = db.scalars(select(User).where(User.email == verified_email(token))).first()
    if user is None or all(session.expires_at <= datetime.now(UTC) for session in user.sessions):
        raise HTTPException(401, "Not authenticated")
    return user


def get_db():
    db = sessions()
    try:
        yield db
    finally:
        db.close()


bearer = HTTPBearer()
if os.environ.get("PEER_CAREFUL"):

    def current_user(credentials: HTTPAuthorizationCredentials = Depends(bearer)):
        with sessions() as db:
            return find_user(db, credentials.credentials)

else:

    async def current_user(
        credentials: HTTPAuthorizationCredentials = Depends(bearer), db: Session = Depends(get_db)
    ):
        return find_user(db, credentials.credentials)


app = FastAPI()


@app.post("/support/chatkit")
async def chatkit(request: Request, user: User = Depends(current_user)):
    return await answer(request, user.id)
