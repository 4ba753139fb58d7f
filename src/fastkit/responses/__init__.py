"""What goes out over HTTP: problem documents."""

from fastkit.responses.problems import (
    PROBLEM_SCHEMA,
    Problem,
    ProblemHandlers,
    ProblemResponse,
    problem_type,
)

__all__ = ["PROBLEM_SCHEMA", "Problem", "ProblemHandlers", "ProblemResponse", "problem_type"]
