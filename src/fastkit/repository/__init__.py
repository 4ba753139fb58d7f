"""Repositories: the rows of one model, read and written through a session, as objects or into response models."""

from fastkit.repository._selection import Selection
from fastkit.repository.reader import AsyncReader, Reader, check_reader
from fastkit.repository.repository import AsyncReads, AsyncRepository, Reads, Repository

__all__ = ["AsyncReader", "AsyncReads", "AsyncRepository", "Reader", "Reads", "Repository", "Selection", "check_reader"]
