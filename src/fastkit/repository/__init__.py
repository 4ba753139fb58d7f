"""Repositories: the objects of one model, read and written through a session."""

from fastkit.repository._selection import Selection
from fastkit.repository.repository import AsyncReads, AsyncRepository, Reads, Repository

__all__ = ["AsyncReads", "AsyncRepository", "Reads", "Repository", "Selection"]
