"""Units of work: blocks, their outcome, and the repositories that share a transaction."""

from fastkit.uow._declaration import RepositoryAttribute
from fastkit.uow.blocks import AsyncBlock, Block, BlockOptions
from fastkit.uow.outcome import Outcome, Status
from fastkit.uow.unit_of_work import AsyncUnitOfWork, UnitOfWork

__all__ = [
    "AsyncBlock",
    "AsyncUnitOfWork",
    "Block",
    "BlockOptions",
    "Outcome",
    "RepositoryAttribute",
    "Status",
    "UnitOfWork",
]
