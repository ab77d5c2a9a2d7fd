"""E-mail: headers, text (plain where there is one, else HTML), and attachments as documents of their own."""

import email.policy
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage

from ai_assets.documents.formats.read import Attachment, Read, blocks
from ai_assets.documents.formats.web import html_converted
from ai_assets.documents.parse_encodings import decoded
from ai_assets.documents.parse_worker import FileRefused

_HEADERS = ("From", "To", "Cc", "Date", "Subject")
_MOST_PARTS = 1_000
_ENCRYPTED = ("application/pkcs7-mime", "application/x-pkcs7-mime", "multipart/encrypted")
_ENDINGS = {"text/plain": ".txt", "text/html": ".html", "message/rfc822": ".eml", "application/pdf": ".pdf"}


def read(data: bytes) -> Read:
    message = message_from_bytes(data, policy=email.policy.default)
    if not any(message.get(name) for name in _HEADERS):
        raise FileRefused("could not be read: not an e-mail (it has no From, To, Date or Subject)")
    bodies: dict[str, list[str]] = {"plain": [], "html": []}
    attachments: list[Attachment] = []
    for number, part in enumerate(_parts(message)):
        if number >= _MOST_PARTS:
            raise FileRefused(f"it has more than {_MOST_PARTS:,} parts")
        if part.get_content_type() in _ENCRYPTED and "signed" not in str(part.get_param("smime-type", "")):
            raise FileRefused("it is encrypted; save it decrypted")
        kind = part.get_content_type()
        named = part.get_filename() or part.get_content_disposition() == "attachment" or kind == "message/rfc822"
        if kind in ("text/plain", "text/html") and not named:
            bodies[part.get_content_subtype()].append(_text(part))
        elif named:
            attachments.append(Attachment(name=_name(part), data=_bytes(part)))
    heads = "\n".join(f"{name}: {' '.join(str(message[name]).split())}" for name in _HEADERS if message.get(name))
    pages = (html_converted(html.encode())[0] for html in bodies["html"])
    body = bodies["plain"] if any(map(str.strip, bodies["plain"])) else pages
    subject = " ".join(str(message["Subject"] or "").split())
    return Read(text=blocks([heads, *body]), title=subject or None, attachments=attachments)


def _parts(message: EmailMessage) -> Iterator[EmailMessage]:
    """Those that hold something; a message within the message is one of them."""
    waiting = [message]
    while waiting:
        part = waiting.pop(0)
        if part.is_multipart() and part.get_content_type() != "message/rfc822":
            if part.get_content_type() in _ENCRYPTED:
                yield part
            waiting = [each for each in part.iter_parts() if isinstance(each, EmailMessage)] + waiting
        else:
            yield part


def _text(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    return decoded(payload, part.get_content_charset()).text if isinstance(payload, bytes) else ""


def _bytes(part: EmailMessage) -> bytes:
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload(0)
        return inner.as_bytes() if isinstance(inner, EmailMessage) else b""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _name(part: EmailMessage) -> str:
    """As the sender called it, on one line and without folders; else by its kind."""
    name = " ".join((part.get_filename() or "").replace("\\", "/").rpartition("/")[2].split())
    if not name and part.get_content_type() == "message/rfc822":
        inner = part.get_payload(0)
        name = (
            " ".join(str(inner["Subject"] or "").replace("/", " ").split())[:100]
            if isinstance(inner, EmailMessage)
            else ""
        )
    ending = _ENDINGS.get(part.get_content_type(), "")
    name = name or "attachment"
    return name if name.lower().endswith(ending) or "." in name[-6:] else name + ending
