"""Identity: who the account is on the platform, asked once and then known to the database."""

from coordination import Fleet
from coordination.accounts import Account
from coordination.errors import InvalidValueError
from workers.errors import NeedNotMetError
from workers.outside.reads import read
from workers.platforms.x import X, XUnauthorized


def identify(fleet: Fleet, x: X, account: str, worker_id: str) -> Account:
    """Give the account with its platform id and handle; the platform is asked only while nobody knows them.

    Raises:
        NeedNotMetError, XError, NoGrantError: as `confirm`.
    """
    known = fleet.accounts.get(account)
    if known.platform_user_id is not None and known.handle is not None:
        return known
    return confirm(fleet, x, account, worker_id)


def confirm(fleet: Fleet, x: X, account: str, worker_id: str) -> Account:
    """Ask the platform whose credentials these are, and hold its answer against what is known.

    Raises:
        NeedNotMetError: the credentials are refused, or somebody else's than before.
        XError, NoGrantError: the platform can't be asked now.
    """
    try:
        answer = read(fleet, "users_me", x.me, account=account, worker_id=worker_id)
        return fleet.accounts.confirm_identity(account, answer.value.id, answer.value.username)
    except (XUnauthorized, InvalidValueError) as error:
        raise NeedNotMetError(str(error)) from error
