"""UTF-8 decoding of a stream of tokens, which may end in the middle of a character."""

from __future__ import annotations

REPLACEMENT = "\ufffd"
# After an invalid sequence the rest of a token waits for the next one, as in the published parser;
# garbage must not pile up, though.
_MAX_PENDING = 64


class Utf8Stream:
    """Decodes bytes as they come; never gives out a part of a character.

    Invalid sequences become U+FFFD, one for each maximal part of a character, as in
    `bytes.decode("utf-8", "replace")`: the pieces joined equal that of all bytes at once.
    """

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = b""

    def push(self, data: bytes) -> str:
        """The text that became certain with these bytes."""
        if self._pending:
            data = self._pending + data
        text = ""
        while True:
            try:
                tail = data.decode()
            except UnicodeDecodeError as error:
                text += data[: error.start].decode()
                if error.reason == "unexpected end of data":
                    self._pending = data[error.start :]
                    return text
                text += REPLACEMENT
                data = data[error.end :]
                if len(data) <= _MAX_PENDING:
                    self._pending = data
                    return text
            else:
                self._pending = b""
                return text + tail

    def flush(self) -> str:
        """The text of what is left; an unfinished character becomes U+FFFD."""
        text = self._pending.decode("utf-8", "replace")
        self._pending = b""
        return text
