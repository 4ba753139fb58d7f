"""The API for an existing database: any table, any name, any type, and nothing is written."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from schema_run import Run, quiet_until_closed
from servers import DRIVERS, TEST_DATABASE, Driver, in_test_database, send
from sqlalchemy import create_engine, make_url

__all__ = ["quiet_until_closed"]  # a fixture
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "existing_database.py"
DATABASE = f"{TEST_DATABASE}_existing"
BOTH = """
CREATE TABLE artist (id INTEGER PRIMARY KEY, name VARCHAR(120));
CREATE TABLE "Long Play" ("Album ID" INTEGER PRIMARY KEY, "Title" TEXT, artist INTEGER REFERENCES artist(id),
    "default" INTEGER, "_x" INTEGER, metadata TEXT, "a.b" INTEGER, "select" INTEGER);
CREATE TABLE line ("order" INTEGER, product VARCHAR(20), price NUMERIC(9, 2), PRIMARY KEY ("order", product));
CREATE TABLE note (id INTEGER PRIMARY KEY, "order" INTEGER, product VARCHAR(20), again INTEGER REFERENCES note(id),
    FOREIGN KEY ("order", product) REFERENCES line("order", product));
CREATE TABLE log (said TEXT);
CREATE VIEW shown AS SELECT name FROM artist;
INSERT INTO artist VALUES (1, 'AC/DC'), (2, 'Accept'), (3, NULL);
INSERT INTO "Long Play" VALUES (1, 'Let There Be Rock', 1, 1, 2, 'm', 3, 4),
    (2, 'Balls to the Wall', 2, 0, 0, '', 0, 0), (3, 'Big Ones', 1, 0, 0, '', 0, 0);
INSERT INTO line VALUES (7, 'a/b', 1.50), (7, 'c', 2);
INSERT INTO note VALUES (1, 7, 'a/b', NULL), (2, 7, 'c', 1);
"""
ONLY = {
    "SQLite": """
CREATE TABLE odd (k TEXT PRIMARY KEY, born DATE, made DATETIME, photo BLOB, anything,
    nowhere INTEGER REFERENCES gone(id));
INSERT INTO odd VALUES ('x', 'garbage', 'some day', x'ff00', 1.5, 1);
""",
    "PostgreSQL": """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE odd (k UUID PRIMARY KEY, m mood, tags TEXT[], j JSON, r INT4RANGE, ts TIMESTAMPTZ, iv INTERVAL,
    photo BYTEA, ip INET, v TSVECTOR, mo MONEY, xml XML, p POINT, bi BIT(3), f FLOAT8);
INSERT INTO odd VALUES ('11111111-1111-1111-1111-111111111111', 'ok', '{a,b}', '{"a": 1}', '[1,5)',
    '2020-01-01 00:00Z', '1 day', '\\xff00', '10.0.0.1', 'a b', '1.50', '<a/>', '(1,2)', B'101', 'NaN');
CREATE SCHEMA sales;
CREATE TABLE sales.artist (id DATE PRIMARY KEY, artist INTEGER REFERENCES artist(id));
INSERT INTO sales.artist VALUES ('2020-01-02', 1);
""",
}

pytestmark = [
    pytest.mark.parametrize(
        "driver", [each for each in DRIVERS if each.name in {"sqlite", "postgresql+psycopg"}], indirect=True
    ),
    pytest.mark.filterwarnings("ignore:Did not recognize type"),
]


@pytest.fixture
def there(driver: Driver, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database that fastkit has not made."""
    url = f"sqlite:///{tmp_path / 'there.db'}"
    if driver.server == "PostgreSQL":
        send(driver.server, f"CREATE DATABASE {DATABASE}")
        url = make_url(in_test_database(driver.url)).set(database=DATABASE).render_as_string(hide_password=False)
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in f"{BOTH}{ONLY[driver.server]}".split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    engine.dispose()
    yield url
    if driver.server == "PostgreSQL":
        send(driver.server, f"DROP DATABASE {DATABASE} WITH (FORCE)")


def example(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the example as a module, made for one database."""
    monkeypatch.setenv("DATABASE", url)
    spec = importlib.util.spec_from_file_location("existing_database_in_test", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(there: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Return a client of its API."""
    with TestClient(example(there, monkeypatch).app) as client:
        yield client


def test_lists(client: TestClient) -> None:
    """Pages in the order of the key or another, whatever the names are."""
    page = client.get("/Long Play", params={"sort": "-Title", "size": 2}).json()
    assert [each["Album ID"] for each in page["items"]] == [1, 3]
    assert page["total"] == 3
    names = ["Album ID", "Title", "artist", "default", "_x", "metadata", "a.b", "select"]
    assert page["items"][0] == dict(zip(names, [1, "Let There Be Rock", 1, 1, 2, "m", 3, 4], strict=True))
    assert [each["id"] for each in client.get("/artist").json()["items"]] == [1, 2, 3]
    assert [each["id"] for each in client.get("/artist?size=1&page=3").json()["items"]] == [3]
    assert client.get("/Long Play?sort=a.b").is_success
    assert client.get("/artist?sort=nothing").status_code == 422
    assert client.get("/artist?size=1000000").status_code == 422


def test_one_row_by_its_key(client: TestClient) -> None:
    """A key of several columns is divided by slashes, of which the last part may have some."""
    assert client.get("/artist/1").json() == {"id": 1, "name": "AC/DC"}
    assert client.get("/line/7/a/b").json()["product"] == "a/b"
    assert float(client.get("/line/7/c").json()["price"]) == 2
    assert [client.get(path).status_code for path in ("/artist/9", "/line/7", "/line/7/", "/line/8/c")] == [404] * 4
    assert client.get("/artist/one").status_code in {404, 422}
    assert client.get("/artist/1%00").status_code in {404, 422}


def test_related_rows(client: TestClient) -> None:
    """Of each foreign key: of several columns, and of the same table."""
    albums = client.get("/Long Play/artist/1?sort=Title").json()
    assert [each["Album ID"] for each in albums["items"]] == [3, 1]
    assert albums["total"] == 2
    assert client.get("/note/order,product/7/a/b").json()["items"][0]["id"] == 1
    assert client.get("/note/order,product/7").json()["total"] == 0
    assert [each["id"] for each in client.get("/note/again/1").json()["items"]] == [2]


def test_values_of_any_type(client: TestClient, driver: Driver) -> None:
    """What JSON has no form for is text; what the column's type would refuse is shown as it is."""
    row = client.get("/odd").json()["items"][0]
    assert row == client.get(f"/odd/{row['k']}").json()
    assert row["photo"] == "_wA="
    if driver.server == "SQLite":
        assert (row["born"], row["made"], row["anything"]) == ("garbage", "some day", 1.5)
        assert client.get("/odd/nowhere/1").json()["total"] == 1
        return
    assert (row["m"], row["tags"], row["j"], row["ts"], row["iv"]) == (
        *("ok", ["a", "b"], {"a": 1}, "2020-01-01T00:00:00Z", "P1D"),
    )
    assert (row["ip"], row["bi"], row["p"], row["f"]) == ("10.0.0.1", "101", "(1,2)", None)
    assert client.get("/odd?sort=-ts,m").is_success
    assert [client.get(f"/odd?sort={each}").status_code for each in ("j", "p", "xml")] == [422] * 3


def test_other_schemas(client: TestClient, driver: Driver) -> None:
    """Have their name before that of the table."""
    if driver.server == "SQLite":
        pytest.skip("a file is one schema")
    assert client.get("/sales.artist/2020-01-02").json() == {"id": "2020-01-02", "artist": 1}
    assert client.get("/sales.artist/artist/1").json()["total"] == 1


def test_what_cannot_be_addressed_is_left_out(there: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Tables without a primary key, with a word about it."""
    module = example(there, monkeypatch)

    assert capsys.readouterr().out == "log is left out: it has no primary key.\n"
    with TestClient(module.app) as client:
        assert client.get("/log").status_code == 404
        paths = client.get("/openapi.json").json()["paths"]
    assert {"/Long Play", "/Long Play/{key}", "/Long Play/artist/{key}"} <= paths.keys()
    assert {each for path in paths.values() for each in path} == {"get"}


def test_a_file_that_may_only_be_read(there: str, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is served, and stays as it is."""
    if driver.server != "SQLite":
        pytest.skip("about files")
    file = Path(make_url(there).database or "")
    before = file.read_bytes()
    with TestClient(example(f"sqlite:///file:{file}?mode=ro&uri=true", monkeypatch).app) as client:
        assert client.get("/artist").json()["total"] == 3

    assert file.read_bytes() == before


def test_nothing_can_be_written(client: TestClient) -> None:
    """There are no other methods."""
    assert {client.request(method, "/artist/1").status_code for method in ("POST", "PUT", "PATCH", "DELETE")} == {405}


@pytest.mark.usefixtures("quiet")
def test_it_answers_as_its_schema_says(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schemathesis finds nothing: no crash, no answer that the schema does not know, nothing taken that it forbids."""
    run = Run(example(there, monkeypatch).app, examples=5)

    assert run.faults == []
    assert run.cases > 100
