"""Header compression of HTTP/2 (RFC 7541): blocks of fields to lists of fields and back.

Both directions share one rule that is easily broken: each block depends on all blocks before it, so that blocks must be
decoded in the order in which they arrived, every one of them, also those of streams that nobody wants any more.

The decoder keeps static and dynamic table in one list, so that an index is an index. It looks at each byte once and
calls nothing for a field that the table knows. A list of fields that is too large is found at the end of its block, by
when the table is as the client believes it to be, and the connection can go on; what a block can cost is bounded by
its length, which the reader of frames limits.

The encoder never puts anything into the client's table, as those of nginx and HAProxy do not. No block depends on
another, so that one cache serves all connections of a worker, responses may be encoded and sent in different orders,
and no secret shares a table with what an attacker chose (section 7.1). That cache makes a field shorter that the worker
has sent before, to whomever; those that hold secrets (`_NEVER_INDEXED`) never go through it.
"""

from collections.abc import Callable, Iterable
from typing import Final

from ..asgi_types import Field
from ..errors import RemoteProtocolError
from . import http2_huffman
from .http2_frames import COMPRESSION_ERROR, Http2Error

DEFAULT_TABLE_BYTES: Final = 4096
"""Size of a dynamic table before anybody speaks of it (RFC 9113 section 6.5.2)."""

ENTRY_OVERHEAD: Final = 32
"""What an entry counts beyond its name and value (RFC 7541 section 4.1; RFC 9113 section 6.5.2 counts lists alike)."""

# RFC 7541 appendix A. Index 0 is not used; section 6.1 makes it an error.
STATIC_TABLE: Final[tuple[Field, ...]] = (
    (b"", b""),
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    *((b":status", b"%d" % status) for status in (200, 204, 206, 304, 400, 404, 500)),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    *(
        (name, b"")
        for name in (
            b"accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control "
            b"content-disposition content-encoding content-language content-length content-location content-range "
            b"content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range "
            b"if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization "
            b"range referer refresh retry-after server set-cookie strict-transport-security transfer-encoding "
            b"user-agent vary via www-authenticate"
        ).split()
    ),
)

_FIRST_DYNAMIC: Final = len(STATIC_TABLE)

# Section 7.1.3: sent so that nobody on the way puts them into a table either.
_NEVER_INDEXED: Final = frozenset(
    (b"authorization", b"cookie", b"proxy-authenticate", b"proxy-authorization", b"set-cookie", b"www-authenticate")
)


class HpackError(Http2Error):
    """The block cannot be decoded, nor can any after it: COMPRESSION_ERROR of the connection (RFC 9113 section 4.3)."""

    def __init__(self, detail: str) -> None:
        super().__init__(COMPRESSION_ERROR, "bad-header-block")
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


class HeaderListTooLarge(RemoteProtocolError):
    """The list is longer than its limit. The decoder has read all of the block and stays usable."""

    def __init__(self) -> None:
        super().__init__(431, "header-list-too-large")


class _Malformed(tuple[bytes, bytes]):
    """A field that is not valid; it may come back out of the dynamic table."""

    __slots__ = ()


def _any_field(_name: bytes, _value: bytes) -> bool:
    return True


class HeaderDecoder:
    """Decodes the blocks of one connection, in the order in which they arrive."""

    __slots__ = (
        "_before_path",
        "_behind_path",
        "_is_valid",
        "_largest",
        "_last_block",
        "_limit",
        "_max_list",
        "_max_table",
        "_may_be_malformed",
        "_size",
        "_table",
        "last_fields",
        "malformed",
        "path_room",
    )

    def __init__(
        self,
        max_table_bytes: int = DEFAULT_TABLE_BYTES,
        *,
        max_list_bytes: int,
        is_valid_field: Callable[[bytes, bytes], bool] = _any_field,
    ) -> None:
        """`max_table_bytes` is our SETTINGS_HEADER_TABLE_SIZE, `max_list_bytes` our SETTINGS_MAX_HEADER_LIST_SIZE.

        `is_valid_field` is asked about name and value of each field when it comes as a literal, and not again when it
        is taken out of the table. Its answers come out as `malformed`.
        """
        self.malformed = False
        """Whether the list decoded last holds a field that is not valid."""

        self._table: list[Field] = list(STATIC_TABLE)
        self._size = 0
        self._limit = self._max_table = max_table_bytes
        self._max_list = max_list_bytes
        self._is_valid = is_valid_field
        self._may_be_malformed = False
        self._largest = max(map(_entry_bytes, STATIC_TABLE))
        self._last_block = b""
        self._before_path = self._behind_path = b""
        self.last_fields: list[Field] = []
        """The list decoded last, where the next block may say the same."""
        self.path_room = -1
        """How long a path may be that takes the place of the one decoded last; below 0 where none can."""

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a whole block in their order. The list is not to be changed.

        A block that says the same as the one before, byte by byte and with the same table, gives the same list object.

        Raises HpackError when the connection cannot go on, HeaderListTooLarge when it can.
        """
        if block == self._last_block:
            self.malformed = False
            return self.last_fields
        # Before anything: a block that fails may have changed the table.
        self._last_block, self.last_fields = b"", []
        self.path_room = -1
        path_start = path_end = 0
        fields: list[Field] = []
        append = fields.append
        table = self._table
        position, end = 0, len(block)
        repeatable = True
        try:
            while position < end:
                byte = block[position]
                position += 1
                if 0x80 < byte < 0xFF:  # Section 6.1: indexed field. Most of a browser's fields are this.
                    append(table[byte - 0x80])
                    continue
                if byte >= 0x80:
                    if byte == 0x80:
                        raise HpackError("index 0")
                    index, position = _integer(block, position, 0x7F)
                    append(table[index])
                    continue
                if byte >= 0x40:  # Section 6.2.1: literal with incremental indexing.
                    index = byte - 0x40
                    if index == 0x3F:
                        index, position = _integer(block, position, index)
                elif byte < 0x20:  # Sections 6.2.2 and 6.2.3: literal without indexing, literal never indexed.
                    index = byte & 0x0F
                    if index == 0x0F:
                        index, position = _integer(block, position, index)
                else:
                    position = self._update_size(block, position, byte - 0x20, is_first=not fields)
                    repeatable = False
                    continue
                if index:
                    name = table[index][0]
                else:
                    name, position = _string(block, position)
                # _string() once more: a new :path comes with each request, and the call would cost 0.1 us.
                literal = position
                length = byte_of_length = block[position]
                position += 1
                length &= 0x7F
                if length == 0x7F:
                    length, position = _integer(block, position, length)
                start, position = position, position + length
                if position > end:
                    raise HpackError("string goes beyond the block")
                value = block[start:position]
                if byte_of_length & 0x80:
                    value = http2_huffman.decode(value)
                field = name, value
                if not self._is_valid(name, value):
                    field = _Malformed(field)
                    self._may_be_malformed = True
                append(field)
                if byte >= 0x40:
                    self._insert(field)
                    repeatable = False
                elif index == 4 or index == 5:  # Both stand for :path; a tuple would cost twice.
                    path_start, path_end = literal, position
        except IndexError:
            raise HpackError("index beyond the table, or block cut off") from None
        except http2_huffman.HuffmanError as error:
            raise HpackError(str(error)) from None
        self.malformed = self._may_be_malformed and any(type(field) is _Malformed for field in fields)
        # Counting takes 1 us. Mostly it is enough that no field can be larger than the largest that the table had, or
        # the whole block decoded: the shortest Huffman code has 5 bits.
        if len(fields) * self._largest + 2 * end > self._max_list and sum(map(_entry_bytes, fields)) > self._max_list:
            raise HeaderListTooLarge
        if repeatable and not self.malformed:
            self._last_block, self.last_fields = block, fields
            if path_end:
                self._before_path, self._behind_path = block[:path_start], block[path_end:]
                self.path_room = self._max_list - len(fields) * self._largest - 2 * end
        return fields

    def changed_path(self, block: bytes) -> bytes | None:
        """The path in a block that says the same as the one before, byte by byte, but for its path; else None.

        Whether the path is valid is for the caller to ask.

        Clients ask for one path after the other with all other fields the same, and send paths as literals without
        indexing. What `decode` would give is then `last_fields` with another path, which it would take ten times as
        long to find out. Only to be asked while `path_room` is not below 0.
        """
        before, behind = self._before_path, self._behind_path
        position, end = len(before), len(block) - len(behind)
        if position >= end or not block.startswith(before) or not block.endswith(behind):
            return None
        byte = block[position]
        position += 1
        # A length of 127 bytes and more has further bytes; such paths take the long way.
        if byte & 0x7F == 0x7F or position + (byte & 0x7F) != end:
            return None
        path = block[position:end]
        if byte & 0x80:
            try:
                path = http2_huffman.decode(path)
            except http2_huffman.HuffmanError:
                return None
        return path if len(path) <= self.path_room else None

    def _update_size(self, block: bytes, position: int, size: int, *, is_first: bool) -> int:
        """Section 6.3. Returns the position behind the update."""
        if size == 0x1F:
            size, position = _integer(block, position, size)
        if not is_first:
            raise HpackError("size update behind a field")
        if size > self._max_table:
            raise HpackError("size update over SETTINGS_HEADER_TABLE_SIZE")
        self._limit = size
        self._evict(size)
        return position

    def _insert(self, field: Field) -> None:
        """Section 4.4. A field larger than the whole table empties it, and is no error."""
        size = _entry_bytes(field)
        self._evict(self._limit - size)
        if size <= self._limit:
            self._table.insert(_FIRST_DYNAMIC, field)
            self._size += size
            if size > self._largest:
                self._largest = size

    def _evict(self, size: int) -> None:
        """Drop the oldest entries until at most `size` bytes are left, or none is."""
        table = self._table
        while self._size > size and len(table) > _FIRST_DYNAMIC:
            self._size -= _entry_bytes(table.pop())


def _entry_bytes(field: Field) -> int:
    return len(field[0]) + len(field[1]) + ENTRY_OVERHEAD


def _integer(block: bytes, position: int, value: int) -> tuple[int, int]:
    """The rest of an integer whose prefix is full (section 5.1), and the position behind it.

    Four more bytes reach 2^28, beyond all limits here; longer ones are refused although zeros may follow.
    """
    for shift in (0, 7, 14, 21):
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise HpackError("integer of more than 28 bits")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    """A string (section 5.2) and the position behind it."""
    byte = block[position]
    position += 1
    length = byte & 0x7F
    if length == 0x7F:
        length, position = _integer(block, position, length)
    end = position + length
    if end > len(block):
        raise HpackError("string goes beyond the block")
    string = block[position:end]
    return (http2_huffman.decode(string) if byte & 0x80 else string), end


# What the encoder has said before, for all connections of a worker. Encoding a field takes 0.5 us, in the Huffman code
# some 2 us, the look-up 0.05. So a field comes plain when it is new, and in the Huffman code from the second time on:
# most of those that are never repeated (an ETag, a request id) would not earn it. A usual head has 142 bytes so, and
# 183 in plain. The caps bound memory.
_MAX_CACHED: Final = 1024
_MAX_CACHED_FIELD_BYTES: Final = 1024

_NAME_INDEXES: Final = {name: index for index, (name, _) in reversed([*enumerate(STATIC_TABLE)][1:])}
_STATIC_FIELDS: Final = {field: bytes((0x80 | index,)) for index, field in enumerate(STATIC_TABLE) if field[1]}
_encoded: Final[dict[Field, bytes]] = dict(_STATIC_FIELDS)
_seen_once: Final[dict[Field, bytes]] = {}


class HeaderEncoder:
    """Encodes the blocks of one connection."""

    __slots__ = ("_prefix",)

    def __init__(self) -> None:
        self._prefix = b""

    def set_max_table_bytes(self, size: int) -> None:
        """The client's SETTINGS_HEADER_TABLE_SIZE.

        A client that wants less than the default has to be told that we do (section 4.2). Whichever block goes first
        has to say it, so that every one says it: a byte that means a table of 0, which is what this encoder uses.
        """
        if size < DEFAULT_TABLE_BYTES:
            self._prefix = b"\x20"

    def encode(self, fields: Iterable[Field]) -> bytes:
        """The block for these fields: tuples of name, in lower case, and value; pseudo fields first."""
        known = _encoded.get
        return self._prefix + b"".join([known(field) or _encode(field) for field in fields])


def _encode(field: Field) -> bytes:
    """A field that has been sent at most once."""
    name, value = field
    if name in _NEVER_INDEXED:
        return _literal(name, value, flags=0x10)
    if len(name) + len(value) > _MAX_CACHED_FIELD_BYTES:
        return _literal(name, value)
    plain = _seen_once.pop(field, None)
    if plain is None:
        if len(_seen_once) == _MAX_CACHED:
            _seen_once.clear()
        plain = _seen_once[field] = _literal(name, value)
        return plain
    if len(_encoded) >= _MAX_CACHED:
        _encoded.clear()
        _encoded.update(_STATIC_FIELDS)
    encoded = _encoded[field] = _literal(name, value, huffman=True)
    return encoded


def encode_lasting(field: Field) -> bytes:
    """A field that is known to be sent again and again, in the shorter code at once."""
    return _STATIC_FIELDS.get(field) or _literal(*field, huffman=True)


def is_settled(field: Field) -> bool:
    """Whether a field that was encoded will always be encoded so."""
    return field in _encoded or field[0] in _NEVER_INDEXED


def _literal(name: bytes, value: bytes, *, flags: int = 0, huffman: bool = False) -> bytes:
    """A literal without indexing (section 6.2.2), or never indexed with the flag 0x10 (section 6.2.3)."""
    index = _NAME_INDEXES.get(name)
    if index is not None:
        return encode_integer(index, 4, flags) + _encode_string(value, huffman=huffman)
    return bytes((flags,)) + _encode_string(name, huffman=huffman) + _encode_string(value, huffman=huffman)


def _encode_string(string: bytes, *, huffman: bool) -> bytes:
    if huffman:
        encoded = http2_huffman.encode(string)
        if len(encoded) < len(string):
            return encode_integer(len(encoded), 7, 0x80) + encoded
    return encode_integer(len(string), 7, 0) + string


def encode_integer(value: int, prefix_bits: int, flags: int) -> bytes:
    """`value` with a prefix of `prefix_bits` (section 5.1), below the bits that `flags` sets in the first byte."""
    full = (1 << prefix_bits) - 1
    if value < full:
        return bytes((flags | value,))
    result = bytearray((flags | full,))
    value -= full
    while value >= 0x80:
        result.append(0x80 | value & 0x7F)
        value >>= 7
    result.append(value)
    return bytes(result)
