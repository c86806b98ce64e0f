"""``make fuzz``: sends CASES requests, generated from SEED, and prints statistics of the answers."""

import os
import resource
import time
from collections import Counter
from random import Random

import pytest

from tests.fuzz.application import Client, check_answer
from tests.fuzz.cases import Cases

pytestmark = pytest.mark.django_db(transaction=True)

WARM = 20_000  # requests; after these, memory must not grow by more than GROWTH_MB
GROWTH_MB = 50
IN_PARALLEL = 20


def test_a_long_run(cases: Cases, capsys: pytest.CaptureFixture[str]) -> None:
    count, seed = int(os.environ.get("CASES") or 100_000), int(os.environ.get("SEED") or time.time())
    statuses: Counter[int] = Counter()
    longest, began, warm = 0.0, time.monotonic(), 0.0

    with Client() as client:
        for first in range(0, count, IN_PARALLEL):
            numbers = range(first, min(first + IN_PARALLEL, count))
            some = [cases.one(Random(f"{seed} {number}")) for number in numbers]
            answers = client.ask(*some)
            for number, case, answer in zip(numbers, some, answers, strict=True):
                try:
                    check_answer(case, answer)
                except AssertionError as exc:
                    raise AssertionError(f"SEED={seed}, request {number}: {case}\n{exc}") from None
            statuses.update(answer.status for answer in answers)
            longest = max(longest, *(answer.seconds for answer in answers))
            if first <= min(WARM, count // 2):
                warm = memory()
            if first % 10_000 == 0:
                with capsys.disabled():
                    print(f"\r{first} requests, {memory():.0f} MB ", end="", flush=True)

    with capsys.disabled():
        print(f"\n{count} requests of seed {seed} in {time.monotonic() - began:.0f} s")
        print("answers:", ", ".join(f"{number} x {status}" for status, number in sorted(statuses.items())))
        print(f"longest wait: {longest:.2f} s; memory: {warm:.0f} MB once warm, {memory():.0f} MB in the end")
    assert memory() - warm < GROWTH_MB


def memory() -> float:
    """The resident memory of this process, in MB."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1e6
