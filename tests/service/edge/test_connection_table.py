"""Which connection goes where there are too many: on virtual time."""

import asyncio
import logging

import pytest

from service.edge.connection_table import NEWCOMER_SECONDS, NEWCOMERS, ConnectionTable
from service.edge.uploads import Uploads
from service.errors import ServiceError
from service.metrics import Metrics
from tests.virtual_time import run_virtually


class Connection:
    gone = unread = False

    def has_unread(self) -> bool:
        return self.unread

    def give_way(self) -> None:
        self.gone = True


def table(limit: int) -> ConnectionTable:
    return ConnectionTable(limit, Uploads(10**6, 500), Metrics().connections_ended)


def test_the_longest_idle_goes_first_and_the_busy_never() -> None:
    async def scenario() -> None:
        full = table(limit=3)
        first, second, third, fourth, fifth = connections = [Connection() for _ in range(5)]
        for connection in (first, second, third):
            full.enter(connection)
            await asyncio.sleep(0.1)
        full.busy(first)
        full.busy(second)
        full.idle(second)  # served meanwhile
        await asyncio.sleep(2 * NEWCOMER_SECONDS)
        full.enter(fourth)
        assert [connection.gone for connection in connections] == [False, False, True, False, False]
        full.enter(fifth)
        assert [connection.gone for connection in connections] == [False, True, True, False, False]
        assert len(full) == 3

    run_virtually(scenario())


def test_newcomers_have_time_to_speak_until_there_are_too_many_of_them() -> None:
    async def scenario() -> None:
        full = table(limit=2)
        for _ in range(2):
            busy = Connection()
            full.enter(busy)
            full.busy(busy)
        newcomers = [Connection() for _ in range(NEWCOMERS)]
        for newcomer in newcomers:
            full.enter(newcomer)
        assert full.crowded()
        assert not any(newcomer.gone for newcomer in newcomers)
        full.enter(Connection())
        assert [newcomer.gone for newcomer in newcomers] == [True] + [False] * (NEWCOMERS - 1)

    run_virtually(scenario())


def test_who_speaks_has_precedence_over_who_does_not() -> None:
    async def scenario() -> None:
        full = table(limit=1)
        silent, speaking = Connection(), Connection()
        full.enter(silent)
        full.enter(speaking)
        assert full.crowded()
        full.busy(speaking)
        assert not full.crowded()
        assert silent.gone
        assert not speaking.gone

    run_virtually(scenario())


def test_who_has_spoken_and_was_not_heard_yet_does_not_go() -> None:
    async def scenario() -> None:
        full = table(limit=1)
        probe, _, speaking = connections = [Connection() for _ in range(3)]
        for connection in connections:
            full.enter(connection)
        probe.unread = True
        full.busy(speaking)
        assert [connection.gone for connection in connections] == [False, True, False]
        full.busy(speaking)
        assert not probe.gone

    run_virtually(scenario())


def test_where_all_are_busy_a_stalled_upload_makes_room() -> None:
    async def scenario() -> None:
        full = table(limit=1)
        busy = Connection()
        full.enter(busy)
        full.busy(busy)
        told: list[ServiceError] = []
        full.uploads.begin("192.0.2.1", 1000, told.append, lambda: False)
        await asyncio.sleep(3)
        full.enter(Connection())
        assert told[0].reason == "slow_upload"

    run_virtually(scenario())


def test_a_full_table_is_logged_once_a_while(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        full = table(limit=1)
        with caplog.at_level(logging.WARNING):
            for _ in range(100):
                full.enter(Connection())
                await asyncio.sleep(0.15)
        assert len(caplog.records) == 2

    run_virtually(scenario())


def test_who_leaves_is_forgotten() -> None:
    async def scenario() -> None:
        full = table(limit=1)
        for _ in range(5):
            connection = Connection()
            full.enter(connection)
            full.leave(connection)
            full.leave(connection)
            full.idle(connection)
        assert len(full) == 0
        full.make_room()

    run_virtually(scenario())
