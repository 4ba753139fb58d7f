"""What goes out over HTTP: problem documents, entity tags, links to other pages, and rows while they are read."""

from fastkit.responses._tables import check_csv
from fastkit.responses.etags import etag
from fastkit.responses.handlers import ProblemHandlers
from fastkit.responses.links import links
from fastkit.responses.problems import PROBLEM_SCHEMA, Problem, ProblemResponse, problem_type
from fastkit.responses.streams import (
    CsvStream,
    CutStreamError,
    JsonStream,
    NdjsonStream,
    stream_csv,
    stream_json,
    stream_ndjson,
)

__all__ = [
    "PROBLEM_SCHEMA",
    "CsvStream",
    "CutStreamError",
    "JsonStream",
    "NdjsonStream",
    "Problem",
    "ProblemHandlers",
    "ProblemResponse",
    "check_csv",
    "etag",
    "links",
    "problem_type",
    "stream_csv",
    "stream_json",
    "stream_ndjson",
]
