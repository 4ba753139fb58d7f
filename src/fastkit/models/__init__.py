"""What models may have besides their columns: scopes, soft deletion, timestamps; SQLAlchemy alone."""

from fastkit.models.mixins import SoftDelete, Timestamps, UtcDateTime, Versioned, soft_delete
from fastkit.models.scopes import Scope

__all__ = ["Scope", "SoftDelete", "Timestamps", "UtcDateTime", "Versioned", "soft_delete"]
