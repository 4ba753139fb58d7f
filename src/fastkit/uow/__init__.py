"""Units of work: blocks, their outcome, and the repositories that share a transaction."""

from fastkit.uow._declaration import RepositoryAttribute
from fastkit.uow.blocks import AsyncBlock, AsyncSavepoint, Block, BlockOptions, Savepoint
from fastkit.uow.outcome import Outcome, Status
from fastkit.uow.tracing import Traced
from fastkit.uow.transactional import transactional
from fastkit.uow.unit_of_work import AsyncUnitOfWork, UnitOfWork

__all__ = [
    "AsyncBlock",
    "AsyncSavepoint",
    "AsyncUnitOfWork",
    "Block",
    "BlockOptions",
    "Outcome",
    "RepositoryAttribute",
    "Savepoint",
    "Status",
    "Traced",
    "UnitOfWork",
    "transactional",
]
