"""The service layer: use cases and their rules, free of any framework."""

from fastkit.service.rules import Rules, rules
from fastkit.service.service import Service

__all__ = ["Rules", "Service", "rules"]
