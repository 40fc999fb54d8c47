"""Numbers in Chinese, Japanese and Korean text, where a counting word tells a number from a part of another word."""

from __future__ import annotations

import re
from collections.abc import Iterator

_DIGIT = dict(zip("〇零一二三四五六七八九两兩俩仨", (0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 2, 2, 3), strict=True))
_SCALE = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "萬": 10_000}
_HUGE = 10**12
_NUMBER = re.compile("[〇零一二三四五六七八九两兩俩仨十百千万萬]+")
_COUNTED = re.compile(
    "(?<!第)(?<![〇零一二三四五六七八九两兩十百千万萬])([〇零一二三四五六七八九两兩十百千万萬]+)"
    "(?:个|個|只|隻|条|條|张|張|朵|位|名|匹|头|頭|辆|輛|座|把|本|件|颗|顆|棵|片|块|塊|根|支|枝|杯|瓶|碗|盘|盤|群|层"
    "|層|间|間|艘|架|台|臺"
    "|幅|串|束|扇|滴|粒|盏|盞|副|套|栋|棟|株|枚|岁|歲|歳|排|つ|羽|冊|軒|着|足|機|体|時|点(?!点|儿)|點|度(?!假)|级|級"
    "|人(?!称|稱|物|工|生|间|間))"
)
_BARE_SCALE = re.compile("[百千万萬]+")
_ABOUT = re.compile("[一二三四五六七八九两][一二三四五六七八九]")
_PAIR = re.compile("一[对對双雙](?!眼|手|鞋|靴|袜|翅|耳|筷|腿|脚|角|一)")
_DOZEN = re.compile("(半|一|1)?ダース|(半|一)打")
_HINTS = {
    2.0: ("对", "對", "双", "雙", "両", "ペア", "ふたつ", "ふたり", "둘", "쌍", "부부", "커플"),
    3.0: ("みっつ", "셋"), 4.0: ("よっつ", "넷"), 5.0: ("いつつ", "다섯"), 6.0: ("むっつ", "여섯"),
    7.0: ("ななつ", "일곱"), 8.0: ("やっつ", "여덟"), 9.0: ("ここのつ", "아홉"),
}  # fmt: skip

_KO_TENS = {
    "열": 10,
    "스물": 20,
    "스무": 20,
    "서른": 30,
    "마흔": 40,
    "쉰": 50,
    "예순": 60,
    "일흔": 70,
    "여든": 80,
    "아흔": 90,
}
_KO_UNITS = {
    "하나": 1, "한": 1, "둘": 2, "두": 2, "셋": 3, "세": 3, "석": 3, "넷": 4, "네": 4, "넉": 4, "다섯": 5, "여섯": 6,
    "일곱": 7, "여덟": 8, "아홉": 9,
}  # fmt: skip
_SINO = {char: value for value, char in enumerate("영일이삼사오육칠팔구")} | {"공": 0}
_SINO_SCALE = {"십": 10, "백": 100, "천": 1000, "만": 10_000}
_KO_COUNTERS = (
    "마리|명|개|송이|권|그루|대|채|장|병|잔|컵|조각|켤레|쌍|살|시|척|자루|줄|벌|가지|층|번|호|년|"
    "통|알|판|다발|사람|시간|쪽|도|그릇|접시|봉지"
)
_KOREAN = re.compile(
    rf"(?<![가-힣])(?:({'|'.join(_KO_TENS)})?({'|'.join(_KO_UNITS)})?"
    rf"|((?:[일이삼사오육칠팔구]?[십백천만])+[일이삼사오육칠팔구]?))"
    rf"\s?(?:{_KO_COUNTERS})"
)


def counted(text: str) -> Iterator[tuple[float, int, int]]:
    """Exact counts with a counting word behind them: value, start, end."""
    if text.isascii():
        return
    for match in _COUNTED.finditer(text):
        if _BARE_SCALE.fullmatch(match[1]) or _ABOUT.search(match[1]):
            continue  # thousands as a manner of speaking; "three or four"
        yield _read(match[1]), match.start(), match.end()
    for match in _PAIR.finditer(text):
        yield 2.0, match.start(), match.end()
    for match in _DOZEN.finditer(text):
        yield 6.0 if "半" in match[0] else 12.0, match.start(), match.end()
    yield from _korean(text)


def present(text: str) -> set[float]:
    """All numbers that `text` may be said to name."""
    values: set[float] = set()
    if text.isascii():
        return values
    for match in _NUMBER.finditer(text):
        values.add(_read(match[0]))
        if not set(match[0]) & _SCALE.keys():  # 二〇四九; 三四
            values.add(float("".join(str(_DIGIT[char]) for char in match[0])[:12]))
            values |= {float(_DIGIT[char]) for char in match[0]}
    for match in _DOZEN.finditer(text):
        values.add(6.0 if "半" in match[0] else 12.0)
    for value, hints in _HINTS.items():
        if any(hint in text for hint in hints):
            values.add(value)
    return values | {value for value, _, _ in _korean(text)}


def _korean(text: str) -> Iterator[tuple[float, int, int]]:
    for match in _KOREAN.finditer(text):
        if match[3]:
            yield _read_sino(match[3]), match.start(), match.end()
        elif match[1] or match[2]:
            value = _KO_TENS.get(match[1] or "", 0) + _KO_UNITS.get(match[2] or "", 0)
            yield float(value), match.start(), match.end()


def _read(text: str) -> float:
    return _sum(text, _DIGIT, _SCALE)


def _read_sino(text: str) -> float:
    return _sum(text, _SINO, _SINO_SCALE)


def _sum(text: str, digits: dict[str, int], scales: dict[str, int]) -> float:
    total, section, digit = 0, 0, 0
    for char in text:
        if char in digits:
            digit = digits[char]
        elif scales[char] == 10_000:
            total, section, digit = (total + section + digit) * 10_000, 0, 0
        else:
            section += (digit or 1) * scales[char]
            digit = 0
    return float(min(total + section + digit, _HUGE))
