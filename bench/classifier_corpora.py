"""Corpora that nobody of this project wrote, out of Debian packages and installed Python packages, at run time.

The developing ones may be looked at while the classifier is changed; the final ones are measured, and nothing is chosen
by them. Each label is described as a user would who knows the field and has not read the texts.
"""

import gzip
import inspect
import pkgutil
import random
import re
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

LEAST_CHARACTERS = 40
MOST_CHARACTERS = 3_000


@dataclass(frozen=True, kw_only=True)
class Text:
    title: str
    text: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Corpus:
    name: str
    descriptions: Mapping[str, str]
    texts: tuple[Text, ...]
    """In an order drawn by a fixed seed, as many of each label as there are, up to `per_label`."""


@dataclass(frozen=True, kw_only=True)
class CorpusSource:
    final: bool
    descriptions: Mapping[str, str]
    read: Callable[[Path, Mapping[str, str]], Iterator[Text]]
    """From a folder for downloads, for these labels."""


def corpus(name: str, folder: Path, per_label: int) -> Corpus:
    source = SOURCES[name]
    by_label: dict[str, dict[str, Text]] = {label: {} for label in source.descriptions}
    for found in source.read(folder, source.descriptions):
        text = found.text.strip()
        if LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS:
            by_label[found.label].setdefault(text, Text(title=found.title, text=text, label=found.label))
    generator = random.Random(14)
    kept: list[Text] = []
    for texts in by_label.values():
        distinct = list(texts.values())
        generator.shuffle(distinct)
        kept += distinct[:per_label]
    generator.shuffle(kept)
    return Corpus(name=name, descriptions=source.descriptions, texts=tuple(kept))


# Debian: descriptions of packages, by section; dictionaries and fortunes from packages


def apt_options(folder: Path) -> list[str]:
    lists, cache = folder / "lists", folder / "cache"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    cache.mkdir(exist_ok=True)
    options = {"Dir::State::lists": lists, "Dir::Cache": cache, "Acquire::Languages": "en"}
    options |= {"APT::Sandbox::User": "root"}
    return [part for key, value in options.items() for part in ("-o", f"{key}={value}")]


def _unpacked(folder: Path, package: str) -> Path:
    """The files of a Debian package, downloaded and not installed."""
    into = folder / "packages" / package
    if not into.is_dir():
        into.parent.mkdir(exist_ok=True)
        subprocess.run(["apt-get", "-qq", "download", package], cwd=folder, check=True, capture_output=True)
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, into], check=True)
    return into


def paragraphs(path: Path) -> Iterator[str]:
    found = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], check=True, capture_output=True)
    yield from found.stdout.decode("utf-8", "replace").split("\n\n")


def _debian(folder: Path, labels: Mapping[str, str]) -> Iterator[Text]:
    """One description of each source package: its binary packages describe themselves in nearly the same words."""
    if not list((folder / "lists").glob("*Translation-en*")):
        subprocess.run(["apt-get", *apt_options(folder), "-qq", "update"], check=True, capture_output=True)
    section: dict[str, str] = {}
    seen: set[str] = set()
    for path in sorted((folder / "lists").glob("*_main_binary-*_Packages*")):
        for paragraph in paragraphs(path):
            fields = dict(re.findall(r"^(Package|Source|Section): (\S+)", paragraph, re.MULTILINE))
            of: str = fields.get("Source", fields.get("Package", ""))
            if fields.get("Section") in labels and of not in seen:
                seen.add(of)
                section[fields["Package"]] = fields["Section"]
    for path in sorted((folder / "lists").glob("*Translation-en*")):
        for paragraph in paragraphs(path):
            found = re.search(r"^Package: (\S+)\n.*?^Description-en: (.*?)\n(.*)", paragraph, re.MULTILINE | re.DOTALL)
            if found and found[1] in section:
                lines = [line.strip() for line in found[3].splitlines()]
                text = "\n".join("" if line == "." else line for line in lines)
                yield Text(title=found[2].strip(), text=text, label=section.pop(found[1]))


def _foldoc(folder: Path, labels: Mapping[str, str]) -> Iterator[Text]:
    """The Free On-line Dictionary of Computing; the field of an entry stands before it, and is taken off."""
    path = _unpacked(folder, "dict-foldoc") / "usr/share/dictd/foldoc.dict.dz"
    text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
    for entry in re.split(r"\n(?=[^\s{(])", text):
        head, _, body = entry.partition("\n\n")
        field = re.match(r"\s*<([^<>]*)>\s*", body)
        if field and field[1] in labels:
            said = re.sub(r"\(\d{4}-\d\d-\d\d\)|[{}]", "", body[field.end() :])
            said = re.sub(r"\s*\n\s*", "\n", said)
            yield Text(title=head.splitlines()[0].strip() if head.strip() else "", text=said, label=field[1])


def _wordnet(folder: Path, labels: Mapping[str, str]) -> Iterator[Text]:
    """Glosses of nouns, by lexicographer file; a gloss that is shorter than a sentence is left out."""
    path = _unpacked(folder, "wordnet-base") / "usr/share/wordnet/data.noun"
    for line in path.read_text("utf-8", "replace").splitlines():
        data, _, gloss = line.partition(" | ")
        fields = data.split()
        label = _LEXNAMES.get(fields[1]) if len(fields) > 4 and fields[0].isdigit() else None
        if label is not None and label in labels:
            yield Text(title=fields[4].replace("_", " "), text=gloss.strip(), label=label)


_LEXNAMES = {
    "05": "animal", "06": "artifact", "08": "body", "10": "communication", "13": "food", "15": "location",
    "18": "person", "20": "plant", "26": "state", "27": "substance",
}  # fmt: skip


def _fortunes(folder: Path, labels: Mapping[str, str]) -> Iterator[Text]:
    for label in labels:
        path = _unpacked(folder, "fortunes") / "usr/share/games/fortunes" / label
        for said in path.read_text("utf-8", "replace").split("\n%\n"):
            yield Text(title="", text=said, label=label)


def _docstrings(folder: Path, labels: Mapping[str, str]) -> Iterator[Text]:
    """The first paragraphs of what public functions and classes say of themselves, by package."""
    for label in labels:
        for where in _PACKAGES[label]:
            yield from (Text(title="", text=said, label=label) for said in _said_in(where))


_PACKAGES = {
    "graphs": ("networkx.algorithms",),
    "symbolic": ("sympy.core", "sympy.solvers", "sympy.polys", "sympy.integrals"),
    "signals": ("scipy.signal",),
    "statistics": ("scipy.stats",),
    "optimisation": ("scipy.optimize",),
    "dataframes": ("pandas.core",),
    "sql": ("sqlalchemy.sql", "sqlalchemy.orm", "sqlalchemy.engine"),
    "web": ("starlette", "httpx", "authlib", "fastapi"),
}


def _said_in(package: str) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = import_module(package)
        for module_info in pkgutil.walk_packages(root.__path__, f"{package}."):
            if "test" in module_info.name or module_info.name.endswith("__main__"):  # which runs when it is imported
                continue
            try:
                module = import_module(module_info.name)
            except ImportError:  # an optional dependency that is not installed
                continue
            for name, member in vars(module).items():
                if name.startswith("_") or getattr(member, "__module__", None) != module.__name__:
                    continue
                said = inspect.getdoc(member)
                if said:
                    yield re.split(r"\n(?:Parameters|Examples|Returns|See Also|Notes|Explanation)\n", said)[0][:600]


SOURCES: Mapping[str, CorpusSource] = {
    "debian": CorpusSource(
        final=False,
        read=_debian,
        descriptions={
            "net": "Network tools and services: servers, clients, protocols, routing, firewalls, monitoring.",
            "science": "Scientific software for biology, chemistry, physics, astronomy or engineering research.",
            "games": "Games to play for fun: puzzles, arcade, strategy, adventure, board and card games.",
            "sound": "Audio: players, recorders, synthesizers, editors and effects for music and sound.",
            "graphics": "Viewing, drawing, editing and converting images, photos, diagrams and 3D graphics.",
            "mail": "Electronic mail: servers, clients, filters against spam, mailing lists and delivery.",
            "database": "Database servers, clients and tools for storing and querying data, such as SQL.",
            "editors": "Text editors and word processors, and their plugins and modes.",
        },
    ),
    "fortunes": CorpusSource(
        final=False,
        read=_fortunes,
        descriptions={
            "law": "Jokes and quotations about lawyers, courts, judges, crime and justice.",
            "medicine": "About doctors, patients, illness, hospitals and medicine.",
            "love": "About love, marriage, romance and relationships.",
            "politics": "About government, politicians, elections, war and power.",
            "sports": "About sports, players, teams, football, baseball and winning.",
            "science": "About science, physics, mathematics, research and nature.",
            "food": "About food, cooking, eating, drinking and restaurants.",
            "computers": "About computers, programming, software, hardware and programmers.",
        },
    ),
    "docstrings": CorpusSource(
        final=False,
        read=_docstrings,
        descriptions={
            "graphs": "Graph theory: nodes, edges, paths, trees, flows, cliques and centrality.",
            "symbolic": "Symbolic mathematics: expressions, polynomials, equations and integrals.",
            "signals": "Signal processing: filters, windows, spectra and sampled systems.",
            "statistics": "Probability distributions, statistical tests, samples and moments.",
            "optimisation": "Minimising functions, finding roots, curve fitting and linear programs.",
            "dataframes": "Tables of data with rows, columns and indexes: grouping, joining, missing values, dates.",
            "sql": "Relational databases: tables, columns, queries, sessions, transactions and connections.",
            "web": "HTTP requests and responses, routes, cookies, sessions, clients, servers and signing in.",
        },
    ),
    "foldoc": CorpusSource(
        final=True,
        read=_foldoc,
        descriptions={
            "language": "Programming languages, their families, versions, dialects and implementations.",
            "networking": "Computer networks: connections between machines, addresses, routers and the internet.",
            "hardware": "Physical parts of computers: devices, boards, connectors, keyboards, displays.",
            "operating system": "Operating systems such as Unix or Windows, kernels, files, processes and commands.",
            "company": "Firms that make or sell computers, software or services, and their history.",
            "storage": "Disks, tapes, memory and other ways of storing data.",
            "mathematics": "Mathematical terms: sets, functions, numbers, logic, algebra and proofs.",
            "jargon": "Slang and humorous expressions that hackers use among themselves.",
        },
    ),
    "wordnet": CorpusSource(
        final=True,
        read=_wordnet,
        descriptions={
            "animal": "Animals: mammals, birds, fish, insects and other creatures.",
            "food": "Food and drink: dishes, meals, ingredients, beverages.",
            "body": "Parts of the body: organs, bones, muscles, tissues.",
            "plant": "Plants: trees, flowers, shrubs, herbs, fruits and where they grow.",
            "person": "People: kinds of persons, professions, roles, and known individuals.",
            "location": "Places: countries, cities, regions, rivers and other locations.",
            "communication": "What is said or written: messages, speech, language, texts, signs, music.",
            "substance": "Substances: chemicals, materials, minerals, elements, drugs and fluids.",
        },
    ),
    "debian-other": CorpusSource(
        final=True,
        read=_debian,
        descriptions={
            "hamradio": "Amateur radio: transceivers, satellites, logging contacts, digital modes, antennas.",
            "fonts": "Typefaces and fonts for screens and print, in various scripts and styles.",
            "electronics": "Electronic circuits: boards and chips, simulation, microcontrollers, instruments.",
            "vcs": "Version control: repositories, commits, branches, patches and reviewing changes of source code.",
            "kernel": "The operating system's kernel: modules, drivers, firmware and tools for it.",
            "video": "Video: players, editors, converters, recording, streaming and codecs of films.",
            "web": "Web browsers, web applications and tools for web sites and pages.",
            "math": "Mathematics: algebra, numerical computation, plots, solvers, theorem provers.",
        },
    ),
}
