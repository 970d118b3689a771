"""Takes an HTML page apart, strictly: what is never closed or closed in the wrong order is an error."""

from __future__ import annotations

from html.parser import HTMLParser

INLINE = {"a", "b", "i", "span", "sup", "time", "wbr"}
VOID = {"meta", "link", "img", "br", "hr", "wbr", "input", "col"}
ADDRESSES = {"src", "href", "srcset", "poster", "data", "action", "formaction", "xlink:href", "background", "ping"}


class Page(HTMLParser):
    """A page taken apart: its elements with their attributes, the text of each, and whether all were closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[list[str]] = []
        self._open: list[tuple[str, int]] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_data("" if tag in INLINE else " ")
        if tag not in VOID:
            self._open.append((tag, len(self.elements)))
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append([])

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"
        self.handle_data("" if tag in INLINE else " ")

    def handle_data(self, data: str) -> None:
        for _, index in self._open:
            self.texts[index].append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text_of(self, tag: str, **attributes: str) -> list[str]:
        return [
            " ".join("".join(text).split())
            for (name, found), text in zip(self.elements, self.texts, strict=True)
            if name == tag and attributes.items() <= found.items()
        ]

    def section(self, name: str) -> str:
        (text,) = self.text_of("section", id=name)
        return text

    def leaks(self) -> list[str]:
        """Name everything that would load, send, lead to or run something that is not in the file."""
        found = []
        for tag, attributes in self.elements:
            found += [f"<{tag}>" for name in ("script", "iframe", "object", "embed", "form", "base") if tag == name]
            for name, value in attributes.items():
                if name in ADDRESSES and not value.startswith(("#", "data:")):
                    found.append(f"<{tag} {name}={value}>")
                if name.startswith("on") or (name == "style" and "url(" in value):
                    found.append(f"<{tag} {name}={value}>")
        found += [style for style in self.text_of("style") if "url(" in style or "@import" in style]
        return found
