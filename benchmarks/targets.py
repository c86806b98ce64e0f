"""The measured servers: ours, and the alternatives that a team could choose."""

import os
import secrets
from dataclasses import dataclass, field, replace

OUR_PRODUCTION = {
    "ENV_FILE": os.devnull,
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "127.0.0.1",
    "SECURE_SSL_REDIRECT": "False",
    "CORS_ALLOWED_ORIGINS": "https://shop.example.com",
    "CHATKIT_SERVER": "benchmarks.servers.ours.Server",
    "SUPPORT_RATE_PER_USER": "1000000/min",  # counted as usual, but never reached
}


CACHED_PARSER = "+parser"  # the end of the name of a peer that has our own trick, too


@dataclass(frozen=True, slots=True)
class Target:
    """``application``: an ASGI application for uvicorn, or the folder of a Node server.

    ``credential``: a kind of ``credentials.Issuer.credentials``. ``cases``: those that the target supports.
    ``is_pooled``: whether PgBouncer is in front of PostgreSQL.
    """

    name: str
    about: str
    application: str
    credential: str = "eddsa"
    cases: tuple[str, ...] = ("list", "stream", "slow")
    env: dict[str, str] = field(default_factory=dict)
    is_ours: bool = False
    has_chatkit: bool = True
    workers: int = 1
    cores: int = 1
    is_pooled: bool = False


OURS = Target("ours", "this project", "chatbackend.asgi:application", env=OUR_PRODUCTION, is_ours=True)
BASELINE = Target(
    "bridge_jwt_db",
    "FastAPI and fastapi-better-auth-bridge; one asyncpg statement finds the user and a live session",
    "benchmarks.peers.bridge_jwt_db:app",
)
PEERS = [
    BASELINE,
    Target(
        "bridge_jwt",
        "FastAPI and fastapi-better-auth-bridge: only the JWT is verified, without a database query",
        "benchmarks.peers.bridge_jwt:app",
    ),
    Target(
        "careful",
        "`planned` without its known performance problems",
        "benchmarks.peers.planned:app",
        credential="es256",
        env={"PEER_CAREFUL": "1"},
    ),
    Target(
        "planned",
        "FastAPI with python-jose, and an SQLAlchemy session as a dependency",
        "benchmarks.peers.planned:app",
        credential="es256",
    ),
    Target(
        "better_auth",
        "Better Auth's getSession in Node, with the cookie; without ChatKit",
        "benchmarks/peers/better_auth",
        credential="cookie",
        cases=("list",),
        has_chatkit=False,
    ),
    Target(
        "sample",
        "like the official sample: FastAPI, ChatKit with a store in memory, no authentication",
        "benchmarks.peers.sample:app",
        credential="none",
        cases=("stream", "slow"),
    ),
]


def _with_cached_parser(target: Target) -> Target:
    return replace(
        target,
        name=target.name + CACHED_PARSER,
        about=f"`{target.name}`, but it keeps ChatKit's request parser between requests, as we do",
        env=target.env | {"BENCHMARK_CACHED_PARSER": "1"},
    )


ALL = {
    target.name: target
    for target in [OURS, *PEERS, *(_with_cached_parser(peer) for peer in PEERS if peer.has_chatkit)]
}
