"""
The tour: what the bookshop shows, one step each; a step prints its own docstring.

Each step checks what it claims, against the answer and against the rows that are stored.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from textwrap import indent

import httpx2
from sqlalchemy import select

from bookshop.demo.app import STATEMENTS
from bookshop.demo.visit import Visit
from bookshop.models import Book, Order, Payment
from fastkit import Database

PROBLEM = "application/problem+json"
STANDARD = {"type", "title", "status", "detail"}
NOBODY = 404_404
"""A number that no row has."""


def order_placed(visit: Visit) -> None:
    """
    An order is placed.

    One service, one transaction: fetch and lock, check the rules, call the pure domain, save.
    Who reads 201 knows that it is stored.
    """
    book = visit.shelve(copies=5)

    answer = visit.post("/orders", {"customer_id": visit.customer("Ada Lovelace"), "lines": {book: 2}})

    visit.claim("status", answer.status_code, 201)
    visit.claim("orders stored", visit.count(Order, Order.id == answer.json()["id"]), 1)
    visit.claim("copies left of 5", visit.stock(book), 3)


def two_rules_broken(visit: Visit) -> None:
    """
    An order breaks two rules at once.

    A blocked customer wants more copies than there are. One answer tells both, each with its place in the request.
    """
    book, orders = visit.shelve(copies=1), visit.count(Order)

    answer = visit.post("/orders", {"customer_id": visit.customer("Bartleby"), "lines": {book: 2}})

    visit.claim("status", answer.status_code, 422)
    places = [error["pointer"] for error in answer.json()["errors"]]
    visit.claim("places of the broken rules", places, ["/customer_id", f"/lines/{book}"])
    visit.claim("orders more than before", visit.count(Order) - orders, 0)
    visit.claim("copies left of 1", visit.stock(book), 1)


def commit_failed(visit: Visit) -> None:
    """
    A commit fails.

    A payment for an order that does not exist: the database accepts the INSERT and refuses the COMMIT (a deferred
    foreign key). By hand, with the usual `yield` dependency, the 201 is sent before the commit is tried: a lie.
    With fastkit the commit comes first, and its failure is the answer.
    """
    payment = {"order_id": NOBODY, "reference": "BANK-1", "amount": "19.80"}

    by_hand = visit.post("/by-hand/payments", payment)
    answer = visit.post("/payments", payment)

    visit.claim("by hand: status", by_hand.status_code, 201)
    visit.claim("fastkit: status", answer.status_code, 409)
    visit.claim("payments stored by either", visit.count(Payment), 0)


def last_copy(visit: Visit) -> None:
    """
    Two buyers want the last copy, at the same time.

    The service reads the book with for_update(), so the second buyer waits for the first and then sees an empty shelf.
    """
    book, orders = visit.shelve(copies=1), visit.count(Order)
    buyers = [visit.customer("Ada Lovelace"), visit.customer("Charles Babbage")]

    answers = visit.post_at_once("/orders", [{"customer_id": buyer, "lines": {book: 1}} for buyer in buyers])

    visit.claim("statuses", sorted(answer.status_code for answer in answers), [201, 422])
    visit.claim("orders more than before", visit.count(Order) - orders, 1)
    visit.claim("copies left of 1", visit.stock(book), 0)


def list_in_two_statements(visit: Visit) -> None:
    """
    A list costs two statements.

    One for the total, one for the page with all its authors. What is not loaded on purpose raises: no N + 1.
    """
    answer = visit.get("/books?size=100")

    visit.claim("status", answer.status_code, 200)
    visit.claim("books on the page, each with an author", sum("author" in row for row in answer.json()["items"]), 100)
    visit.claim("total", answer.json()["total"], visit.count(Book))
    visit.claim("statements sent", answer.headers[STATEMENTS], "2")


def error_swallowed(visit: Visit) -> None:
    """
    An error is swallowed half-way.

    Five copies move between two editions, but the first has only one: that UPDATE breaks a constraint, and the code
    ignores it, `with suppress(...)`. By hand, the other half is committed: copies out of nothing. fastkit remembers
    the error and refuses to commit: a 500 with a reference to the log, without internals, and nothing is stored.
    """
    one, other, third, fourth = (visit.shelve(copies) for copies in (1, 0, 1, 0))

    by_hand = visit.post("/by-hand/stock-moves", {"source": one, "target": other, "copies": 5})
    answer = visit.post("/stock-moves", {"source": third, "target": fourth, "copies": 5})

    visit.claim("by hand: status", by_hand.status_code, 204)
    visit.claim("by hand: copies, before [1, 0]", [visit.stock(one), visit.stock(other)], [1, 5])
    visit.claim("fastkit: status", answer.status_code, 500)
    visit.claim("fastkit: copies, before [1, 0]", [visit.stock(third), visit.stock(fourth)], [1, 0])
    visit.claim("fastkit: members of the problem", set(answer.json()) - STANDARD, {"reference"})


def problem_document(visit: Visit) -> None:
    """
    Every error is a problem document.

    RFC 9457, the same shape for a missing row, a broken rule, a constraint and a bug; the OpenAPI schema shows it too.
    """
    answer = visit.get(f"/books/{NOBODY}")

    visit.claim("status", answer.status_code, 404)
    visit.claim("media type", answer.headers["content-type"], PROBLEM)
    visit.claim("type", answer.json()["type"], "urn:fastkit:problem:not-found")


STEPS = (
    order_placed,
    two_rules_broken,
    commit_failed,
    last_copy,
    list_in_two_statements,
    error_swallowed,
    problem_document,
)


def walk(address: str, database: Database, steps: Sequence[Callable[[Visit], None]] = STEPS) -> bool:
    """
    Take every step and print what it shows; return whether each showed what it claims.

    Args:
        address: Where the demo app answers.
        database: Its database, with the catalogue loaded.
        steps: The steps to take.
    """
    with database.session() as session:
        books = iter(session.scalars(select(Book.id).order_by(Book.id)).all())
    failed = 0
    once = httpx2.Limits(max_keepalive_connections=0)  # where the 201 was a lie, the server hangs up
    with httpx2.Client(base_url=address, timeout=30, trust_env=False, limits=once) as http:
        for number, step in enumerate(steps, start=1):
            title, _, why = inspect.cleandoc(step.__doc__ or step.__name__).partition("\n\n")
            print(f"\n{number}. {title}\n{indent(why, '   ')}\n")
            failed += not _taken(step, Visit(http, database, books))
    print(f"\n{len(steps) - failed} of {len(steps)} steps show what they claim.")
    return not failed


def _taken(step: Callable[[Visit], None], visit: Visit) -> bool:
    """Take a step; return whether it showed what it claims."""
    try:
        step(visit)
    except Exception as error:  # noqa: BLE001 - the tour goes on, and says so
        visit.claim("the step ends", f"{type(error).__name__}: {error}", "without an error")
    print("   OK" if not visit.wrong else f"   WRONG: {', '.join(visit.wrong)}")
    return not visit.wrong
