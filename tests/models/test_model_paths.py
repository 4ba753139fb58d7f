"""A path names a row of a model of any kind that has a key of one column."""

from typing import Annotated, Any

import pytest
from deps.apps import answer, app_of, coloured, problem_of
from models.stock import ON_ONE_EACH, Stock, engines, stock, untouched, worlds

from fastkit.deps import check_routes, found
from fastkit.errors import DeclarationError

pytestmark = [pytest.mark.anyio, ON_ONE_EACH]
__all__ = ["engines", "stock", "untouched", "worlds"]


async def test_found(stock: Stock) -> None:
    """By its key, as an object and as a response model; 404 where there is none; a key of two columns is refused."""
    rows: Any = stock.unit.rows
    if isinstance(stock.kind.missing, tuple):
        with pytest.raises(DeclarationError, match="has 2 columns"):
            found(rows, path="key")
        return
    app = app_of(stock)

    async def label(row: Annotated[Any, found(rows, path="key")]) -> str:
        return str(row.label)

    async def shown(row: Annotated[Any, found(rows, stock.kind.out, path="key")]) -> Any:
        return row

    app.get("/labels/{key}")(coloured(stock, label))
    app.get("/rows/{key}", response_model=stock.kind.out)(coloured(stock, shown))
    check_routes(app)
    labels = [await answer(app, f"/labels/{stock.keys[number]}") for number in (3, 4)]
    row = await answer(app, f"/rows/{stock.keys[2]}")
    missing = problem_of(await answer(app, f"/rows/{stock.kind.missing}"))

    assert [each.json() for each in labels] == ["row 3", "row 4"]
    assert row.json() == stock.kind.out.model_validate(stock.stored()[2]).model_dump(mode="json")
    assert missing["status"] == 404
