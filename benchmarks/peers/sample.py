"""The official sample's shape: FastAPI and ChatKit with its store in memory. It asks nobody who they are."""

from fastapi import FastAPI, Request

from benchmarks.peers.chat import answer

app = FastAPI()


@app.post("/support/chatkit")
async def chatkit(request: Request):
    return await answer(request, "everybody")
