"""The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).

The code is canonical: codes of one length are consecutive numbers in the order of their symbols, and the next length
goes on where the one before ended. So 257 lengths are the whole table of appendix B.

Decoding eats a byte a step. A state is the beginning of a code that the bytes so far have left unfinished; for each
byte it knows the symbols that are complete now, and the next state. All 256 states times 256 bytes would take 0.1 s or
more to make and 8 MiB to keep, and text needs some hundreds of these steps: so a step is made when it is first taken.
"""

from functools import cache
from typing import Final

EOS: Final = 256
"""The symbol whose code pads the last byte, and which must not be in a string itself."""

_LENGTHS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b08060606"
    "0505050606060606060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e06"
    "0f05060506050606060507070606060506070605050607070707070f0b0e0d1c14161414161616171617171717171817"
    "181816171817171717151617161717181615141616171715171616181516171715151615171617171416161617161617"
    "1a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b14181415161515171616191918181a17"
    "1a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
"""The length of each symbol's code in bits, from 0 to EOS (RFC 7541 appendix B)."""


class HuffmanError(ValueError):
    """The bytes are no Huffman-encoded string."""


@cache
def codes() -> list[str]:
    """The code of each symbol in the digits 0 and 1."""
    result = [""] * len(_LENGTHS)
    code = length = 0
    for symbol in sorted(range(len(_LENGTHS)), key=_LENGTHS.__getitem__):
        code <<= _LENGTHS[symbol] - length
        length = _LENGTHS[symbol]
        result[symbol] = f"{code:0{length}b}"
        code += 1
    return result


@cache
def _symbols() -> dict[str, int]:
    return {code: symbol for symbol, code in enumerate(codes())}


class _State(dict[int, tuple[bytes, "_State"]]):
    """What each byte does in this state: the symbols that it completes, and the next state."""

    __slots__ = ("is_padding", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        # RFC 7541 section 5.2: padding is the beginning of EOS, which is all ones, and shorter than a byte.
        self.is_padding = len(prefix) < 8 and "0" not in prefix

    def __missing__(self, byte: int) -> tuple[bytes, "_State"]:
        prefix, completed, symbols = self.prefix, bytearray(), _symbols()
        for bit in f"{byte:08b}":
            prefix += bit
            symbol = symbols.get(prefix)
            if symbol is not None:
                if symbol == EOS:
                    raise HuffmanError("EOS in a Huffman-encoded string")
                completed.append(symbol)
                prefix = ""
        step = self[byte] = bytes(completed), _state(prefix)
        return step


_state: Final = cache(_State)
_START: Final = _state("")


def decode(data: bytes) -> bytes:
    """The string that `data` encodes. Raises HuffmanError for EOS in it, and for wrong or too much padding."""
    state = _START
    parts: list[bytes] = []
    append = parts.append
    for byte in data:
        completed, state = state[byte]
        append(completed)
    if not state.is_padding:
        raise HuffmanError("padding of a Huffman-encoded string is no beginning of EOS")
    return b"".join(parts)


def encode(data: bytes) -> bytes:
    """`data` in the Huffman code, which may be longer than `data`."""
    if not data:
        return b""
    bits = "".join(map(codes().__getitem__, data))
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")
