"""Writes what is made of the sources into docs/: `make asyncapi`."""

from pathlib import Path

from docs.making import asyncapi, reference

DOCS = Path(__file__).parent.parent
WRITTEN = {"asyncapi.yaml": asyncapi.text, "message-reference.md": reference.text}


def main() -> None:
    """Write them all."""
    for name, text in WRITTEN.items():
        (DOCS / name).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
