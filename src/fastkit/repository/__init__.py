"""Repositories: the rows of one model, read and written through a session, as objects or into response models."""

from fastkit.repository._selection import Selection
from fastkit.repository.bulk import AsyncBulk, Bulk
from fastkit.repository.filters import (
    Between,
    Contains,
    Equals,
    IsNull,
    OneOf,
    Range,
    Search,
    StartsWith,
    Where,
)
from fastkit.repository.json_reader import AsyncJsonReader, JsonReader
from fastkit.repository.list_query import ListQuery, Sort
from fastkit.repository.reader import AsyncReader, Reader, check_reader
from fastkit.repository.repository import AsyncReads, AsyncRepository, Reads, Repository

__all__ = [
    "AsyncBulk",
    "AsyncJsonReader",
    "AsyncReader",
    "AsyncReads",
    "AsyncRepository",
    "Between",
    "Bulk",
    "Contains",
    "Equals",
    "IsNull",
    "JsonReader",
    "ListQuery",
    "OneOf",
    "Range",
    "Reader",
    "Reads",
    "Repository",
    "Search",
    "Selection",
    "Sort",
    "StartsWith",
    "Where",
    "check_reader",
]
