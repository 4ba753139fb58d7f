"""The bookshop over HTTP: every route, async and sync, on every database that is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest
from servers import DRIVERS, Driver
from sqlalchemy import ColumnElement, Engine, create_engine, event, func, make_url, select, update
from sqlalchemy.pool import NullPool

from bookshop.asynchronous import app as asynchronous
from bookshop.load import load, main
from bookshop.models import Author, Base, Book, Customer, Order, OrderLine, Payment, Review
from bookshop.synchronous import app as synchronous

pytestmark = pytest.mark.anyio

PROBLEM = "application/problem+json"
NOBODY = 404_404
SQLITE = [driver for driver in DRIVERS if driver.server == "SQLite"]

without_database = pytest.mark.parametrize("driver", SQLITE, indirect=True, ids=lambda driver: driver.id)
"""What is refused before a database is asked needs only both colours."""


def app_of(driver: Driver) -> ModuleType:
    """Return the module of the app of a driver's colour."""
    return asynchronous if driver.is_async else synchronous


class Rows:
    """What is stored, seen by a connection of its own."""

    def __init__(self, url: str) -> None:
        server = make_url(url).get_backend_name()
        sync = next(d for d in DRIVERS if d.server.lower() == server and not d.is_async)
        self._engine = create_engine(make_url(url).set(drivername=sync.name), poolclass=NullPool)

    def count(self, model: type[Base], *where: ColumnElement[bool]) -> int:
        """Return how many rows of a model are stored."""
        return int(self.scalar(select(func.count()).select_from(model).where(*where)))

    def stock(self, book: int) -> int:
        """Return how many copies of a book there are."""
        return int(self.scalar(select(Book.stock).where(Book.id == book)))

    def scalar(self, statement: Any) -> Any:
        """Return the first column of the only row."""
        with self._engine.connect() as connection:
            return connection.scalars(statement).one()

    def block(self, customer: int) -> None:
        """Block a customer."""
        with self._engine.begin() as connection:
            connection.execute(update(Customer).where(Customer.id == customer).values(blocked=True))


class Shop:
    """The bookshop as a client sees it, with shortcuts to arrange what a test needs."""

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self.http = http
        self.rows = Rows(url)

    async def get(self, path: str) -> httpx2.Response:
        """Send a GET request."""
        return await self.http.get(path)

    async def post(self, path: str, **body: Any) -> httpx2.Response:
        """Send a POST request with a JSON object."""
        return await self.http.post(path, json=body)

    async def made(self, path: str, **body: Any) -> int:
        """Make something; return its number."""
        answer = await self.post(path, **body)
        assert answer.status_code == 201, answer.text
        number: int = answer.json()["id"]
        return number

    async def author(self, name: str = "Jane Austen") -> int:
        """Make an author."""
        return await self.made("/authors", name=name)

    async def book(self, author: int | None = None, **more: Any) -> int:
        """Make a book."""
        return await self.made("/books", **book(author or await self.author(), **more))

    async def customer(self, name: str = "ada", *, blocked: bool = False) -> int:
        """Make a customer."""
        number = await self.made("/customers", name=name, email=f"{name}@example.org")
        if blocked:
            self.rows.block(number)
        return number

    async def order(self, customer: int, lines: dict[int, int]) -> httpx2.Response:
        """Place an order."""
        return await self.post("/orders", customer_id=customer, lines=lines)


def book(author: int, **more: Any) -> dict[str, Any]:
    """Return the body of a request for a new book."""
    title = more.get("title", "Emma")
    body = {
        "sku": title.upper().replace(" ", "-"),
        "title": title,
        "year": 1815,
        "language": "en",
        "price": "9.90",
        "stock": 5,
    }
    return {**body, "author_id": author, **more}


def pointers(answer: httpx2.Response) -> list[str]:
    """Return the places that a problem names."""
    return [error["pointer"] for error in answer.json().get("errors", [])]


def is_problem(answer: httpx2.Response, status: int, kind: str = "") -> bool:
    """Return whether an answer is a problem document with this status and of this kind."""
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert problem["type"].endswith(kind), problem["type"]
    return True


@pytest.fixture
async def shop(anyio_backend: str, driver: Driver, url: str) -> AsyncIterator[Shop]:
    """Return the bookshop, of each driver's colour in turn, with empty tables."""
    app = app_of(driver).create_app(url)
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop")
    async with app.router.lifespan_context(app), http:
        yield Shop(http, url)


class TestBooks:
    """The catalogue."""

    async def test_a_new_book_is_read_back(self, shop: Shop) -> None:
        """The answer to POST, to GET and in the list is the same book with its author."""
        author = await shop.author()

        made = await shop.post("/books", **book(author))
        read = await shop.get(f"/books/{made.json()['id']}")
        listed = await shop.get("/books")

        assert (made.status_code, read.status_code, listed.status_code) == (201, 200, 200)
        assert made.json() == {
            **{name: value for name, value in book(author).items() if name not in {"sku", "author_id"}},
            "id": made.json()["id"],
            "author": {"id": author, "name": "Jane Austen"},
        }
        assert read.json() == made.json()
        assert listed.json() == {"items": [made.json()], "total": 1, "page": 1, "size": 20}

    async def test_the_list_is_in_order_and_costs_two_statements(self, shop: Shop) -> None:
        """Books come by title, each with its author, and their number does not change the number of statements."""
        author = await shop.author()
        for title in ("Persuasion", "Emma", "Mansfield Park"):
            await shop.book(author, title=title)

        with statements() as sent:
            page = (await shop.get("/books?size=2")).json()

        assert [(row["title"], row["author"]["id"]) for row in page["items"]] == [
            ("Emma", author),
            ("Mansfield Park", author),
        ]
        assert page["total"] == 3
        assert len(sent) == 2, sent

    async def test_what_a_client_asks_for(self, shop: Shop) -> None:
        """Books can be searched, filtered and sorted; what the list does not know is refused."""
        austen, kafka = await shop.author(), await shop.author("Franz Kafka")
        await shop.book(austen, title="Emma", price="9.90")
        await shop.book(austen, title="Persuasion", price="5.00", language="fr")
        await shop.book(kafka, title="The Castle", price="7.00", language="de")

        for asked, titles in {
            "q=kafka": ["The Castle"],
            "q=emm": ["Emma"],
            f"author_id={austen}&sort=-title": ["Persuasion", "Emma"],
            "language=de&language=fr&sort=price": ["Persuasion", "The Castle"],
            "price_min=6&author=Jane%20Austen": ["Emma"],
        }.items():
            found = (await shop.get(f"/books?{asked}")).json()
            assert [each["title"] for each in found["items"]] == titles, asked
        for wrong in ("titel=x", "sort=sku", "price_min=cheap"):
            assert is_problem(await shop.get(f"/books?{wrong}"), 422, ":invalid-request")

    async def test_beyond_the_end(self, shop: Shop) -> None:
        """A page beyond the end is empty and has the right total; a page that cannot be is a problem."""
        number = await shop.book()
        customer = await shop.customer()
        assert (await shop.order(customer, {number: 1})).status_code == 201
        await shop.made(f"/books/{number}/reviews", customer_id=customer, stars=5, text="")

        for path in ("/books", "/authors", "/customers", f"/books/{number}/reviews"):
            answer = await shop.get(f"{path}?page=7&size=5")
            assert answer.json() == {"items": [], "total": 1, "page": 7, "size": 5}, path
            for wrong in ("page=0", "size=0", "size=101", "page=x"):
                assert is_problem(await shop.get(f"{path}?{wrong}"), 422, ":invalid-request")

    async def test_a_book_twice(self, shop: Shop) -> None:
        """A conflict names the columns that are taken."""
        author = await shop.author()
        await shop.book(author)

        same_sku = await shop.post("/books", **book(author, title="Persuasion", sku="EMMA"))
        same_title = await shop.post("/books", **book(author, sku="OTHER"))

        assert is_problem(same_sku, 409, ":unique")
        assert pointers(same_sku) == ["/sku"]
        assert is_problem(same_title, 409, ":unique")
        assert pointers(same_title) == ["/author_id", "/title"]
        assert shop.rows.count(Book) == 1

    async def test_of_no_author(self, shop: Shop) -> None:
        """A book needs an author who exists."""
        answer = await shop.post("/books", **book(NOBODY))

        assert is_problem(answer, 422, ":rules-broken")
        assert pointers(answer) == ["/author_id"]

    @without_database
    @pytest.mark.parametrize(("field", "value"), [("price", "-0.01"), ("stock", -1), ("title", ""), ("year", "soon")])
    async def test_wrong_values(self, shop: Shop, field: str, value: object) -> None:
        """A value out of bounds or of the wrong type is a problem that names its field."""
        answer = await shop.post(
            "/books", **book(1, **{field: value}) if field != "title" else book(1) | {field: value}
        )

        assert is_problem(answer, 422, ":invalid-request")
        assert pointers(answer) == [f"/{field}"]

    async def test_deletion(self, shop: Shop) -> None:
        """A book that was ordered stays, with 409; another one goes."""
        author, customer = await shop.author(), await shop.customer()
        ordered, unsold = await shop.book(author), await shop.book(author, title="Persuasion")
        assert (await shop.order(customer, {ordered: 1})).status_code == 201

        refused = await shop.http.delete(f"/books/{ordered}")
        done = await shop.http.delete(f"/books/{unsold}")

        assert is_problem(refused, 409, ":foreign-key")
        assert (done.status_code, done.content) == (204, b"")
        assert (await shop.get(f"/books/{ordered}")).status_code == 200
        assert is_problem(await shop.get(f"/books/{unsold}"), 404, ":not-found")


class TestPeople:
    """Authors and customers."""

    async def test_authors(self, shop: Shop) -> None:
        """Authors are listed by name, and each name is there once."""
        await shop.author("Leo Tolstoy")
        await shop.author("Homer")

        again = await shop.post("/authors", name=" Homer ")

        assert [row["name"] for row in (await shop.get("/authors")).json()["items"]] == ["Homer", "Leo Tolstoy"]
        assert is_problem(again, 409, ":unique")
        assert pointers(again) == ["/name"]

    async def test_customers(self, shop: Shop) -> None:
        """Customers are listed by name, and each email address is there once, whatever its case."""
        number = await shop.customer("zoe")
        await shop.customer("ada")

        again = await shop.post("/customers", name="Other", email="ZOE@example.org")
        listed = (await shop.get("/customers")).json()["items"]

        assert is_problem(again, 409, ":unique")
        assert pointers(again) == ["/email"]
        assert [row["name"] for row in listed] == ["ada", "zoe"]
        assert listed[1] == {"id": number, "name": "zoe", "email": "zoe@example.org", "blocked": False}

    async def test_a_customer_is_changed_by_who_has_seen_it(self, shop: Shop) -> None:
        """PATCH writes what was sent, on the version that was seen; null and a taken address are told."""
        number = await shop.customer("zoe")
        await shop.customer("ada")
        place = f"/customers/{number}"
        seen = {"If-Match": (await shop.get(place)).headers["ETag"]}

        async def change(headers: dict[str, str] | None = None, **fields: Any) -> httpx2.Response:
            return await shop.http.patch(place, json=fields, headers=headers)

        changed = await change(seen, name="Zoë")
        late = await change(seen, name="Zo")
        taken = await change(email="Ada@example.org")
        null, strange = await change(name=None), await change(blocked=True)
        known = {"If-None-Match": changed.headers["ETag"]}

        assert changed.json() == {"id": number, "name": "Zoë", "email": "zoe@example.org", "blocked": False}
        assert is_problem(late, 412, ":precondition-failed")
        assert is_problem(taken, 409, ":unique")
        assert [pointers(each) for each in (taken, null, strange)] == [["/email"], ["/name"], ["/blocked"]]
        assert (await shop.http.get(place, headers=known)).status_code == 304


class TestOrders:
    """The use case in four steps."""

    async def test_an_order(self, shop: Shop) -> None:
        """The answer is what is stored, and what GET returns: lines, prices of today, total; the copies are taken."""
        author, customer = await shop.author(), await shop.customer()
        emma, other = await shop.book(author), await shop.book(author, title="Persuasion", price="0.10")

        placed = await shop.order(customer, {other: 3, emma: 2})
        read = await shop.get(f"/orders/{placed.json()['id']}")

        assert (placed.status_code, read.status_code) == (201, 200)
        assert placed.json() == read.json()
        assert placed.json()["total"] == "20.10"
        assert placed.json()["customer_id"] == customer
        assert placed.json()["lines"] == [
            {"book_id": emma, "quantity": 2, "price": "9.90"},
            {"book_id": other, "quantity": 3, "price": "0.10"},
        ]
        assert [shop.rows.stock(emma), shop.rows.stock(other)] == [3, 2]

    async def test_every_broken_rule_is_told_at_once(self, shop: Shop) -> None:
        """A blocked customer who wants too much of one book and a book that is not there reads three errors."""
        number, customer = await shop.book(stock=1), await shop.customer(blocked=True)

        answer = await shop.order(customer, {number: 2, NOBODY: 1})

        assert is_problem(answer, 422, ":rules-broken")
        assert pointers(answer) == ["/customer_id", f"/lines/{NOBODY}", f"/lines/{number}"]
        assert shop.rows.count(Order) == shop.rows.count(OrderLine) == 0
        assert shop.rows.stock(number) == 1

    async def test_one_broken_rule(self, shop: Shop) -> None:
        """Each rule holds alone: blocked, not there, too few; the last copy can be had."""
        number, ada, bartleby = await shop.book(stock=1), await shop.customer(), await shop.customer("b", blocked=True)

        assert pointers(await shop.order(bartleby, {number: 1})) == ["/customer_id"]
        assert pointers(await shop.order(ada, {NOBODY: 1})) == [f"/lines/{NOBODY}"]
        assert pointers(await shop.order(ada, {number: 2})) == [f"/lines/{number}"]
        assert (await shop.order(ada, {number: 1})).status_code == 201

    async def test_no_such_customer(self, shop: Shop) -> None:
        """An order of nobody is 404, and takes no copies."""
        number = await shop.book()

        assert is_problem(await shop.order(NOBODY, {number: 1}), 404, ":not-found")
        assert shop.rows.stock(number) == 5

    @without_database
    @pytest.mark.parametrize("quantity", [0, -1, 1001, "many", None, 1.5])
    async def test_wrong_quantities(self, shop: Shop, quantity: Any) -> None:
        """A quantity below one, too large or of the wrong type is a problem that names its line."""
        answer = await shop.order(1, {42: quantity})

        assert is_problem(answer, 422, ":invalid-request")
        assert pointers(answer) == ["/lines/42"]

    @without_database
    @pytest.mark.parametrize("body", ["[]", '"order"', "null", "{", '{"customer_id": 1, "line": {"1": 1}}'])
    async def test_bodies_of_the_wrong_type(self, shop: Shop, body: str) -> None:
        """A body that is no order is a problem, never a 500."""
        answer = await shop.http.post("/orders", content=body, headers={"content-type": "application/json"})

        assert is_problem(answer, 422, ":invalid-request")

    async def test_two_buyers_of_the_last_copy(self, shop: Shop) -> None:
        """One gets it, the other hears that there is none left; the stock is never negative."""
        number, ada, bob = await shop.book(stock=1), await shop.customer(), await shop.customer("bob")

        answers = await asyncio.gather(shop.order(ada, {number: 1}), shop.order(bob, {number: 1}))

        statuses = sorted(answer.status_code for answer in answers)
        assert statuses in ([201, 409], [201, 422])
        assert (shop.rows.stock(number), shop.rows.count(Order)) == (0, 1)

    async def test_many_buyers_of_a_few_copies(self, shop: Shop) -> None:
        """Twenty requests at once, in both orders of the books: as many orders as copies gone, no server error."""
        author, customer = await shop.author(), await shop.customer()
        emma, other = [await shop.book(author, title=title, stock=7) for title in ("Emma", "Persuasion")]

        wishes = [{emma: 1, other: 1}, {other: 1, emma: 1}] * 10
        answers = await asyncio.gather(*(shop.order(customer, lines) for lines in wishes))

        placed = [answer.status_code for answer in answers].count(201)
        assert {answer.status_code for answer in answers} <= {201, 409, 422}
        assert 1 <= placed == shop.rows.count(Order) <= 7
        assert [shop.rows.stock(emma), shop.rows.stock(other)] == [7 - placed] * 2


class TestReviews:
    """Who bought a book may review it, once."""

    async def test_a_review(self, shop: Shop) -> None:
        """A buyer's review is stored and listed, with its own book only; a second one is a conflict."""
        author, customer = await shop.author(), await shop.customer()
        emma, other = await shop.book(author), await shop.book(author, title="Persuasion")
        assert (await shop.order(customer, {emma: 1})).status_code == 201
        review = {"customer_id": customer, "stars": 5, "text": "A delight."}

        written = await shop.post(f"/books/{emma}/reviews", **review)
        again = await shop.post(f"/books/{emma}/reviews", **review)

        assert written.status_code == 201
        assert written.json() == {"id": written.json()["id"], "book_id": emma, **review}
        assert is_problem(again, 409, ":unique")
        detail = "Another review with the same book_id and customer_id exists already."
        assert again.json()["errors"] == [
            {"detail": detail, "in": "path", "parameter": "book_id"},
            {"detail": detail, "pointer": "/customer_id"},
        ]
        assert (await shop.get(f"/books/{emma}/reviews")).json()["items"] == [written.json()]
        assert (await shop.get(f"/books/{other}/reviews")).json()["total"] == 0

    async def test_who_may_not(self, shop: Shop) -> None:
        """A blocked customer who did not buy the book breaks two rules; nothing is stored."""
        number, customer = await shop.book(), await shop.customer(blocked=True)

        answer = await shop.post(f"/books/{number}/reviews", customer_id=customer, stars=1, text="")

        assert is_problem(answer, 422, ":rules-broken")
        assert pointers(answer) == ["/customer_id", "/customer_id"]
        assert shop.rows.count(Review) == 0

    @without_database
    @pytest.mark.parametrize("stars", [0, 6, "all"])
    async def test_wrong_stars(self, shop: Shop, stars: object) -> None:
        """Stars are one to five."""
        answer = await shop.post("/books/1/reviews", customer_id=1, stars=stars, text="")

        assert is_problem(answer, 422, ":invalid-request")
        assert pointers(answer) == ["/stars"]


class TestPayments:
    """The commit that can fail."""

    async def test_a_payment(self, shop: Shop) -> None:
        """A payment for an order is stored; a second one with its reference is a conflict and is not."""
        order = (await shop.order(await shop.customer(), {await shop.book(): 1})).json()["id"]
        payment = {"order_id": order, "reference": "BANK-1", "amount": "9.90"}

        paid = await shop.post("/payments", **payment)
        again = await shop.post("/payments", **payment)

        assert paid.status_code == 201
        assert paid.json() == {"id": paid.json()["id"], **payment}
        assert is_problem(again, 409, ":unique")
        assert pointers(again) == ["/reference"]
        assert shop.rows.count(Payment) == 1

    async def test_a_commit_that_fails(self, shop: Shop) -> None:
        """A payment for no order is a conflict, though its INSERT may pass, and no row; the next request works."""
        answer = await shop.post("/payments", order_id=NOBODY, reference="BANK-1", amount="9.90")

        assert is_problem(answer, 409, ":foreign-key")
        assert shop.rows.count(Payment) == 0
        assert (await shop.get("/books")).status_code == 200

    @without_database
    @pytest.mark.parametrize("amount", ["0", "-1", "0.001", "much", 10**10])
    async def test_wrong_amounts(self, shop: Shop, amount: object) -> None:
        """An amount is positive, has two decimals, and fits."""
        answer = await shop.post("/payments", order_id=1, reference="BANK-1", amount=amount)

        assert is_problem(answer, 422, ":invalid-request")
        assert pointers(answer) == ["/amount"]


async def test_what_is_not_there(shop: Shop) -> None:
    """A number that no row has is a 404 problem on every route that takes one; one that is no number is 422."""
    customer = await shop.customer()
    review = {"customer_id": customer, "stars": 5, "text": ""}

    for path in (f"/books/{NOBODY}", f"/books/{NOBODY}/reviews", f"/orders/{NOBODY}"):
        assert is_problem(await shop.get(path), 404, ":not-found")
        assert is_problem(await shop.get(path.replace(str(NOBODY), "x")), 422, ":invalid-request")
    assert is_problem(await shop.http.delete(f"/books/{NOBODY}"), 404, ":not-found")
    assert is_problem(await shop.post(f"/books/{NOBODY}/reviews", **review), 404, ":not-found")
    assert is_problem(await shop.get("/nowhere"), 404, "about:blank")


@pytest.mark.parametrize("number", [0, -1, 2**31, 2**63, 10**30], ids=str)
async def test_numbers_out_of_range(shop: Shop, number: int) -> None:
    """A number that the column cannot hold is the client's error."""
    for path in (f"/books/{number}", f"/orders/{number}"):
        answer = await shop.get(path)

        assert answer.status_code in {404, 422}, answer.text
        assert answer.headers["content-type"] == PROBLEM


async def test_loading_is_idempotent(driver: Driver, url: str) -> None:
    """Loading again changes nothing; more made-up books come on top; the app goes on from there."""
    rows = Rows(url)

    def stored() -> list[int]:
        return [rows.count(model) for model in (Author, Book, Customer, Order, Review)]

    load(url)
    first = stored()
    load(url)
    assert stored() == first
    assert first[1] > 300
    assert rows.count(Customer, Customer.blocked.is_(True)) == 1

    load(url, books=30)
    more = stored()
    load(url, books=30)
    assert stored() == more
    assert more[1] == first[1] + 30

    app = app_of(driver).create_app(url)
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop")
    async with app.router.lifespan_context(app), http:
        await Shop(http, url).book(await Shop(http, url).author("Somebody New"))
    load(url, books=1_050)
    assert rows.count(Book) == first[1] + 1_050 + 1


async def test_the_command_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command makes the tables, loads what it is told, and says where."""
    url = f"sqlite+aiosqlite:///{tmp_path}/shop.db"

    main(["--database", url, "--books", "5"])

    assert url in capsys.readouterr().out
    assert Rows(url).count(Book, Book.sku.startswith("BOOK-")) == 5
    assert Rows(url).scalar(select(func.min(Book.price))) > Decimal(0)


async def test_both_apps_are_the_same() -> None:
    """The OpenAPI schemas of the async and the sync app are equal, and name the problems."""
    schema = asynchronous.app.openapi()

    assert schema == synchronous.app.openapi()
    assert PROBLEM in schema["paths"]["/orders"]["post"]["responses"]["409"]["content"]


@contextmanager
def statements() -> Generator[list[str]]:
    """Collect the statements that are sent, without BEGIN, PRAGMA, SET and the like."""
    sent: list[str] = []

    def note(connection: object, cursor: object, statement: str, *more: object) -> None:
        if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield sent
    event.remove(Engine, "before_cursor_execute", note)
