"""Backend building blocks for FastAPI: a unit of work that cannot lie, repositories, services, problem documents."""

from fastkit.database import NAMING_CONVENTION, AsyncDatabase, Database, Retry, Timeouts
from fastkit.errors import FastkitError, NotFoundError
from fastkit.pages import Page, PageQuery
from fastkit.repository import AsyncRepository, Repository
from fastkit.schemas import From, Schema
from fastkit.service import Service, rules
from fastkit.uow import AsyncUnitOfWork, Outcome, Status, UnitOfWork, transactional

__all__ = [
    "NAMING_CONVENTION",
    "AsyncDatabase",
    "AsyncRepository",
    "AsyncUnitOfWork",
    "Database",
    "FastkitError",
    "From",
    "NotFoundError",
    "Outcome",
    "Page",
    "PageQuery",
    "Repository",
    "Retry",
    "Schema",
    "Service",
    "Status",
    "Timeouts",
    "UnitOfWork",
    "rules",
    "transactional",
]
