"""A visit to the bookshop: requests over HTTP, rows read back from the database, and claims about both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from textwrap import wrap
from typing import Any, TypeAlias

import httpx2
from sqlalchemy import ColumnElement, func, select, update

from bookshop.models import Base, Book, Customer
from fastkit import Database

Body: TypeAlias = Mapping[str, Any]

LONGEST = 350
"""Characters of a body that are shown."""


class Visit:
    """
    What one step of the tour does and sees; lives as long as the step.

    The rows are read by a connection of its own, so that it sees only what was committed.

    Attributes:
        wrong: The claims that did not hold.
    """

    def __init__(self, http: httpx2.Client, database: Database, books: Iterable[int]) -> None:
        self.wrong: list[str] = []
        self._http = http
        self._database = database
        self._books = iter(books)

    # -- requests

    def get(self, path: str) -> httpx2.Response:
        """Send a GET request and show it with its answer."""
        return _shown(self._http.get(path))

    def post(self, path: str, body: Body) -> httpx2.Response:
        """Send a POST request and show it with its answer."""
        return _shown(self._http.post(path, json=body))

    def post_at_once(self, path: str, bodies: Sequence[Body]) -> list[httpx2.Response]:
        """Send POST requests at the same time, and show them with their answers."""
        with ThreadPoolExecutor(len(bodies)) as clients:
            answers = list(clients.map(lambda body: self._http.post(path, json=body), bodies))
        return [_shown(answer) for answer in answers]

    # -- the database

    def shelve(self, copies: int) -> int:
        """Take a book that no step has used yet, see to it that there are so many copies, and return its number."""
        number = next(self._books)
        with self._database.session() as session, session.begin():
            session.execute(update(Book).where(Book.id == number).values(stock=copies))
        return number

    def stock(self, book: int) -> int:
        """Return how many copies of a book there are."""
        with self._database.session() as session:
            return session.scalars(select(Book.stock).where(Book.id == book)).one()

    def count(self, model: type[Base], *where: ColumnElement[bool]) -> int:
        """Return how many rows are stored."""
        with self._database.session() as session:
            return session.scalars(select(func.count()).select_from(model).where(*where)).one()

    def customer(self, name: str) -> int:
        """Return the number of a customer."""
        with self._database.session() as session:
            return session.scalars(select(Customer.id).where(Customer.name == name)).one()

    # -- claims

    def claim(self, what: str, seen: object, expected: object) -> None:
        """Show what was seen, and note it if it is not what the tour promises."""
        holds = seen == expected
        print(f"   {what + ' ':.<42} {seen!s:<32} {'ok' if holds else f'WRONG, claimed was {expected}'}")
        if not holds:
            self.wrong.append(what)


def _shown(answer: httpx2.Response) -> httpx2.Response:
    """Print a request and its answer."""
    request, text = answer.request, f"-> {answer.status_code} {_shortened(answer.content)}"
    print(f"   {request.method} {request.url.raw_path.decode()} {_shortened(request.content)}".rstrip())
    print(*wrap(text, 110, initial_indent="   ", subsequent_indent="      "), sep="\n")
    return answer


def _shortened(content: bytes) -> str:
    text = json.dumps(json.loads(content)) if content else ""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
