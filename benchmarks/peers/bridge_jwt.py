"""FastAPI and fastapi-better-auth-bridge: it verifies the JWT and does not query the database."""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi_better_auth import BetterAuth, JwtVerifier, Session, User

from benchmarks.peers.chat import answer

auth = BetterAuth(verifiers=[JwtVerifier(base_url=os.environ["BETTER_AUTH_URL"])])
app = FastAPI()


@app.post("/support/chatkit")
async def chatkit(request: Request, session: Annotated[Session[User], Depends(auth.current_session())]):
    return await answer(request, session.user.id)
