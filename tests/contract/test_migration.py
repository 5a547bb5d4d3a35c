"""An older file is brought up to date, whole or not at all; a newer one is left alone."""

import sqlite3
from collections.abc import Iterator

import pytest

from skyreid.contract.errors import InputError
from skyreid.contract.migration import (
    Step,
    execute_all,
    migrate,
    require_newest,
    tables,
    version,
)


def first(db: sqlite3.Connection) -> None:
    execute_all(db, "CREATE TABLE person (name TEXT);\nINSERT INTO person VALUES ('a');\n")


def second(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE person ADD COLUMN height_m REAL")


def broken(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE person ADD COLUMN weight_kg REAL")
    raise InputError("the disk says no")


@pytest.fixture(params=["", None], ids=["python's transactions", "our own"])
def db(request: pytest.FixtureRequest) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=request.param)
    yield connection
    connection.close()


def test_an_empty_file_gets_every_step_and_an_older_one_those_it_lacks(
    db: sqlite3.Connection,
) -> None:
    migrate(db, [first], what="file x")
    assert (version(db), tables(db)) == (1, {"person"})
    migrate(db, [first, second], what="file x")
    assert version(db) == 2
    assert db.execute("SELECT name, height_m FROM person").fetchall() == [("a", None)]
    migrate(db, [first, second], what="file x")
    assert not db.in_transaction


@pytest.mark.parametrize("steps", [[second, broken], [broken]], ids=["after another", "alone"])
def test_a_step_that_fails_leaves_the_file_as_it_was(
    db: sqlite3.Connection, steps: list[Step]
) -> None:
    migrate(db, [first], what="file x")
    with pytest.raises(InputError, match="the disk says no"):
        migrate(db, [first, *steps], what="file x")
    assert (version(db), db.in_transaction) == (1, False)
    assert db.execute("SELECT * FROM person").fetchall() == [("a",)]


def test_a_file_of_a_newer_release_is_refused_in_one_line(db: sqlite3.Connection) -> None:
    migrate(db, [first, second], what="file x")
    with pytest.raises(InputError, match=r"^file x has version 2, this release knows up to 1: .*"):
        migrate(db, [first], what="file x")
    assert version(db) == 2


def test_who_only_reads_says_what_brings_an_older_file_up_to_date(db: sqlite3.Connection) -> None:
    migrate(db, [first], what="file x")
    require_newest(db, [first], what="file x", by="run it")
    with pytest.raises(InputError, match=r"version 1, this release reads 2: run it once"):
        require_newest(db, [first, second], what="file x", by="run it")
