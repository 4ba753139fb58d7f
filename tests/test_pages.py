"""Pages as values."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from bookshop.models import Book
from fastkit.pages import LARGEST_SIZE, LAST_PAGE, Page, PageQuery, Slice


class TestPageQuery:
    """`PageQuery`."""

    def test_the_default_is_the_first_page_of_twenty(self) -> None:
        """A client that says nothing gets the beginning."""
        query = PageQuery()

        assert (query.page, query.size, query.offset) == (1, 20, 0)

    @pytest.mark.parametrize(("page", "size", "offset"), [(1, 1, 0), (2, 20, 20), (3, 7, 14), (LAST_PAGE, 100, None)])
    def test_the_offset_is_what_comes_before(self, page: int, size: int, offset: int | None) -> None:
        """The largest offset fits into the 64 bits that a database takes."""
        query = PageQuery(page=page, size=size)

        assert query.offset == ((page - 1) * size if offset is None else offset)
        assert query.offset + size < 2**63

    @pytest.mark.parametrize(
        "wrong",
        [{"page": 0}, {"page": -1}, {"page": LAST_PAGE + 1}, {"size": 0}, {"size": LARGEST_SIZE + 1}, {"page": "x"}],
    )
    def test_what_is_out_of_bounds_is_refused(self, wrong: dict[str, Any]) -> None:
        """A client cannot ask for what would break or drown the database."""
        with pytest.raises(ValidationError):
            PageQuery(**wrong)

    def test_text_of_a_query_string_is_read(self) -> None:
        """As a route gets it."""
        query = PageQuery.model_validate({"page": "3", "size": "5"})

        assert (query.page, query.size) == (3, 5)

    def test_it_cannot_be_changed(self) -> None:
        """A value that was checked stays checked."""
        with pytest.raises(ValidationError, match="frozen"):
            PageQuery().page = 0

    def test_a_subclass_sets_other_bounds(self) -> None:
        """One app may allow longer pages."""

        class LongPages(PageQuery):
            """Pages of up to a thousand rows."""

            size: int = Field(default=500, ge=1, le=1000)

        assert LongPages(page=2).offset == 500
        with pytest.raises(ValidationError):
            LongPages(size=1001)


class Out(BaseModel):
    """What a client sees of a book."""

    title: str


def convert(title: str) -> Out:
    """Return what a client sees."""
    return Out(title=title)


class TestPage:
    """`Page`."""

    @pytest.fixture
    def page(self) -> Page[str]:
        """Return the second page of five titles."""
        return Page[str](items=["Emma", "Persuasion"], total=5, page=2, size=2)

    def test_map_converts_each_item_and_keeps_the_rest(self, page: Page[str]) -> None:
        """The items are new, the numbers the same, the page itself unchanged."""
        mapped = page.map(convert)

        assert list(mapped.items) == [Out(title="Emma"), Out(title="Persuasion")]
        assert (mapped.total, mapped.page, mapped.size) == (5, 2, 2)
        assert list(page.items) == ["Emma", "Persuasion"]
        assert isinstance(mapped, Page)

    def test_json_of_a_mapped_page_holds_the_items(self, page: Page[str]) -> None:
        """It can be answered as it is."""
        mapped = page.map(convert)
        expected = {"items": [{"title": "Emma"}, {"title": "Persuasion"}], "total": 5, "page": 2, "size": 2}

        assert mapped.model_dump() == expected
        assert Page[Out].model_validate_json(mapped.model_dump_json()).model_dump() == expected

    def test_a_mapped_page_passes_the_check_of_a_response_model(self, page: Page[str]) -> None:
        """FastAPI checks what a route returns against `Page[Out]`."""
        checked = Page[Out].model_validate(page.map(convert), from_attributes=True)

        assert list(checked.items) == [Out(title="Emma"), Out(title="Persuasion")]

    def test_a_page_of_objects_is_read_by_a_page_of_schemas(self) -> None:
        """Models that Pydantic does not know are items like any other."""
        page = Page[Book](items=[Book(title="Emma")], total=1, page=1, size=20)
        checked = Page[Out].model_validate(page.map(lambda book: Out(title=book.title)), from_attributes=True)

        assert checked.items[0].title == "Emma"

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda page: pickle.loads(pickle.dumps(page))])
    def test_a_mapped_page_can_be_copied_and_pickled(self, page: Page[str], duplicate: Any) -> None:
        """A cache stores pages."""
        mapped = page.map(str.upper)
        again = duplicate(mapped)

        assert again.model_dump() == mapped.model_dump()

    def test_the_schema_of_a_page_names_its_items(self) -> None:
        """As OpenAPI shows it."""
        schema = Page[Out].model_json_schema()

        assert schema["properties"]["items"]["items"] == {"$ref": "#/$defs/Out"}
        assert schema["required"] == ["items", "total", "page", "size"]


def test_a_mapped_slice_keeps_the_rest() -> None:
    """Whether there are more, and which it is."""
    part = Slice[str](items=["Emma"], has_more=True, page=3, size=1)

    assert part.map(convert) == Slice[Out](items=[Out(title="Emma")], has_more=True, page=3, size=1)
