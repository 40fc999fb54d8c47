"""What Chinese, Japanese, Korean and Hindi requests deny, and whether a rewrite describes it as present."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rewriter.guard.base import Case

LANGUAGES = frozenset({"zh", "ja", "ko", "hi"})

_ZH_DENIED = re.compile(
    r"(?:没有|沒有|不要|不带|不含|不戴|不穿|不加|不放|去掉|别画|别加|避免|请勿|切勿|无(?=文字|水印|人物|阴影|边框"
    r"|标志|字幕))"
    r"(?:出现|包含|任何|一个|一丝|画|有|添加|加入)*((?:[\u4e00-\u9fff]{1,6}?(?:、|或者|或|和"
    r"|与))*[\u4e00-\u9fff]{1,6}?)"
    r"(?=[，。、；！？,.;!?\s的不没]|在|$)"
)
_ZH_CUES = re.compile("[没沒无無不未非别免禁空勿]")
_JA_DENIED = re.compile(
    r"([\u30a1-\u30fa\u30fc]{2,10}|[\u4e00-\u9fff]{1,4})(?:[のがはもを]|に)?"
    r"(?:[一\d][\u4e00-\u9fff]?も)?"
    r"(?:ない|いない|無い|なし|無し|ありません|いません|写っていない|描かない|入れない)"
)
_JA_NOT_DONE = re.compile(
    r"([\u30a1-\u30fa\u30fc]{2,10}|[\u4e00-\u9fff]{1,4})[をがは](?:[一\d][\u4e00-\u9fff]も)?"
    r"([\u4e00-\u9fff]|[ぁ-ん]{2})[ぁ-ん]{0,3}?(?:て|で)い?ない"
)
_SENTENCE = re.compile("[。！？；]")
_JA_CUES = re.compile("な[いくし]|無|ません|ず[、に。]|ゼロ|抜き")
_KO_DENIED = re.compile(
    r"(?<![가-힣])([가-힣]{1,6}?)(?:이|가|은|는|을|를|도)?\s?(?:한 \S{1,3}도 |하나도 |전혀 )?"
    r"(?:없|빼고|빼 |제외|금지|\S{1,4}지\s?(?:않|말|마|못))"
)
_KO_CUES = re.compile("없|않|말고|마라|지 ?마|아니|빼|제외|금지|못")
_KO_PARTICLES = "[은는이가을를도와과의에로만]"
_HI_DENIED = re.compile(
    r"(?:कोई |किसी )?(?P<a>[\u0900-\u0963]{2,}) (?:नहीं|मत)(?=\s*(?:[,।.!?;]|है|हैं|हो|चाहिए|$))"
    r"|(?P<b>[\u0900-\u0963]{2,}) (?:के|की) (?:बिना|बगैर)"
    r"|(?:बिना|बगैर) (?P<c>[\u0900-\u0963]{2,})"
    r"|(?:^|[\s,:;])न (?P<d>[\u0900-\u0963]{2,})"
)
_HI_CUES = re.compile(r"(?:^|\s)(?:नहीं|बिना|बगैर|न|मत|रहित|विहीन|ना)(?=\s|[,।.;]|$)")
_HI_SKIPPED = frozenset(["कोई", "भी", "है", "हैं", "तो", "ही", "यह", "वह", "और"])
_CLAUSES = re.compile(r"[^,.;:!?।、。，；\n]+")


def denied_things(case: Case, language: str) -> Iterator[tuple[str, int, int]]:
    """Denied things that the rewrite describes as present: the thing, and where it stands in the rewrite."""
    if language == "ko":
        yield from _korean(case)
    elif language == "hi":
        yield from _hindi(case)
    else:
        yield from _chinese_or_japanese(case, language == "ja")


def _chinese_or_japanese(case: Case, japanese: bool) -> Iterator[tuple[str, int, int]]:
    original, rewrite = case.original.plain, case.rewrite.plain
    for match in (_JA_DENIED if japanese else _ZH_DENIED).finditer(original):
        elsewhere = original[: match.start()] + "。" + original[match.end() :]
        for thing in re.split("、|或者|或|和|与", match[1]):
            if next(_lone(thing, elsewhere), None) is not None and not _only_denied(thing, elsewhere, japanese):
                continue
            for at in _lone(thing, rewrite):
                if not _is_denied(rewrite, at, len(thing), japanese):
                    yield thing, at, at + len(thing)
                    break
    if japanese:
        yield from _not_done(original, rewrite)


def _only_denied(thing: str, text: str, japanese: bool) -> bool:
    return all(_is_denied(text, at, len(thing), japanese) for at in _lone(thing, text))


def _is_denied(text: str, at: int, size: int, japanese: bool) -> bool:
    """Chinese denies before the noun, Japanese behind it."""
    if japanese:
        return _JA_CUES.search(_SENTENCE.split(text[at + size : at + size + 10])[0]) is not None
    return _ZH_CUES.search(_SENTENCE.split(text[max(0, at - 14) : at])[-1]) is not None


def _not_done(original: str, rewrite: str) -> Iterator[tuple[str, int, int]]:
    """A hat that is not worn: the noun may come back, but not with its verb affirmed."""
    for match in _JA_NOT_DONE.finditer(original):
        pattern = rf"{re.escape(match[1])}[をがは][^。、]{{0,8}}?{re.escape(match[2])}[^。、]{{0,6}}"
        for said in re.finditer(pattern, rewrite):
            if not _JA_CUES.search(rewrite[said.start() : said.end() + 4]):
                yield match[1], said.start(), said.end()
                break


def _lone(thing: str, text: str) -> Iterator[int]:
    """Where `thing` stands in `text`; a single character only where it is surely no part of a longer word."""
    pattern = re.escape(thing)
    if len(thing) == 1:
        pattern = rf"(?:(?<![\u4e00-\u9fff])|(?<=[的扇棵朵只条辆艘盏座])){pattern}(?![\u4e00-\u9fff々])"
    yield from (match.start() for match in re.finditer(pattern, text))


def _korean(case: Case) -> Iterator[tuple[str, int, int]]:
    for match in _KO_DENIED.finditer(case.original.plain):
        pattern = re.compile(rf"(?<![가-힣]){match[1]}(?={_KO_PARTICLES}|[\s,.]|$)")
        yield from _affirmed(match[1], pattern, _KO_CUES, case)


def _hindi(case: Case) -> Iterator[tuple[str, int, int]]:
    for match in _HI_DENIED.finditer(case.original.plain):
        thing = next(group for group in match.groups() if group)
        if thing not in _HI_SKIPPED:
            stem = thing[:-1] if len(thing) > 4 else thing  # मोमबत्ती, मोमबत्तियाँ
            yield from _affirmed(thing, re.compile(rf"(?<![\u0900-\u0963]){stem}"), _HI_CUES, case)


def _affirmed(
    thing: str, pattern: re.Pattern[str], cues: re.Pattern[str], case: Case
) -> Iterator[tuple[str, int, int]]:
    """The first clause of the rewrite that names the thing and denies nothing, unless the original has one too."""

    def places(text: str) -> Iterator[re.Match[str]]:
        for clause in _CLAUSES.finditer(text):
            if not cues.search(clause[0]):
                yield from pattern.finditer(text, clause.start(), clause.end())

    if next(places(case.original.plain), None) is None and (match := next(places(case.rewrite.plain), None)):
        yield thing, match.start(), match.end()
