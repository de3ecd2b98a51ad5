"""The revisions that the files' names tell are those that Alembic knows."""

from alembic.script import ScriptDirectory

from migrations import revisions, schema


def test_the_names_tell_alembics_revisions_in_its_order() -> None:
    scripts = ScriptDirectory(str(schema.__file__).rpartition("/")[0])
    assert revisions.known() == tuple(reversed([script.revision for script in scripts.walk_revisions()]))
    assert revisions.known()[-1] == schema.head()
