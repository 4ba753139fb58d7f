"""Repositories from annotations: what a class of a unit of work declares, and what it is told at its definition."""

from __future__ import annotations
import __future__

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

from bookshop.models import Author, Base, Book
from fastkit.database import Database
from fastkit.errors import DeclarationError
from fastkit.repository import AsyncRepository, Repository
from fastkit.uow import RepositoryAttribute, UnitOfWork

NUMBERS = count()
PRELUDE = """
import typing
import typing as t
from typing import Annotated, ClassVar, Generic, TypeVar

import bookshop.models as models
from bookshop.models import Author, Book

from fastkit.repository import AsyncRepository, Reads, Repository
from fastkit.uow import AsyncUnitOfWork, UnitOfWork

M = TypeVar("M")
"""


class Modules:
    """Small modules from source, with or without `from __future__ import annotations`."""

    def __init__(self, *, postponed: bool) -> None:
        self.postponed = postponed
        self._made: list[str] = []

    def __call__(self, source: str) -> Any:
        """Run a module of this source and return it."""
        module = ModuleType(f"declared_{next(NUMBERS)}")
        sys.modules[module.__name__] = module
        self._made.append(module.__name__)
        flags = __future__.annotations.compiler_flag if self.postponed else 0
        code = compile(PRELUDE + dedent(source), module.__name__, "exec", flags=flags, dont_inherit=True)
        exec(code, vars(module))
        return module

    def forget(self) -> None:
        """Take the modules away again."""
        for name in self._made:
            del sys.modules[name]


@pytest.fixture(params=[True, False], ids=["postponed", "evaluated"])
def module(request: pytest.FixtureRequest) -> Iterator[Modules]:
    """Make modules whose annotations are strings, and modules whose annotations are objects."""
    modules = Modules(postponed=request.param)
    yield modules
    modules.forget()


class TestDeclares:
    """What an annotation makes."""

    def test_an_annotation_is_enough(self, module: Modules) -> None:
        """The class knows the repository, its model and its name; both colours."""
        for colour, repository in (("", Repository), ("Async", AsyncRepository)):
            shop = module(f"class Shop({colour}UnitOfWork):\n    books: {colour}Repository[Book]").Shop

            assert isinstance(shop.books, RepositoryAttribute)
            assert (shop.books.unit, shop.books.name) == (shop, "books")
            assert (shop.books.repository, shop.books.model) == (repository, Book)
            assert repr(shop.books) == "Shop.books"

    @pytest.mark.parametrize("annotation", ["models.Book", "Book", "'Book'"])
    def test_a_model_may_be_named_in_any_way(self, module: Modules, annotation: str) -> None:
        """By its module, by its name, or by its name in quotes around the whole annotation."""
        inner = annotation.strip("'")
        written = f"'Repository[{inner}]'" if annotation != inner else f"Repository[{inner}]"
        shop = module(f"class Shop(UnitOfWork):\n    books: {written}").Shop

        assert shop.books.model is Book

    def test_a_subclass_of_a_repository_names_its_model_itself(self, module: Modules) -> None:
        """Through its brackets, through a class between, and through a generic class between."""
        found = module(
            """
            class Books(Repository[Book]): ...
            class OldBooks(Books): ...
            class Audited(Repository[M]): ...
            class Both(Repository[M], Generic[M]): ...
            class Shop(UnitOfWork):
                books: Books
                old: OldBooks
                audited: Audited[Author]
                both: Both[Author]
            """
        )

        assert [getattr(found.Shop, name).model for name in ("books", "old", "audited", "both")] == [
            Book,
            Book,
            Author,
            Author,
        ]
        assert found.Shop.old.repository is found.OldBooks

    def test_private_names_and_class_variables_are_no_repositories(self, module: Modules) -> None:
        """What is no repository says so by its name or by ClassVar, in any spelling."""
        shop = module(
            """
            class Shop(UnitOfWork):
                _private: int
                __secret: int
                limit: ClassVar[int] = 3
                ceiling: typing.ClassVar[int] = 4
                bare: ClassVar = 5
                plain = 6
                books: Repository[Book]
            """
        ).Shop

        assert [shop.limit, shop.ceiling, shop.bare, shop.plain] == [3, 4, 5, 6]
        assert isinstance(shop.books, RepositoryAttribute)
        assert not hasattr(shop, "_private")

    @pytest.mark.parametrize("annotation", ["t.ClassVar[int]", "Annotated[ClassVar[int], 'doc']"])
    def test_a_class_variable_is_known_in_every_spelling(self, module: Modules, annotation: str) -> None:
        """`import typing as t` is common; the remedy that the message names must work."""
        if "Annotated" in annotation and sys.version_info < (3, 13):
            pytest.skip("Python allows this from 3.13")
        shop = module(f"class Shop(UnitOfWork):\n    limit: {annotation} = 3").Shop

        assert shop.limit == 3

    def test_a_subclass_sees_the_repositories_of_its_parents(self, module: Modules) -> None:
        """Read from the subclass, an attribute is one of the subclass; the parent keeps its own."""
        found = module(
            """
            class Shop(UnitOfWork):
                books: Repository[Book]
            class Library(Shop):
                authors: Repository[Author]
            """
        )

        assert isinstance(found.Library.books, RepositoryAttribute)
        assert found.Library.books.unit is found.Library
        assert (found.Library.books.name, found.Library.books.model) == ("books", Book)
        assert found.Shop.books.unit is found.Shop
        assert not hasattr(found.Shop, "authors")

    def test_a_subclass_may_narrow_a_repository(self, module: Modules) -> None:
        """An annotation of the same name replaces the parent's."""
        found = module(
            """
            class Books(Repository[Book]): ...
            class Shop(UnitOfWork):
                books: Repository[Book]
            class Library(Shop):
                books: Books
            """
        )

        assert found.Library.books.repository is found.Books
        assert found.Shop.books.repository is Repository

    def test_a_unit_may_be_generic_and_may_have_none(self, module: Modules) -> None:
        """A class without repositories is a unit of work like any other."""
        found = module(
            """
            class Bare(UnitOfWork): ...
            class Shop(UnitOfWork, Generic[M]):
                books: Repository[Book]
            """
        )

        assert isinstance(found.Shop[int].books, RepositoryAttribute)
        assert found.Bare._metadata == ()

    def test_a_class_may_be_defined_in_a_function(self, module: Modules) -> None:
        """Names of the function are found, as tests and factories need it."""
        shop = module(
            """
            def make():
                Local = Book
                class Books(Repository[Local]): ...
                class Shop(UnitOfWork):
                    books: Books
                    others: Repository[Local]
                return Shop
            Shop = make()
            """
        ).Shop

        assert (shop.books.model, shop.others.model) == (Book, Book)

    def test_names_of_the_class_itself_are_found(self, module: Modules) -> None:
        """A repository class may be written inside the unit that uses it."""
        shop = module(
            """
            class Shop(UnitOfWork):
                class Books(Repository[Book]): ...
                books: Books
            """
        ).Shop

        assert shop.books.model is Book

    def test_the_metadata_of_the_models_is_known_once(self, module: Modules) -> None:
        """Errors are translated with it."""
        found = module("class Shop(UnitOfWork):\n    books: Repository[Book]\n    authors: Repository[Author]")

        assert found.Shop._metadata == (Base.metadata,)

    def test_a_model_that_is_mapped_to_a_join_is_a_model(self, module: Modules) -> None:
        """It has no table of its own, and therefore several."""
        found = module(
            """
            from sqlalchemy import join
            from sqlalchemy.orm import column_property
            class Written(models.Base):
                __table__ = join(Book.__table__, Author.__table__)
                id = column_property(Book.__table__.c.id)
                writer_id = Author.__table__.c.id
            class Shop(UnitOfWork):
                written: Repository[Written]
            """
        )

        assert found.Shop.written.model is found.Written
        assert found.Shop._metadata == (Base.metadata,)

    def test_a_unit_makes_each_repository_once(self, tmp_path: Path) -> None:
        """Read from a unit, an attribute is the repository on the unit's own session."""

        class Books(Repository[Book]):
            """Books."""

        class Shop(UnitOfWork):
            """A shop."""

            books: Books

        with Database(f"sqlite:///{tmp_path}/shop.db") as database, Shop(database) as shop:
            assert type(shop.books) is Books
            assert shop.books is shop.books
            assert shop.books.session is shop.session
            assert isinstance(Shop.books, RepositoryAttribute)


REMEDY = r"Annotate it Repository\[Model\] or with a subclass"


class TestRefuses:
    """What can never work is told when the class is defined, with the attribute and the remedy."""

    @pytest.mark.parametrize(
        ("annotation", "message"),
        [
            ("int", rf"Shop\.books is not a repository\. {REMEDY}; .*ClassVar.*underscore"),
            ("Book", rf"Shop\.books is not a repository\. {REMEDY}"),
            ("list[Book]", rf"Shop\.books is not a repository\. {REMEDY}"),
            ("Reads[Book]", rf"Shop\.books is not a repository\. {REMEDY}"),
            ("Repository[Book] | None", rf"Shop\.books is not a repository\. {REMEDY}"),
            ("None", rf"Shop\.books is not a repository\. {REMEDY}"),
            ("AsyncRepository[Book]", r"Shop\.books is an? AsyncRepository, .* needs a Repository: the colours"),
            ("Repository", r"Shop\.books: .* brackets, as in Repository\[Book\]"),
            ("Repository[int]", r"Shop\.books: 'int' is not a class that SQLAlchemy maps.*Repository\[Book\]"),
            ("Repository[models.Base]", r"Shop\.books: 'Base' is not a class that SQLAlchemy maps"),
            ("Repository['Book']", r"Shop\.books: .*Book.* is not a class that SQLAlchemy maps.*Repository\[Book\]"),
            ("Generous", r"Shop\.books: .* is not a class that SQLAlchemy maps"),
        ],
    )
    def test_a_wrong_annotation(self, module: Modules, annotation: str, message: str) -> None:
        """The place is the class and the attribute."""
        with pytest.raises(DeclarationError, match=message):
            module(
                f"""
                class Generous(Repository[M]): ...
                class Shop(UnitOfWork):
                    books: {annotation}
                """
            )

    def test_the_other_wrong_colour(self, module: Modules) -> None:
        """A sync repository in an async unit, too, is told with both colours."""
        with pytest.raises(DeclarationError, match=r"Shop\.books is a Repository, .* needs an? AsyncRepository"):
            module("class Shop(AsyncUnitOfWork):\n    books: Repository[Book]")

    def test_the_place_of_a_class_in_a_function_is_its_qualified_name(self, module: Modules) -> None:
        """As Python itself names it."""
        with pytest.raises(DeclarationError, match=r"make\.<locals>\.Shop\.limit is not a repository"):
            module("def make():\n    class Shop(UnitOfWork):\n        limit: int\nmake()")

    @pytest.mark.parametrize(
        "written",
        ["'Repository[Nowhere]'", "'Nowhere'", "'Repository[models.Bok]'", "'Repository[Book'", "'Repository[Book]]'"],
    )
    def test_a_name_that_cannot_be_found(self, module: Modules, written: str) -> None:
        """A string that means nothing here is told with its place, whatever is wrong with it."""
        with pytest.raises(DeclarationError, match=r"Shop\.books"):
            module(f"class Shop(UnitOfWork):\n    books: {written}")

    def test_an_attribute_of_a_module_that_is_not_there(self) -> None:
        """A misspelt model is a declaration that can never work, however it is spelt."""
        modules = Modules(postponed=True)
        with pytest.raises(DeclarationError, match=r"Shop\.books.*Bok"):
            modules("class Shop(UnitOfWork):\n    books: Repository[models.Bok]")
        modules.forget()

    def test_the_remedy_for_a_name_under_type_checking(self) -> None:
        """The usual reason is named in the message, with the name."""
        modules = Modules(postponed=True)
        with pytest.raises(DeclarationError, match=r"Shop\.books: the name 'Later'.*TYPE_CHECKING"):
            modules(
                """
                if typing.TYPE_CHECKING:
                    from bookshop.models import Book as Later
                class Shop(UnitOfWork):
                    books: Repository[Later]
                """
            )
        modules.forget()

    @pytest.mark.parametrize("name", ["commit", "session", "outcome", "block"])
    def test_a_name_that_the_unit_needs_itself(self, module: Modules, name: str) -> None:
        """A repository called `commit` would take away the commit."""
        with pytest.raises(DeclarationError, match=name):
            module(f"class Shop(UnitOfWork):\n    {name}: Repository[Book]")

    def test_a_repository_class_of_what_is_no_model(self, module: Modules) -> None:
        """A repository class is checked by itself."""
        with pytest.raises(DeclarationError, match=r"Numbers: 'int' is not a class that SQLAlchemy maps"):
            module("class Numbers(Repository[int]): ...")
