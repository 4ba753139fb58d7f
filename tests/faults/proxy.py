"""
A TCP proxy between a driver and its server that reads along, and breaks the line exactly where a test asks for it.

    with Proxy(("127.0.0.1", 5432), "PostgreSQL") as proxy:
        database = Database(proxy.url(url))
        fault = proxy.arm(CUT, after="COMMIT")
        ...
        assert fault.happened

It runs in a thread of its own, so that sync and async tests use it alike. It knows no TLS: it tells PostgreSQL clients
that the server has none.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from sqlalchemy import make_url

PATIENCE = 5.0
"""Seconds that anything in a test may take before the test gives up on it."""


# -- what can go wrong


@dataclass(frozen=True, slots=True)
class Cut:
    """Close both sides: the server sees its client leave, the client its server."""

    abruptly: bool = False
    """Whether both see a reset (RST), as when a host dies, instead of an orderly end (FIN)."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Forward nothing until `Fault.release()`, or for ever; only that the client closes reaches the server."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """Do something (in a thread, such as killing the connection from another one), then go on as if nothing was."""

    action: Callable[[], object]


Breakage = Cut | Stall | Call

CUT = Cut()
RESET = Cut(abruptly=True)
STALL = Stall()


def delay(seconds: float) -> Stall:
    """Return a stall that ends by itself."""
    return Stall(seconds)


Match = str | Callable[[str], bool]
"""How the SQL of a message begins, whatever its case; or a predicate on it."""


@dataclass(eq=False, slots=True)
class Fault:
    """
    One breakage, armed for one message.

    Attributes:
        breakage: What goes wrong.
        match: Which message it waits for.
        is_after: Whether the server has processed the message, and its answer is what does not come through.
        statement: The SQL that it hit, or None so far.
    """

    breakage: Breakage
    match: Match
    is_after: bool
    statement: str | None = None
    _failure: BaseException | None = None
    _reached: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    @property
    def happened(self) -> bool:
        """Return whether the message came; "after" it, whether its answer came too. Raises what a `Call` raised."""
        if self._failure is not None:
            raise self._failure
        return self._reached.is_set()

    def wait(self) -> None:
        """Wait until it happens; in async code: `await asyncio.to_thread(fault.wait)`."""
        self._reached.wait(PATIENCE)
        assert self.happened, f"the fault at {self.match!r} did not happen"

    def release(self) -> None:
        """End a stall: what was withheld goes its way."""
        self._released.set()

    def hits(self, statement: str) -> bool:
        """Return whether it waits for this statement."""
        if callable(self.match):
            return self.match(statement)
        return statement.upper().startswith(self.match.upper())


# -- what the protocols look like


@dataclass(frozen=True, slots=True)
class Message:
    """
    One message as it came over the wire.

    Attributes:
        raw: Its bytes.
        statement: The SQL that the server runs when it gets this message, or None.
        ends: From the client: whether the server answers it. From the server: whether this is that answer.
    """

    raw: bytes
    statement: str | None = None
    ends: bool = False


class Wire(Protocol):
    """Enough of a protocol to follow one connection."""

    unanswered: int
    """How many answers the server owes when the connection begins."""

    def from_client(self, data: bytes) -> Iterator[Message]:
        """Yield each complete message; the rest waits for more data."""
        ...

    def from_server(self, data: bytes) -> Iterator[Message]:
        """Same as `from_client`, for the other direction."""
        ...

    def refused(self, message: Message) -> bytes | None:
        """Return what to answer in place of the server, or None to let the message pass."""
        ...


TLS_REQUESTS = {80877103, 80877104}


class PostgreSQLWire:
    """
    PostgreSQL 3.0, simple and extended.

    psycopg sends COMMIT by Query, asyncpg too; statements with parameters go by Parse, Bind and Execute, and Execute
    is what runs them. ReadyForQuery ends each answer.
    """

    unanswered = 1  # the start-up is answered by a ReadyForQuery too

    def __init__(self) -> None:
        self._client, self._server = bytearray(), bytearray()
        self._started = False
        self._prepared: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}

    def from_client(self, data: bytes) -> Iterator[Message]:
        """Same as `Wire.from_client`."""
        self._client += data
        while not self._started and len(self._client) >= 8:
            length, code = struct.unpack_from("!ii", self._client)
            if len(self._client) < length:
                return
            self._started = code not in TLS_REQUESTS  # else the real start-up follows
            yield Message(_take(self._client, length))
        while self._started and (raw := _take_tagged(self._client)):
            yield Message(raw, self._statement(raw), ends=raw[:1] in b"QSF")

    def _statement(self, raw: bytes) -> str | None:
        tag, body = raw[:1], raw[5:]
        if tag == b"Q":
            return _text(body.rstrip(b"\0"))
        if tag == b"P":
            name, sql, *_ = body.split(b"\0", 2)
            self._prepared[name] = _text(sql)
        if tag == b"B":
            portal, name, *_ = body.split(b"\0", 2)
            self._portals[portal] = self._prepared.get(name, "")
        return self._portals.get(body.split(b"\0", 1)[0]) if tag == b"E" else None

    def from_server(self, data: bytes) -> Iterator[Message]:
        """Same as `Wire.from_server`."""
        self._server += data
        while raw := _take_tagged(self._server):
            yield Message(raw, ends=raw[:1] == b"Z")

    def refused(self, message: Message) -> bytes | None:
        """Same as `Wire.refused`."""
        return b"N" if not self._started and len(message.raw) == 8 else None


class MariaDBWire:
    """
    MariaDB and MySQL, where a command is a packet with the number 0 and a statement the command COM_QUERY.

    The first packet of an answer has the number 1; of an INSERT or a COMMIT it is the whole answer.
    """

    unanswered = 0  # the login is a dialogue of its own

    def __init__(self) -> None:
        self._client, self._server = bytearray(), bytearray()

    def from_client(self, data: bytes) -> Iterator[Message]:
        """Same as `Wire.from_client`."""
        self._client += data
        while raw := _take_packet(self._client):
            is_command = raw[3] == 0
            is_query = is_command and raw[4:5] == b"\x03"
            yield Message(raw, _text(raw[5:]) if is_query else None, ends=is_command)

    def from_server(self, data: bytes) -> Iterator[Message]:
        """Same as `Wire.from_server`."""
        self._server += data
        while raw := _take_packet(self._server):
            yield Message(raw, ends=raw[3] == 1)

    def refused(self, message: Message) -> bytes | None:
        """Same as `Wire.refused`."""
        return None


def _take(buffer: bytearray, length: int) -> bytes:
    raw = bytes(buffer[:length])
    del buffer[:length]
    return raw


def _take_tagged(buffer: bytearray) -> bytes | None:
    length = 1 + struct.unpack_from("!i", buffer, 1)[0] if len(buffer) >= 5 else 5
    return _take(buffer, length) if len(buffer) >= length else None


def _take_packet(buffer: bytearray) -> bytes | None:
    length = 4 + int.from_bytes(buffer[:3], "little")
    return _take(buffer, length) if len(buffer) >= max(length, 4) else None


_COMMENTS = re.compile(r"^(?:\s+|--[^\n]*\n|/\*.*?\*/)+", re.DOTALL)


def _text(raw: bytes) -> str:
    return _COMMENTS.sub("", raw.decode("utf-8", "replace"))


WIRES: dict[str, Callable[[], Wire]] = {"PostgreSQL": PostgreSQLWire, "MariaDB": MariaDBWire}


# -- the proxy


class Proxy:
    """
    The line between a driver and its server; a context manager.

    Args:
        server: Host and port of the real server.
        kind: "PostgreSQL" or "MariaDB".

    Attributes:
        address: Host and port to connect to instead.
        statements: Every statement that arrived here, in order, whether it was let through or not.
    """

    address: tuple[str, int]

    def __init__(self, server: tuple[str, int], kind: str) -> None:
        self._server = server
        self._wire = WIRES[kind]
        self._faults: list[Fault] = []
        self._lines: set[_Line] = set()
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._refuses = self._is_silent = False
        self.statements: list[str] = []

    def url(self, url: str) -> str:
        """Return the database URL with this proxy in place of the server."""
        host, port = self.address
        return make_url(url).set(host=host, port=port).render_as_string(hide_password=False)

    def arm(self, breakage: Breakage, *, before: Match | None = None, after: Match | None = None) -> Fault:
        """
        Let something go wrong at the next message that matches, once.

        Args:
            breakage: `CUT`, `RESET`, `STALL`, `delay(seconds)` or `Call(action)`.
            before: The message that does not reach the server.
            after: The message that the server processes, and whose answer does not reach the client.
        """
        if (before is None) == (after is None):
            raise ValueError("give either before= or after=")
        fault = Fault(breakage, before if after is None else after, after is not None)
        with self._lock:
            self._faults.append(fault)
        return fault

    @property
    def armed(self) -> int:
        """Return how many faults did not happen yet."""
        with self._lock:
            return len(self._faults)

    def disarm(self) -> None:
        """Forget what did not happen yet, and let new connections through."""
        with self._lock:
            self._faults.clear()
        self._refuses = False
        if self._is_silent:
            self._is_silent = False
            self.cut_all()

    def cut_all(self, *, abruptly: bool = False) -> None:
        """Cut the connections that exist now, whatever they do; new ones can be made."""
        self._run(self._cut_all(abruptly))

    def refuse(self) -> None:
        """Cut everything, and close each new connection as soon as it is made, until `disarm()`."""
        self._refuses = True
        self.cut_all()

    def silence(self) -> None:
        """Forward nothing more on any line, and accept new connections without a word, until `disarm()` cuts them."""
        self._is_silent = True
        self._run(self._silence_all())

    @property
    def connections(self) -> int:
        """Return how many connections there are now."""
        return len(self._lines)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listener = self._run(self._listen())
        self.address = self._listener.sockets[0].getsockname()[:2]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(self._accept, "127.0.0.1", 0)

    def _accept(self) -> _End:
        line = _Line(self, self._wire())
        if not self._refuses:
            self._lines.add(line)
            line.start(self._server)
            if self._is_silent:
                line.silence()
        return line.client

    async def _cut_all(self, abruptly: bool) -> None:
        for line in list(self._lines):
            line.cut(abruptly=abruptly)

    async def _silence_all(self) -> None:
        for line in self._lines:
            line.silence()

    async def _close(self) -> None:
        self._listener.close()
        tasks = [task for line in self._lines for task in line.tasks]
        for line in list(self._lines):
            line.cut()
        with self._lock:
            for fault in self._faults:
                fault.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    def next_fault(self, statement: str) -> Fault | None:
        """Return the fault that this statement sets off, and forget it, because each happens once."""
        with self._lock:
            self.statements.append(statement)
            fault = next((fault for fault in self._faults if fault.hits(statement)), None)
            if fault is not None:
                fault.statement = statement
                self._faults.remove(fault)
            return fault


class _End(asyncio.Protocol):
    """One end of a line: what arrives is queued, that the peer has gone is told at once."""

    def __init__(self, gone: Callable[[], None], made: Callable[[_End], None]) -> None:
        self.arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.transport: asyncio.Transport | None = None
        self._gone, self._made = gone, made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._made(self)

    def data_received(self, data: bytes) -> None:
        self.arrived.put_nowait(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.arrived.put_nowait(None)
        self._gone()

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def close(self, *, abruptly: bool) -> None:
        if self.transport is None:
            return
        if abruptly:
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        else:
            self.transport.close()


class _Line:
    """One connection of a client, and the one to the server that was made for it."""

    def __init__(self, proxy: Proxy, wire: Wire) -> None:
        self._proxy, self._wire = proxy, wire
        self._open = asyncio.Event()
        self._open.set()
        self._is_cut = self._is_silent = False
        self._owed = wire.unanswered
        self._withheld: tuple[Fault, int] | None = None
        self.client = _End(self._client_gone, self._client_made)
        self.server = _End(lambda: None, lambda _: None)
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, address: tuple[str, int]) -> None:
        self.tasks.append(asyncio.ensure_future(self._connect(address)))

    async def _connect(self, address: tuple[str, int]) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.server, *address)
        except OSError:
            self.cut()
            return
        if self._is_cut:
            self.server.close(abruptly=False)
        self.tasks += [asyncio.ensure_future(self._upstream()), asyncio.ensure_future(self._downstream())]

    def _client_made(self, end: _End) -> None:
        if not self.tasks:
            end.close(abruptly=False)  # refused

    def _client_gone(self) -> None:
        if not self._open.is_set():
            self.cut()  # a stall withholds data, not that the client has gone

    def cut(self, *, abruptly: bool = False) -> None:
        if self._is_cut:
            return
        self._is_cut = True
        self._proxy._lines.discard(self)
        for end in (self.client, self.server):
            end.close(abruptly=abruptly)
            end.arrived.put_nowait(None)
        self._open.set()

    def silence(self) -> None:
        """Let nothing through any more."""
        self._is_silent = True
        self._open.clear()

    def _go_on(self) -> None:
        if not self._is_silent or self._is_cut:
            self._open.set()

    async def _upstream(self) -> None:
        while (data := await self.client.arrived.get()) is not None and not self._is_cut:
            for message in self._wire.from_client(data):
                await self._open.wait()
                if (answer := self._wire.refused(message)) is not None:
                    self.client.write(answer)
                    continue
                fault = self._proxy.next_fault(message.statement) if message.statement is not None else None
                if fault is not None and fault.is_after:
                    self._withheld = fault, self._owed
                elif fault is not None:
                    await self._carry_out(fault)
                    await self._open.wait()
                if self._is_cut:
                    return
                self._owed += message.ends
                self.server.write(message.raw)
        self.cut()

    async def _downstream(self) -> None:
        kept = b""
        while (data := await self.server.arrived.get()) is not None and not self._is_cut:
            for message in self._wire.from_server(data):
                await self._open.wait()
                self._owed -= message.ends and self._owed > 0
                kept += message.raw
                if self._withheld is not None:
                    fault, ahead = self._withheld
                    self._withheld = fault, ahead - (message.ends and ahead > 0)
                    if ahead == 0 and not message.ends:
                        continue  # the answer is not complete yet
                    if ahead == 0:
                        self._withheld = None
                        await self._carry_out(fault)
                if self._is_cut:
                    return
                self.client.write(kept)
                kept = b""
        await self._open.wait()
        self.cut()

    async def _carry_out(self, fault: Fault) -> None:
        breakage = fault.breakage
        if isinstance(breakage, Cut):
            self.cut(abruptly=breakage.abruptly)
            fault._reached.set()
            return
        self._open.clear()
        if isinstance(breakage, Stall):
            fault._reached.set()
            await self._until_released(fault, breakage.seconds)
        else:
            try:
                await asyncio.get_running_loop().run_in_executor(None, breakage.action)
            except BaseException as error:
                fault._failure = error
                self.cut()
            fault._reached.set()
        self._go_on()

    async def _until_released(self, fault: Fault, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        end = None if seconds is None else loop.time() + seconds
        while not (self._is_cut or fault._released.is_set() or (end is not None and loop.time() >= end)):
            await asyncio.sleep(0.005)
