"""Haul: what a search brings in, without those who say it again and again and without copies."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime

from coordination.accounts import Account
from coordination.candidates import Find, Pool, Pooled
from workers.content.similarity import Copy, best_of_each, find_copy, fingerprint, says_again_and_again
from workers.platforms.x import Post


@dataclass(kw_only=True)
class Haul:
    """What one step brings in: what it found, who said what, and why so much of it is left out."""

    account: Account
    now: datetime
    found: int = 0
    searches: list[str] = field(default_factory=list[str])
    finds: dict[str, Find] = field(default_factory=dict[str, Find])
    said: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """The texts by their authors' and their own ids, whatever they are worth; reposts are others' words."""
    dropped: Counter[str] = field(default_factory=Counter[str])

    def hear(self, post: Post) -> None:
        """Keep what its author says, whatever becomes of the post."""
        if post.author_id is not None and not post.is_repost:
            self.said.setdefault(post.author_id, {})[post.id] = post.text

    def leave_out_repeaters(self) -> None:
        """Who says nearly the same again and again is left out whole, the best of it too."""
        authors = {find.author_id for find in self.finds.values()}
        repeaters = {author for author in authors if says_again_and_again(self.said[author].values())}
        for find in list(self.finds.values()):
            if find.author_id in repeaters:
                del self.finds[find.platform_id]
                self.dropped["says it again and again"] += 1

    def without_copies(self, pool: Pool) -> list[Find]:
        """Of every group of copies the best stays; a better copy replaces one that waits in the pool."""
        kept, copies = best_of_each(
            self.finds.values(), text=lambda find: find.text, rank=lambda find: find.score
        )
        for copy in copies:
            self._drop(copy)
        ids = {find.platform_id for find in kept}
        pooled = [post for post in pool.posts if post.platform_id not in ids]
        prints = [fingerprint(post.text) for post in pooled]
        new: list[Find] = []
        for find in kept:
            copy = find_copy(fingerprint(find.text), prints)
            other = None if copy is None else pooled[copy.place]
            if copy is None or other is None:
                new.append(find)
            elif other.waiting and self._latest_score(other) < find.score:
                new.append(replace(find, replaces=(other.platform_id,)))
            else:
                self._drop(copy)
        return new

    def _drop(self, copy: Copy) -> None:
        self.dropped["copy" if copy.is_exact else "near-duplicate"] += 1

    def _latest_score(self, pooled: Pooled) -> float:
        """What one in the pool is worth by now, where it was found again."""
        found = self.finds.get(pooled.platform_id)
        return pooled.score if found is None else found.score
