"""A database with five rows of one kind of model, as the tests of all kinds find it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from conftest import SECRET, TIMEOUTS, World
from models.columns import COLUMNS
from models.found import IMPERATIVE, SQLMODEL, automapped, reflected
from models.inheriting import INHERITING
from models.keys import KEYS
from models.kinds import STOCKED, TABLES, Kind
from models.related import RELATED
from servers import DRIVERS, Driver, in_test_database
from sqlalchemy import Engine, create_engine, event, inspect, select
from sqlalchemy.orm import Session

from fastkit.database import AsyncDatabase, Database
from fastkit.repository import AsyncRepository, Repository
from fastkit.uow import AsyncUnitOfWork, UnitOfWork

ONE_EACH = [driver for driver in DRIVERS if driver.name != "postgresql+psycopg_async"]
ON_ONE_EACH = pytest.mark.parametrize("driver", ONE_EACH, indirect=True, ids=lambda driver: driver.id)
"""A sync and an async driver of each database."""

_READS = ("SELECT", "BEGIN", "ROLLBACK", "SET", "PRAGMA")
_KNOWN = [*KEYS, *COLUMNS, *INHERITING, *RELATED, IMPERATIVE, SQLMODEL]
MAKERS: dict[str, Callable[[Engine], Kind]] = {
    **{kind.name: lambda engine, kind=kind: kind for kind in _KNOWN},
    "reflected tables": reflected,
    "automapped tables": automapped,
}


@cache
def unit_of(model: type[Any], *, is_async: bool) -> type[Any]:
    """Return a unit of work with one repository, `rows`."""
    base, repository = (AsyncUnitOfWork, AsyncRepository) if is_async else (UnitOfWork, Repository)
    of_model: Any = repository
    return type("Unit", (base,), {"__annotations__": {"rows": of_model[model]}, "__module__": __name__})


class Stock(World):
    """One database with the rows 1 to 5 of a kind, whatever the driver and its colour."""

    def __init__(self, world: World, kind: Kind, engine: Engine) -> None:
        super().__init__(world.driver, world.naked)
        self.kind = kind
        self.engine = engine
        self.unit = unit_of(kind.model, is_async=world.driver.is_async)
        self.keys: dict[int, Any] = {}
        self.strangers: list[Any] = []
        self.wrote = False

    def fill(self) -> None:
        """Store the rows, and those that the kind must not meet."""
        with Session(self.engine) as session:
            for table in reversed(self.kind.tables):
                session.execute(table.delete())
            made, beside = self.kind.objects(STOCKED), self.kind.beside()
            for one in [*made, *beside]:
                session.add(one)
                session.flush()
            self.keys = {self.number(one): key_of(one) for one in made}
            self.strangers = [key_of(one) for one in beside]
            session.commit()

    @contextmanager
    def watched(self) -> Generator[None]:
        """Note whether anything is written through the engines of the test."""
        watched = (self.engine, self.sync_engine)

        def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
            self.wrote = self.wrote or not statement.startswith(_READS)

        for engine in watched:
            event.listen(engine, "before_cursor_execute", note)
        try:
            yield
        finally:
            for engine in watched:
                event.remove(engine, "before_cursor_execute", note)

    @staticmethod
    def number(one: Any) -> int:
        """Return the number of a row, by its label; of a row beside, -1."""
        label = str(one.label)
        return int(label.removeprefix("row ")) if label.startswith("row ") else -1

    def numbers(self, found: Sequence[Any]) -> list[int]:
        """Return the numbers of rows."""
        return list(map(self.number, found))

    def in_order(self, numbers: Sequence[int] = STOCKED) -> list[int]:
        """Return numbers by rank, then by key."""
        return sorted(numbers, key=lambda number: (self.kind.ranked(number), self.keys[number]))

    def by_key(self) -> list[int]:
        """Return numbers by key."""
        return sorted(self.keys, key=self.keys.__getitem__)

    def seen(self, shown: Any, number: int) -> dict[str, Any]:
        """Return those values of a response model that a test expects of a row."""
        told = shown.model_dump()
        return {name: told[name] for name in self.kind.shown(number)}

    def stored(self) -> dict[int, dict[str, Any]]:
        """Return what is stored, as plain SQLAlchemy reads it."""
        with Session(self.engine) as session:
            found = session.scalars(select(self.kind.model).options(*self.kind.loads)).unique().all()
            return {
                self.number(one): self.kind.out.model_validate(one, from_attributes=True).model_dump() for one in found
            }

    def beside(self) -> list[Any]:
        """Return the labels of the stored rows that are not of the kind."""
        base = inspect(self.kind.model).base_mapper
        with Session(self.engine) as session:
            labels = session.scalars(select(base.attrs["label"].class_attribute)).all()
        return [label for label in labels if not label.startswith("row ")]

    def shown(self, number: int) -> dict[str, Any]:
        """Return those of the stored values of a row that a test expects, besides its key."""
        return {name: value for name, value in self.stored()[number].items() if name in self.kind.shown(number)}


def key_of(one: Any) -> Any:
    """Return the key of an object as `get` takes it."""
    identity: Any = inspect(one).identity
    return identity[0] if len(identity) == 1 else tuple(identity)


@pytest.fixture(scope="module")
def engines(server_databases: set[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Engine]]:
    """Make engines of databases with the tables, plain ones, one for each kind of database."""
    folder, made = tmp_path_factory.mktemp("kinds"), dict[str, Engine]()

    def of(server: str) -> Engine:
        if server not in made:
            driver = next(each for each in DRIVERS if each.server == server and not each.is_async)
            url = f"sqlite:///{folder / 'kinds.db'}" if server == "SQLite" else in_test_database(driver.url)
            made[server] = create_engine(url)
            TABLES.create_all(made[server])
        return made[server]

    yield of
    for engine in made.values():
        engine.dispose()


@pytest.fixture(scope="module")
async def worlds(anyio_backend: str, engines: Callable[[str], Engine]) -> AsyncIterator[Callable[[Driver], World]]:
    """Make databases of these tests, one for each driver, which last as long as the module."""
    made = dict[Driver, World]()

    def of(driver: Driver) -> World:
        if driver not in made:
            kind: Any = AsyncDatabase if driver.is_async else Database
            url = engines(driver.server).url.set(drivername=driver.name).render_as_string(hide_password=False)
            made[driver] = World(driver, kind(url, pool_size=4, timeouts=TIMEOUTS, cursor_keys=[SECRET]))
        return made[driver]

    yield of
    for world in made.values():
        await world.database.close()


@pytest.fixture(scope="module")
def untouched() -> dict[tuple[str, str], Stock]:
    """Return the stocks that no test has written to since they were filled, by database and first table."""
    return {}


@pytest.fixture(params=MAKERS)
def stock(
    request: pytest.FixtureRequest,
    driver: Driver,
    engines: Callable[[str], Engine],
    worlds: Callable[[Driver], World],
    untouched: dict[tuple[str, str], Stock],
) -> Iterator[Stock]:
    """Return a database with the rows 1 to 5 of each kind in turn, and check that no connection is kept."""
    engine = engines(driver.server)
    stock = Stock(worlds(driver), MAKERS[request.param](engine), engine)
    place = (driver.server, stock.kind.tables[0].name)  # which kinds share
    known = untouched.pop(place, None)
    if known is not None and known.kind is stock.kind:
        stock.keys, stock.strangers = known.keys, known.strangers
    else:
        stock.fill()
    with stock.watched():
        yield stock
    if not stock.wrote:
        untouched[place] = stock

    assert stock.checked_out == 0, "a connection was not given back"


@contextmanager
def rival(stock: Stock) -> Generator[Session]:
    """Let somebody else work on the same database, with objects of the same model."""
    with Session(stock.engine) as session:
        yield session
        session.commit()
