"""Like bridge_jwt, but it also finds the user and a live session, with one asyncpg statement."""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi_better_auth import BetterAuth, JwtVerifier, Session, User
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.peers.chat import answer

LIVE_USER = text("""
    SELECT u."id" FROM "user" u WHERE u."email" = :email AND EXISTS
        (SELECT FROM "session" s WHERE s."userId" = u."id" AND s."expiresAt" > now())
""")

auth = BetterAuth(verifiers=[JwtVerifier(base_url=os.environ["BETTER_AUTH_URL"])])
engine = create_async_engine(
    os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:"),
    isolation_level="AUTOCOMMIT",  # otherwise each look-up also sends BEGIN and ROLLBACK
    pool_size=10,
    max_overflow=0,
)
app = FastAPI()


async def live_user(session: Annotated[Session[User], Depends(auth.current_session())]) -> str:
    async with engine.connect() as connection:
        user_id = await connection.scalar(LIVE_USER, {"email": session.user.email})
    if user_id is None:
        raise HTTPException(401, "Not authenticated")
    return user_id


@app.post("/support/chatkit")
async def chatkit(request: Request, user_id: Annotated[str, Depends(live_user)]):
    return await answer(request, user_id)
