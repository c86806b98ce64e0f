"""A check of a database that is too slow, in a process that accepts connections meanwhile."""

from tests.fixtures.servers.forkserver import python

PROGRAM = """
import asyncio, socket, threading
import django, uvloop

django.setup()
from chatbackend.web import readiness

readiness.TIMEOUT_SECONDS = 0.1
stopped = threading.Event()

def connect_repeatedly(address):
    while not stopped.is_set():
        socket.create_connection(address).close()

async def main():
    listener = await asyncio.start_server(lambda _, answer: answer.close(), "127.0.0.1", 0)
    clients = threading.Thread(target=connect_repeatedly, args=[listener.sockets[0].getsockname()])
    clients.start()
    database = readiness._Database("default")
    results = [await database.check(["SELECT pg_sleep(5)"]) for _ in range(10)]
    results += [await database.check(["SELECT 1"])]
    stopped.set()
    clients.join()
    print(*results)

uvloop.run(main())
"""


def test_a_cancelled_check_does_not_affect_other_connections(database_url: str) -> None:
    done = python(PROGRAM, DATABASE_URL=database_url)

    assert done.returncode == 0, done.stderr
    assert f"{'unreachable ' * 10}ok" in done.stdout.splitlines()
    assert "ERROR" not in done.stdout
