"""Declared models whose rows refer to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.keys import KeyedOut
from models.kinds import Base, Kind, keyed, labelled
from sqlalchemy import Column, ForeignKey, String, Table
from sqlalchemy.orm import Mapped, mapped_column, relationship, selectinload

from fastkit.schemas import Schema

# -- rows that refer to rows of the same table


class Node(Base):
    """A tree."""

    __tablename__ = "kd_node"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    label: Mapped[str] = mapped_column(String(30), unique=True)
    rank: Mapped[int]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("kd_node.id", ondelete="SET NULL"))
    parent: Mapped[Node | None] = relationship(remote_side="Node.id", back_populates="children")
    children: Mapped[list[Node]] = relationship(back_populates="parent", order_by="Node.id")


class NodeOut(KeyedOut):
    """Up and down."""

    parent: KeyedOut | None
    children: list[KeyedOut]


def _node(number: int) -> dict[str, Any]:
    return {**keyed(number), "parent_id": number // 2 or None}


SELF_REFERENCE = Kind(
    "self-reference",
    Node,
    [Node.__table__],
    row=_node,
    out=NodeOut,
    shown=lambda number: {
        **keyed(number),
        "parent": keyed(number // 2) if number > 1 else None,
        "children": [keyed(each) for each in (2 * number, 2 * number + 1) if each < 6],
    },
    change=("parent_id", 1),
    changed={"parent": keyed(1)},
    missing=99,
    key=lambda number: number,
    loads=[selectinload(Node.parent), selectinload(Node.children)],
    is_returned_by_insert=False,
)


# -- many to many

POST_TAG = Table(
    "kd_post_tag",
    Base.metadata,
    Column("post_id", ForeignKey("kd_post.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("kd_tag.id"), primary_key=True),
)


class Tag(Base):
    """What is said of many."""

    __tablename__ = "kd_tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30))
    posts: Mapped[list[Post]] = relationship(secondary=POST_TAG, back_populates="tags")


class Post(Base):
    """What much is said of."""

    __tablename__ = "kd_post"

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(String(30), unique=True)
    rank: Mapped[int]
    tags: Mapped[list[Tag]] = relationship(secondary=POST_TAG, back_populates="posts", order_by=Tag.name)


class TagOut(Schema):
    """What is said."""

    name: str


class PostOut(KeyedOut):
    """What is said of it."""

    tags: list[TagOut]


def _tags(number: int) -> list[dict[str, Any]]:
    return [{"name": f"tag {each}"} for each in (2, 3) if number % each == 0]


def _posts(numbers: Sequence[int]) -> list[Any]:
    known = {f"tag {each}": Tag(name=f"tag {each}") for each in (2, 3)}
    return [Post(**labelled(number), tags=[known[each["name"]] for each in _tags(number)]) for number in numbers]


MANY_TO_MANY = Kind(
    "many to many",
    Post,
    [Tag.__table__, Post.__table__, POST_TAG],
    row=labelled,
    out=PostOut,
    shown=lambda number: {**labelled(number), "tags": _tags(number)},
    bare=lambda number: {**labelled(number), "tags": []},
    change=("rank", 40),
    changed={"rank": 40},
    missing=99_999_999,
    make=_posts,
    loads=[selectinload(Post.tags)],
    is_returned_by_insert=False,
)


class Playlist(Base):
    """What holds tracks, each at a place."""

    __tablename__ = "kd_playlist"

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(String(30), unique=True)
    rank: Mapped[int]
    entries: Mapped[list[Entry]] = relationship(
        back_populates="playlist", order_by="Entry.place", cascade="all, delete-orphan", passive_deletes=True
    )


class Entry(Base):
    """The association: its key is those of both."""

    __tablename__ = "kd_entry"

    playlist_id: Mapped[int] = mapped_column(ForeignKey("kd_playlist.id", ondelete="CASCADE"), primary_key=True)
    track_id: Mapped[int] = mapped_column(ForeignKey("kd_track.id"), primary_key=True)
    place: Mapped[int]
    playlist: Mapped[Playlist] = relationship(back_populates="entries")
    track: Mapped[Track] = relationship()


class Track(Base):
    """What is on many lists."""

    __tablename__ = "kd_track"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(30))


class TrackOut(Schema):
    """What is played."""

    title: str


class EntryOut(Schema):
    """What is played, and when."""

    place: int
    track: TrackOut


class PlaylistOut(KeyedOut):
    """What is played after what."""

    entries: list[EntryOut]


def _entries(number: int) -> list[dict[str, Any]]:
    titles = [f"track {each}" for each in (1, 2, 3) if number >= each][::-1]
    return [{"place": place, "track": {"title": title}} for place, title in enumerate(titles)]


def _playlists(numbers: Sequence[int]) -> list[Any]:
    known = {f"track {each}": Track(title=f"track {each}") for each in (1, 2, 3)}
    entries = lambda number: [
        Entry(place=each["place"], track=known[each["track"]["title"]]) for each in _entries(number)
    ]
    return [Playlist(**labelled(number), entries=entries(number)) for number in numbers]


ASSOCIATION = Kind(
    "association object",
    Playlist,
    [Playlist.__table__, Track.__table__, Entry.__table__],
    row=labelled,
    out=PlaylistOut,
    shown=lambda number: {**labelled(number), "entries": _entries(number)},
    bare=lambda number: {**labelled(number), "entries": []},
    change=("rank", 40),
    changed={"rank": 40},
    missing=99_999_999,
    make=_playlists,
    loads=[selectinload(Playlist.entries).selectinload(Entry.track)],
    is_returned_by_insert=False,
)

RELATED = [SELF_REFERENCE, MANY_TO_MANY, ASSOCIATION]
