"""What goes out over HTTP: problem documents, and links to other pages."""

from fastkit.responses.links import links
from fastkit.responses.problems import (
    PROBLEM_SCHEMA,
    Problem,
    ProblemHandlers,
    ProblemResponse,
    problem_type,
)

__all__ = ["PROBLEM_SCHEMA", "Problem", "ProblemHandlers", "ProblemResponse", "links", "problem_type"]
