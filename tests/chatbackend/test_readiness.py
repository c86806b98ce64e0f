"""A look at a database that is too slow, in a process that goes on taking connections meanwhile."""

from tests.fixtures.servers.forkserver import python

LOOKS = """
import asyncio, socket, threading
import django, uvloop

django.setup()
from chatbackend.web import readiness

readiness.TIMEOUT_SECONDS = 0.1
over = threading.Event()

def come_and_go(address):
    while not over.is_set():
        socket.create_connection(address).close()

async def main():
    listener = await asyncio.start_server(lambda _, answer: answer.close(), "127.0.0.1", 0)
    clients = threading.Thread(target=come_and_go, args=[listener.sockets[0].getsockname()])
    clients.start()
    database = readiness._Database("default")
    said = [await database.check(["SELECT pg_sleep(5)"]) for _ in range(10)]
    said += [await database.check(["SELECT 1"])]
    over.set()
    clients.join()
    print(*said)

uvloop.run(main())
"""


def test_a_cancelled_check_does_not_affect_other_connections(database_url: str) -> None:
    done = python(LOOKS, DATABASE_URL=database_url)

    assert done.returncode == 0, done.stderr
    assert f"{'unreachable ' * 10}ok" in done.stdout.splitlines()
    assert "ERROR" not in done.stdout
