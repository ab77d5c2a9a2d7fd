"""What makes a site of `docs/`: pages that are made from the code, and links that lead out of the folder.

mkdocs runs it (mkdocs.yml); `make site` builds.
"""

import re
import sys
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
import reference

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files beside `docs/` that are pages of the site."""
LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)#\s]+)((?:#[^)]*)?\))")
LANGUAGES = {
    ".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".sql": "sql", ".toml": "toml", ".sh": "bash",
}  # fmt: skip


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    made = {
        **{page: (ROOT / place).read_text(encoding="utf-8") for place, page in PAGES.items()},
        "glossary.md": reference.glossary(ROOT),
        "adr/index.md": reference.decisions(ROOT),
        "reference/commands.md": reference.commands(),
        "reference/settings.md": reference.settings(ROOT),
        "reference/python.md": reference.python(),
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    for place in sorted(_linked_outside(files, made)):
        files.append(File.generated(config, f"files/{place}.md", content=_shown(place)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are in the repository, to where the site has the page. What was decided is found after what is."""
    if page.file.src_uri.startswith("adr/"):
        page.meta["search"] = {"boost": 0.3}
    here = _home_of(page.file.src_uri)
    return LINK.sub(lambda found: f"{found[1]}{_target(here, page.file.src_uri, found[2], files)}{found[3]}", markdown)


def _home_of(page: str) -> PurePosixPath:
    """The folder of the repository from which the links of a page lead."""
    if page in PAGES.values():
        return PurePosixPath()
    return (PurePosixPath("docs") / page).parent


def _target(here: PurePosixPath, page: str, link: str, files: Files) -> str:
    place = _normal(here / link)
    if place in PAGES:
        wanted = PAGES[place]
    elif place in ("docs/adr", "docs/adr/"):
        wanted = "adr/index.md"
    elif place.startswith("docs/"):
        wanted = place.removeprefix("docs/")
    else:
        wanted = f"files/{place}.md"
    up = "../" * (len(PurePosixPath(page).parts) - 1)
    return up + wanted if files.get_file_from_path(wanted) else link


def _linked_outside(files: Files, made: dict[str, str]) -> set[str]:
    """Files of the repository that a page links to, and that are no page."""
    found = set()
    pages = {file.src_uri: file for file in files.documentation_pages()}
    for uri, file in pages.items():
        text = made[uri] if uri in made else Path(str(file.abs_src_path)).read_text(encoding="utf-8")
        for _, link, _ in LINK.findall(text):
            place = _normal(_home_of(uri) / link)
            if not place.startswith("docs/") and place not in PAGES and (ROOT / place).exists():
                found |= {place, *_inside(place)}
    return found


def _inside(place: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / place).glob("*.*") if path.suffix in LANGUAGES)


def _shown(place: str) -> str:
    path = ROOT / place
    if path.is_dir():
        inside = (Path(each).name for each in _inside(place))
        return f"# `{place}`\n\n" + "".join(f"- [{name}]({path.name}/{name}.md)\n" for name in inside)
    text = path.read_text(encoding="utf-8")
    fence = "````"
    language = LANGUAGES.get(path.suffix, "text")
    return f"---\nsearch: {{exclude: true}}\n---\n# `{place}`\n\n{fence}{language}\n{text}{fence}\n"


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        elif part not in (".", ".."):
            parts.append(part)
    return "/".join(parts)
