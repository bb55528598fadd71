"""Every link and picture of the site as it was built leads somewhere: `python docs/links.py build/docs`."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Names in a page, and what it leads to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.leads: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in a tag."""
        for name, value in attrs:
            if value and name in ("id", "name"):
                self.names.add(value)
            elif value and name in ("href", "src"):
                self.leads.add(value)


def dead(site: Path) -> list[str]:
    """Links of a site to what is not there, each with its page; other hosts are not asked."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        for lead in sorted(page.leads):
            parts = urlsplit(lead)
            if parts.scheme or parts.netloc:
                continue
            base = site.resolve() if parts.path.startswith("/") else path.parent
            target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = pages[target].names if target in pages else set()
            if not target.exists() or (
                parts.fragment and target in pages and unquote(parts.fragment) not in known
            ):
                found.append(f"{path.relative_to(site.resolve())}: {lead}")
    return found


if __name__ == "__main__":
    wrong = dead(Path(sys.argv[1]))
    raise SystemExit("\n".join(["links to nowhere:", *wrong]) if wrong else 0)
