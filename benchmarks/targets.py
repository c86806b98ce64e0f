"""What is measured: ours, and what a team could pick in its place."""

import os
import secrets
from dataclasses import dataclass, field

OUR_PRODUCTION = {
    "ENV_FILE": os.devnull,
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "127.0.0.1",
    "SECURE_SSL_REDIRECT": "False",
    "CORS_ALLOWED_ORIGINS": "https://shop.example.com",
    "CHATKIT_SERVER": "benchmarks.servers.ours.Server",
    "SUPPORT_RATE_PER_USER": "1000000/min",  # counted as ever, and never reached
}


@dataclass(frozen=True, slots=True)
class Target:
    """``application``: what uvicorn serves, of our environment or the peers'; a folder is a Node server's.

    ``credential``: a kind of ``credentials.Issuer``'s. ``cases``: those that it can take part in.
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


OURS = Target("ours", "this project", "chatbackend.asgi:application", env=OUR_PRODUCTION, is_ours=True)
BASELINE = Target(
    "bridge_jwt_db",
    "FastAPI, fastapi-better-auth-bridge, and user and session in one statement of asyncpg's",
    "benchmarks.peers.bridge_jwt_db:app",
)
PEERS = [
    BASELINE,
    Target(
        "bridge_jwt",
        "FastAPI and fastapi-better-auth-bridge: the JWT alone, nobody is looked up",
        "benchmarks.peers.bridge_jwt:app",
    ),
    Target(
        "careful",
        "the planned stack without its traps",
        "benchmarks.peers.planned:app",
        credential="es256",
        env={"PEER_CAREFUL": "1"},
    ),
    Target(
        "planned",
        "FastAPI, python-jose and a session of SQLAlchemy's as a dependency",
        "benchmarks.peers.planned:app",
        credential="es256",
    ),
    Target(
        "better_auth",
        "Better Auth's own getSession in Node, by cookie; no ChatKit",
        "benchmarks/peers/better_auth",
        credential="cookie",
        cases=("list",),
        has_chatkit=False,
    ),
    Target(
        "sample",
        "the official sample's shape: FastAPI, ChatKit in memory, nobody is asked who they are",
        "benchmarks.peers.sample:app",
        credential="none",
        cases=("stream", "slow"),
    ),
]
