"""X's accounts, as its answers carry them."""

from pydantic import Field, StrictBool

from workers.platforms.x_wire import Count, Id, Text, Username, Wire


class Reach(Wire):
    """How many an account reaches; None where X did not say."""

    followers: Count | None = Field(None, validation_alias="followers_count")
    following: Count | None = Field(None, validation_alias="following_count")


class User(Wire):
    """An account; None where X did not say, which is neither zero nor no."""

    id: Id
    username: Username
    name: Text | None = None
    description: Text | None = None
    verified: StrictBool | None = None
    reach: Reach | None = Field(None, validation_alias="public_metrics")

    @property
    def followers(self) -> int | None:
        """How many follow the account."""
        return self.reach and self.reach.followers

    @property
    def following(self) -> int | None:
        """How many the account follows."""
        return self.reach and self.reach.following
