"""The service layer: use cases and their rules, free of any framework."""

from fastkit.service.crud import Action, AsyncCrudService, CrudService, Shown
from fastkit.service.preconditions import Precondition
from fastkit.service.rules import Rules, rules
from fastkit.service.service import Service

__all__ = ["Action", "AsyncCrudService", "CrudService", "Precondition", "Rules", "Service", "Shown", "rules"]
