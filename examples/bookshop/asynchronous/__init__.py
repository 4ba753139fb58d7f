"""The bookshop with `async def`; its twin without async stands beside it."""
