import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.x import text as texts


def names(text: str, kind: texts.Kind) -> list[str]:
    return [entity.name for entity in texts.entities(text, kind)]


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("", 0),
        ("plain", 5),
        ("日本", 4),
        ("👨‍👩‍👧‍👦", 2),
        ("see https://example.com/a/very/long/path?with=query", 4 + 23),
        ("é", 1),
    ],
)
def test_text_weighs_what_x_counts(text: str, weight: int) -> None:
    assert texts.weight(text) == weight


@pytest.mark.parametrize("chain", ["a." * 30_000, "日本." * 200, "a.b " * 10_000, "x" * 60_000])
def test_a_text_made_to_keep_the_parser_busy_is_just_too_long(chain: str) -> None:
    assert texts.weight(chain) > texts.MAX_WEIGHT
    assert texts.links(chain) == ()


def test_a_long_url_still_weighs_23() -> None:
    assert texts.weight("see https://example.com/" + "x" * 2000) == 4 + 23


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("@ada and @bob_1!", ["ada", "bob_1"]),
        ("mail a@b.c", []),
        ("(@ada)", ["ada"]),
        ("のための@ada", ["ada"]),
        ("https://x.com/@ada", []),
        ("@toolongtobeausernameanywhere", []),
    ],
)
def test_a_mention_begins_a_word(text: str, found: list[str]) -> None:
    assert names(text, "mention") == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("#tea #2day", ["tea", "2day"]),
        ("#1 is no tag", []),
        ("x#tea", []),
        ("https://x.com/#tea", []),
        ("&#39;s", []),
        ("#köln.", ["köln"]),
    ],
)
def test_a_hashtag_has_a_letter_and_begins_a_word(text: str, found: list[str]) -> None:
    assert names(text, "hashtag") == found


@given(st.text())
def test_escaping_is_undone_exactly(text: str) -> None:
    assert texts.unescaped(texts.escaped(text)) == text
    assert not set("<>") & set(texts.escaped(text))


@given(st.text())
def test_an_entity_stands_where_it_says(text: str) -> None:
    kinds: tuple[texts.Kind, ...] = ("mention", "hashtag", "cashtag")
    for kind in kinds:
        for entity in texts.entities(text, kind):
            assert text[entity.start + 1 : entity.end] == entity.name


def test_language_is_english_only_for_latin_letters() -> None:
    assert texts.language("A cup of tea") == "en"
    assert texts.language("чай") == "und"
    assert texts.language("12 + 3") == "und"
