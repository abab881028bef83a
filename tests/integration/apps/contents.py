"""What the applications of all frameworks answer with."""

from pathlib import Path
from typing import Final

DOCUMENT: Final = {"message": "Grüße", "numbers": [1, 2, 3], "nested": {"ok": True, "nothing": None}}
PIECES: Final = tuple(f"piece {number}\n".encode() * 50 for number in range(20))
FILE: Final = Path(__file__).parents[3] / "LICENSE"
