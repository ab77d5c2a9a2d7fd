"""What is a letter's frame and what it says; and a short answer to it, as a modest model drafts one."""

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_SHORT_WORDS = 4
_SALUTATION = re.compile(
    r"(?:dear|hello|hi|to whom|good (?:morning|day)|ladies and|sehr geehrte|liebe|guten tag|hallo|madame|monsieur|"
    r"bonjour|estimad|apreciad|muy señor|exm|prezad|car[oa]s? |lugupeetud|tere\b)[^.!?]{0,60}[,!:]?$",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"(?:(?:kind|warm|best|with) regards|regards|yours|sincerely|thank you|thanks|mit freundlichen|viele grüße|"
    r"cordialement|atentamente|saludos|com os melhores|atenciosamente|lugupidamisega|signed|for )",
    re.IGNORECASE,
)
_INITIAL = re.compile(r"(?:^|\W)[A-Z]\.$")
"""Where a sentence ends with a single letter, a name was cut in two."""
_LONGEST_SIGNATURE = 8
_REFERENCE = re.compile(
    r"\b(policy|order|invoice|contract|ticket|account|case|booking|police|auftrag|rechnung|vertrag)\b"
    r"(?:\s+(?:is|ist|no\.?|nr\.?|number|nummer))?[\s:#]+((?=[\w/-]*\d)[A-Za-z0-9][\w/-]*\w)",
    re.IGNORECASE,
)
_PROMISE = re.compile(
    r"\b((?:an?|the) (?:\w+ ){1,3}will (?:write|call|reply|answer|look)\b[^.;\n]{0,80})", re.IGNORECASE
)
_REPLY = re.compile(
    r"\b(?:repl(?:y|ies)|respond|response to|answer the (?:letter|mail|message|e-?mail))\b", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class _Language:
    common: frozenset[str]
    """Words by which it is known."""
    dear: str
    openings: tuple[str, ...]
    about: str
    noted: str
    joined: str
    names: Mapping[str, str]
    promise: str
    closing: str


_ENGLISH = _Language(
    common=frozenset("the and was our with for from that have will".split()),
    dear="Dear {name},",
    openings=("thank you for your letter{about}.", "we have received your letter{about}. Thank you for writing."),
    about=' "{title}"',
    noted="We have noted {facts}.",
    joined=" and ",
    names={"date": "the date {}", "amount": "the amount of {}"},
    promise="We will look into it and write to you again",
    closing="Kind regards",
)
_LANGUAGES = (
    _ENGLISH,
    _Language(
        common=frozenset("der die das und ist nicht ich bitte mit unser unseres eine einen am".split()),
        dear="Guten Tag {name},",
        openings=(
            "vielen Dank für Ihr Schreiben{about}.",
            "Ihr Schreiben{about} ist bei uns eingegangen. Vielen Dank.",
        ),
        about=" „{title}“",
        noted="Wir haben notiert: {facts}.",
        joined=" und ",
        names={"date": "das Datum {}", "amount": "den Betrag von {}"},
        promise="Wir prüfen den Vorgang und schreiben Ihnen wieder",
        closing="Mit freundlichen Grüßen",
    ),
    _Language(
        common=frozenset("le la les et est nous notre avec pour dans une du vous".split()),
        dear="Bonjour {name},",
        openings=("merci pour votre courrier{about}.", "nous avons bien reçu votre courrier{about}."),
        about=" « {title} »",
        noted="Nous avons noté {facts}.",
        joined=" et ",
        names={"date": "la date du {}", "amount": "le montant de {}"},
        promise="Nous étudions votre demande et reviendrons vers vous",
        closing="Cordialement",
    ),
    _Language(
        common=frozenset("el los las y es nuestro con para una del por que en".split()),
        dear="Hola {name}:",
        openings=("gracias por su carta{about}.", "hemos recibido su carta{about}. Gracias."),
        about=" «{title}»",
        noted="Hemos anotado {facts}.",
        joined=" y ",
        names={"date": "la fecha {}", "amount": "el importe de {}"},
        promise="Lo estudiaremos y volveremos a escribirle",
        closing="Atentamente",
    ),
    _Language(
        common=frozenset("o os as e é nosso com para uma do da em não que".split()),
        dear="Bom dia {name},",
        openings=("obrigado pela sua carta{about}.", "recebemos a sua carta{about}. Obrigado."),
        about=" «{title}»",
        noted="Registámos {facts}.",
        joined=" e ",
        names={"date": "a data {}", "amount": "o valor de {}"},
        promise="Vamos analisar o assunto e voltar a escrever",
        closing="Com os melhores cumprimentos",
    ),
)


def tells(sentence: str) -> bool:
    """Whether it says something: no salutation, no closing, no signature, and not cut in a name."""
    words = sentence.split()
    if len(words) <= _SHORT_WORDS or _INITIAL.search(sentence) or _SALUTATION.match(sentence.strip()):
        return False
    return sentence.rstrip().endswith((".", "!", "?", ".)", '."')) or len(words) > _LONGEST_SIGNATURE


def signature(text: str) -> str:
    """The name at the end of a letter: of 'Signed: Ann Lee, manager' 'Ann Lee'; empty where there is none."""
    lines = [line.strip() for line in text.rstrip().splitlines() if line.strip()]
    if len(lines) < 2:
        return ""
    last = lines[-1].rpartition(":")[2].strip() if _CLOSING.match(lines[-1]) else lines[-1]
    name = last.partition(",")[0].strip()
    is_name = (
        1 <= len(name.split()) <= _LONGEST_SIGNATURE // 2 and name[:1].isupper() and not re.search(r"[.!?\d:]", name)
    )
    return name if is_name else ""


def reference_after(words: Sequence[str], text: str) -> str | None:
    """The number behind one of these words: of 'my policy HM-17 covers it' 'HM-17' for 'policy'."""
    for word in words:
        match = re.search(
            rf"(?<!\w){re.escape(word)}\b(?:\s+(?:is|no\.?|nr\.?|number|under))?[\s:#]+((?=[\w/-]*\d)[A-Za-z0-9][\w/-]*\w)",
            text,
            re.IGNORECASE,
        )
        if match:
            return match[1]
    return None


def wants_reply(asked: str) -> bool:
    return bool(_REPLY.search(asked))


def promised(asked: str) -> str:
    """What the instructions want to be promised: 'say that a handler will write within five days'; else nothing."""
    match = _PROMISE.search(asked)
    return match[1].strip() if match else ""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """What an answer to it repeats."""

    text: str
    title: str
    date: str
    amount: str
    promise: str
    """In English, as instructions are; empty where they want none."""

    def answer(self, number: int = 0) -> str:
        """A draft; which of its wordings depends on the text and on the number of the alternative."""
        language = self._language()
        drawn = zlib.crc32(self.text.encode("utf-8", "replace")) + number
        title = self.title.strip(" #*").rstrip(".")
        about = language.about.format(title=title) if title else ""
        facts = list(self._facts(language))
        said = [language.openings[drawn % len(language.openings)].format(about=about)]
        if facts:
            listed = facts[0] if len(facts) == 1 else f"{', '.join(facts[:-1])}{language.joined}{facts[-1]}"
            said.append(language.noted.format(facts=listed))
        promise = self.promise if self.promise and language is _ENGLISH else language.promise
        said.append(f"{promise[:1].upper()}{promise[1:]}.")
        name = signature(self.text)
        body = " ".join(said)
        if not name:
            return f"{body[:1].upper()}{body[1:]}\n\n{language.closing}"
        return f"{language.dear.format(name=name)}\n\n{body}\n\n{language.closing}"

    def _facts(self, language: _Language) -> Iterator[str]:
        if match := _REFERENCE.search(self.text):
            yield f"{match[1] if match[1][:1].isupper() and language is not _ENGLISH else match[1].lower()} {match[2]}"
        if self.date:
            yield language.names["date"].format(self.date)
        if self.amount:
            yield language.names["amount"].format(self.amount)

    def _language(self) -> _Language:
        words = re.findall(r"\w+", self.text.lower())
        counts = [(sum(word in language.common for word in words), -at) for at, language in enumerate(_LANGUAGES)]
        return _LANGUAGES[-max(counts)[1]]
