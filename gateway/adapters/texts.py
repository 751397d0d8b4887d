"""The words of the pages, in English and Simplified Chinese, from messages.toml; and which of them somebody reads."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LANGUAGES = ("en", "zh-CN")
MESSAGES = Path(__file__).with_name("messages.toml")
HEADER_CHARS_MAX = 1_000


class Texts:
    """Every message in every language; ValueError when a language lacks one."""

    def __init__(self, path: Path = MESSAGES) -> None:
        document = tomllib.loads(path.read_text())
        self._messages: dict[str, Mapping[str, str]] = {}
        for section, messages in document.items():
            for name, words in messages.items():
                if set(words) != set(LANGUAGES):
                    raise ValueError(f"{path}: {section}.{name} must be in {' and '.join(LANGUAGES)}")
                self._messages[f"{section}.{name}"] = words

    def say(self, language: str, key: str, /, **values: object) -> str:
        """The message with its placeholders filled. KeyError when there is none."""
        return self._messages[key][language].format(**values)

    def term(self, language: str, section: str, word: str) -> str:
        """The message `section.word`, or the word itself: services may know more words than the pages."""
        found = self._messages.get(f"{section}.{word}")
        return found[language] if found else word


def choose_language(asked: str, accepted: str) -> str:
    """One of LANGUAGES: `?lang=` if it names one, else what the Accept-Language header prefers, else English."""
    weighed = [(1.0, asked)] if _language(asked) else _weighed(accepted[:HEADER_CHARS_MAX])
    known = [(weight, language) for weight, tag in weighed if weight > 0 and (language := _language(tag))]
    return max(known, key=lambda item: item[0])[1] if known else LANGUAGES[0]


def _language(tag: str) -> str:
    primary = tag.strip().lower().partition("-")[0]
    return next((language for language in LANGUAGES if language.lower().partition("-")[0] == primary), "")


def _weighed(header: str) -> list[tuple[float, str]]:
    found = []
    for item in header.split(","):
        tag, _, parameter = item.partition(";")
        try:
            weight = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        found.append((weight, tag))
    return found
