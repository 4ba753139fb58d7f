"""What a client says that it has seen, checked against the row that it wants to change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm.attributes import instance_state

from fastkit.database import ANOTHER_VERSION, pin
from fastkit.errors import PreconditionFailedError
from fastkit.repository.versions import modified_attribute, version_told_of, versioned


@dataclass(frozen=True, slots=True)
class Precondition:
    """
    Which versions of a row a change may start from; `Precondition()` is any.

    A route makes one of the headers of its request (`fastkit.deps.IfMatch`), a service checks it:

    >>> book = await shop.books.get_one(book_id)
    >>> if_match.check(book)
    >>> apply(book, patch)

    Attributes:
        versions: The versions that the client has seen, as texts; None for any.
        not_versions: The versions that it does not want to change.
        unmodified_since: When it has seen the row; only looked at without *versions*.
    """

    versions: frozenset[str] | None = None
    not_versions: frozenset[str] = frozenset()
    unmodified_since: datetime | None = None

    @property
    def is_given(self) -> bool:
        """Return whether anything is asked."""
        return self != Precondition()

    def check(self, entity: object) -> None:
        """
        Let the change of an object go on only if its row is a version that the client has seen.

        From here on the object is written in this version or not at all, though it may be read again before.

        Args:
            entity: An object of a class with a version (`version_id_col`).

        Raises:
            PreconditionFailedError: It is another version: now, or when it is written.
            DeclarationError: Its class has no version.
        """
        versioned(type(entity), "Precondition.check()")
        if not self.is_given:
            return
        version = version_told_of(entity)
        if version in self.not_versions or not self._has_seen(entity, version):
            raise PreconditionFailedError(ANOTHER_VERSION, table=instance_state(entity).mapper.local_table.description)
        pin(entity)

    def check_unversioned(self) -> None:
        """
        Let the change of a row without a version go on only if no version of it is asked for.

        Raises:
            PreconditionFailedError: One is: what has no version is none that the client has seen.
        """
        if self.versions is not None:
            raise PreconditionFailedError("The row has no version that could be compared: change it without If-Match.")

    def _has_seen(self, entity: object, version: str) -> bool:
        if self.versions is not None:
            return version in self.versions
        modified = modified_attribute(type(entity))
        if self.unmodified_since is None or modified is None:
            return True
        changed: datetime = getattr(entity, modified.key)
        return changed.replace(microsecond=0) <= self.unmodified_since
