"""JSON that stays on one line and can always be written."""

from __future__ import annotations

import json
import re
from typing import Final

# What `json` leaves as it is, and what would break a line for some readers, steer a terminal, or not be UTF-8.
_ESCAPED: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def json_line(value: object) -> str:
    """``value`` as JSON without a line end; it reads back as it was, whatever characters it holds."""
    return _ESCAPED.sub(
        lambda found: f"\\u{ord(found.group()):04x}", json.dumps(value, ensure_ascii=False)
    )
