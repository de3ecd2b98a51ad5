"""Discovery before the sandbox's generated world, which knows who of its people is a spammer."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

from config import Config
from coordination import Fleet, accounts
from host.x_account import TOPICS
from sandbox.world.people import Kind
from sandbox.x import credentials
from sandbox.x.posts import User
from sandbox.x.world.population import Inhabited, choose
from tests.integration.conftest import FleetDatabase
from tests.integration.sandbox.running import running
from workers.content.similarity import OFTEN, says_again_and_again
from workers.context import Context
from workers.fleet.discovery import Discovery, DiscoverySettings
from workers.platforms.x import Post, Read, X, XCredentials
from workers.progress import Progress


class Listening(X):
    """X, and who was shown saying what: texts by their author's and their own ids."""

    def __init__(self, url: str, keys: XCredentials) -> None:
        super().__init__(url, keys)
        self.shown: dict[str, dict[str, str]] = defaultdict(dict)

    def search(self, query: str, **options: Any) -> Read[tuple[Post, ...]]:
        found = super().search(query, **options)
        for post in found.value:
            self.shown[post.author_id or ""][post.id] = post.text
        return found


def kinds(state: Path) -> Mapping[str, Kind]:
    """What each person of the default world is, by user id."""
    keys = credentials.load(state)
    account = User(id=int(keys.user_id), username=keys.username, name="Fleet", created_ms=0)
    inhabited = Inhabited(options=choose(), account=account)
    people = inhabited.population.people
    return {str(one): person.kind for one, person in zip(inhabited.ids, people, strict=True)}


def test_the_worlds_spammers_stay_out_of_the_pool_and_nobody_who_behaves_does(
    fleet: Fleet, fleet_database: FleetDatabase, tmp_path: Path
) -> None:
    state = tmp_path / "x"
    person = fleet_database.database("console")
    accounts.set_topics(person, "sandbox", list(TOPICS), actor="me", reason="what its people speak of")
    person.close()
    with running(state) as sandbox:
        x = Listening(sandbox.url, XCredentials.from_file(state / credentials.FILE))
        context = Context(config=Config(), account="sandbox")
        context.__dict__["x"] = x
        worker = Discovery(context=context, fleet=fleet, progress=Progress(), draining=Event())
        worker.settings = DiscoverySettings(searches_per_step=len(TOPICS), min_score=0)
        worker.step()
    people = kinds(state)
    busy = {author for author, said in x.shown.items() if people[author] == "spammer" and len(said) >= OFTEN}
    assert busy, "the searches show no spammer often enough to be known for one"
    with fleet_database.owner() as owner:
        pooled = {row[0] for row in owner.execute("SELECT author_id FROM fleet.candidates").fetchall()}
        event = owner.execute("SELECT data FROM fleet.events WHERE kind = 'discovered'").fetchone()
    assert event is not None
    assert not busy & pooled
    assert event[0]["dropped"]["says it again and again"] >= OFTEN * len(busy)
    behaved = [said for author, said in x.shown.items() if people[author] == "ordinary"]
    assert len(behaved) > len(busy)
    assert not [said for said in behaved if says_again_and_again(said.values())]
