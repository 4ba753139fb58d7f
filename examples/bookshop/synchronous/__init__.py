"""The bookshop with `def`, without async; its twin stands beside it."""
