"""Like the official sample: FastAPI and ChatKit with a store in memory, without authentication."""

from fastapi import FastAPI, Request

from benchmarks.peers.chat import answer

app = FastAPI()


@app.post("/support/chatkit")
async def chatkit(request: Request):
    return await answer(request, "everybody")
