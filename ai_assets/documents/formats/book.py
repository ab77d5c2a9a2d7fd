"""EPUB books: their chapters in order, as markitdown reads them."""

from ai_assets.documents.formats.read import Read, opened, xml_of
from ai_assets.documents.formats.web import converted
from ai_assets.documents.parse_worker import FileRefused

_OF_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


def read(data: bytes) -> Read:
    from markitdown.converters import EpubConverter

    with opened(data, "book in EPUB", ".epub", "META-INF/container.xml") as archive:
        locks = xml_of(archive, "META-INF/encryption.xml")
    methods = [each.get("Algorithm") for each in (locks.iter() if locks is not None else ()) if each.get("Algorithm")]
    if any(method not in _OF_FONTS for method in methods):
        raise FileRefused("it is encrypted (copy protection); get it without")
    text, title = converted(EpubConverter(), data)  # type: ignore[no-untyped-call]
    return Read(text=text, title=title)
