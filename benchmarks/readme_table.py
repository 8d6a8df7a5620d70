"""Put the committed results table into the README, between its markers."""

from __future__ import annotations

import re
from pathlib import Path

REPO = Path(__file__).parent.parent


def main() -> None:
    """Rewrite README.md."""
    readme = REPO / "README.md"

    def table(found: re.Match[str]) -> str:
        return f"<!-- results: {found[1]} -->\n{(REPO / found[1]).read_text().strip()}\n<!-- end of results -->"

    text = re.sub(r"<!-- results: (\S+) -->\n.*?<!-- end of results -->", table, readme.read_text(), flags=re.DOTALL)
    readme.write_text(text)


if __name__ == "__main__":
    main()
