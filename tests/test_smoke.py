import pytest
from conftest import World, book

pytestmark = pytest.mark.anyio


async def test_commit(stocked: World):
    """x."""
    async with stocked.shop() as shop:
        found = await shop.books.all()
        assert [b.title for b in found] == ["Emma", "Persuasion"]
    assert stocked.checked_out == 0
