"""Pages that are made from the code before Sphinx reads its sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

BEFORE_AUTOSUMMARY = 400  # which reads all pages at the same event


def connect(app: Any, folder: str, pages: Callable[[], Mapping[str, str]]) -> dict[str, Any]:
    """Let ``reference/generated/FOLDER`` hold ``pages()``, texts by name, at the start of each build."""

    def write(app: Any) -> None:
        write_pages(Path(app.srcdir) / "reference" / "generated" / folder, pages())

    app.connect("builder-inited", write, priority=BEFORE_AUTOSUMMARY)
    return {"parallel_read_safe": True}


def write_pages(folder: Path, pages: Mapping[str, str]) -> None:
    """Write pages that have changed, so that only these are built anew, and remove those of earlier code."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.md"):
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
