"""Any statement of a scoped unit gives what it would give if nothing else was stored, or is refused."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, reject, settings
from hypothesis import strategies as st
from scopes.notes import OURS, Base, Draft, Folder, Line, Note, Shop, fill, owner, tenant
from sqlalchemy import Engine, and_, case, create_engine, delete, exists, func, literal, or_, select, union_all
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, aliased

from fastkit.database import Database
from fastkit.errors import ScopeError

MODELS: list[Any] = [Note, Folder, Line, Draft]
USER = 5
EXAMPLES = int(os.environ.get("FASTKIT_EXAMPLES", "200"))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Engine]]:
    """Return a database with the rows of everybody, and one that has only ours."""
    path = tmp_path_factory.mktemp("scopes")
    everybody, only_ours = (create_engine(f"sqlite:///{path}/{name}.db") for name in ("everybody", "ours"))
    for engine in (everybody, only_ours):
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            fill(session)
    with only_ours.begin() as connection:
        for model in (Line, Note, Draft, Folder):
            table = model.__table__
            gone = [table.c.tenant_id != OURS]
            gone += [table.c.deleted_at.is_not(None)] if "deleted_at" in table.c else []
            gone += [~or_(table.c.is_public, table.c.owner_id == USER)] if model is Draft else []
            connection.execute(delete(table).where(or_(*gone)))
    everybody.dispose()
    database = Database(f"sqlite:///{path}/everybody.db")
    yield database, only_ours
    database.close()
    only_ours.dispose()


class Statements:
    """Draws parts of statements about classes and their aliases."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.entities: list[Any] = []
        for model in data.draw(st.lists(st.sampled_from(MODELS), min_size=1, max_size=3)):
            plain = model not in self.entities and data.draw(st.booleans())
            self.entities.append(model if plain else aliased(model))

    def one(self, *choices: Any) -> Any:
        """Return one of these."""
        return self.data.draw(st.sampled_from(choices))

    def column(self) -> Any:
        """Return a number of one of the classes."""
        return self.one(*self.entities).id

    def number(self, depth: int = 2) -> Any:
        """Return an expression."""
        if depth == 0 or self.data.draw(st.booleans()):
            return self.column()
        inner = self.number(depth - 1)
        return self.one(
            lambda: inner + self.column(),
            lambda: func.coalesce(inner, self.column()),
            lambda: case((inner > 2, self.column()), else_=inner),
            lambda: self.subquery().scalar_subquery(),
            lambda: func.abs(inner),
        )()

    def whole(self) -> Any:
        """Return a number about all rows."""
        return self.one(
            func.count,
            lambda: func.count(self.number(1)),
            lambda: func.max(self.number(1)),
            lambda: func.count().filter(self.number(1) > 2),
        )()

    def subquery(self) -> Any:
        """Return a query of one number about a class or an alias that is not named around it."""
        model = aliased(self.one(*MODELS))
        where = self.one(lambda: model.id > 1, lambda: model.tenant_id == self.one(*self.entities).tenant_id)()
        return self.one(
            lambda: select(func.count(model.id)).where(where),
            lambda: select(func.max(model.id)).where(where),
            lambda: select(func.count()).select_from(model).where(where),
            lambda: select(func.count()).where(where),
        )()

    def criterion(self) -> Any:
        """Return a criterion."""
        related = self.one(*MODELS)
        return self.one(
            lambda: self.number(1) > self.one(0, 2, 11),
            lambda: self.column().in_(select(related.id).where(related.tenant_id >= 1)),
            lambda: exists().where(related.id == self.column()),
            lambda: exists(select(literal(1)).select_from(related).where(related.id > 0)),
            lambda: or_(self.column() == 1, self.column() > 1),
            lambda: ~exists().where(and_(related.id == 2, related.tenant_id == 2)),
        )()

    def query(self) -> Any:
        """Return a query of numbers."""
        columns = [self.number() for _ in range(self.one(1, 2))]
        grouped = self.data.draw(st.booleans())
        statement = select(*([self.whole()] if grouped else columns))
        if self.data.draw(st.booleans()):
            statement = statement.select_from(self.entities[0])
        if self.data.draw(st.booleans()) and len(self.entities) > 1:
            statement = statement.select_from(self.entities[0])
            for other in self.entities[1:]:
                on = other.tenant_id == self.entities[0].tenant_id
                statement = statement.join(other, on, isouter=self.data.draw(st.booleans()))
        for _ in range(self.one(0, 1, 2)):
            statement = statement.where(self.criterion())
        if grouped and self.data.draw(st.booleans()):
            statement = statement.group_by(self.number(1))
            statement = statement.having(self.whole() > 0) if self.data.draw(st.booleans()) else statement
        if self.data.draw(st.booleans()):
            statement = statement.order_by(self.number(1))
        return statement

    def statement(self) -> Any:
        """Return a query, or one of queries."""
        query = self.query()
        wrapped = query.subquery()
        return self.one(
            lambda: query,
            lambda: select(func.count()).select_from(wrapped),
            lambda: select(*query.cte("named").c),
            lambda: union_all(query.order_by(None), query.order_by(None)),
            lambda: select(Note.id).where(Note.id.in_(select(next(iter(wrapped.c))))),
        )()


@pytest.mark.filterwarnings("ignore:SELECT statement has a cartesian product")
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_only_our_rows(stored: tuple[Database, Engine], data: st.DataObject) -> None:
    """What comes back is what a database would give that has no other rows."""
    database, only_ours = stored
    drawn = Statements(data).statement()
    with Session(only_ours) as session:
        try:
            expected = Counter(map(tuple, session.execute(drawn).all()))
        except SQLAlchemyError:
            reject()  # it is no statement at all
    try:
        with Shop(database).scoped(tenant, OURS).scoped(owner, USER) as shop:
            found = Counter(map(tuple, shop.session.execute(drawn).all()))
    except ScopeError:
        event("refused")
        return
    event("answered")

    assert found == expected
