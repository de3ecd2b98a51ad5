import pytest

from workers.content.searching import query_for


@pytest.mark.parametrize(
    ("topic", "query"),
    [
        ("gardens", '("gardens" OR "garden") -is:retweet'),
        ("open source", '("open" OR "opens") ("source" OR "sources") -is:retweet'),
        ('x" OR from:jack -"y', '"x" "or" ("from" OR "froms") ("jack" OR "jacks") "y" -is:retweet'),
        ("日本語", '"日本語" -is:retweet'),
        ("AI", '"ai" -is:retweet'),
        ("!!!", None),
        ("2026", None),
    ],
)
def test_nothing_in_a_topic_is_an_operator_of_the_search(topic: str, query: str | None) -> None:
    assert query_for(topic) == query


def test_several_languages_are_one_group() -> None:
    assert query_for("AI", ("en", "de", "x:y")) == '"ai" (lang:en OR lang:de) -is:retweet'
