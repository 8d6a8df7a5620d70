"""Put the committed results tables into the README, between their markers; a table that is missing stays as it was."""

from __future__ import annotations

import re
import sys
from pathlib import Path

REPO = Path(__file__).parent.parent


def main() -> None:
    """Rewrite README.md."""
    readme = REPO / "README.md"

    def table(found: re.Match[str]) -> str:
        source = REPO / found[1]
        if not source.exists():
            print(f"{found[1]} is missing; its section of the README stays as it is", file=sys.stderr)
            return found[0]
        return f"<!-- results: {found[1]} -->\n{source.read_text().strip()}\n<!-- end of results -->"

    text = re.sub(r"<!-- results: (\S+) -->\n.*?<!-- end of results -->", table, readme.read_text(), flags=re.DOTALL)
    readme.write_text(text)


if __name__ == "__main__":
    main()
