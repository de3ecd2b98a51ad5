"""Built-in world: a few people and their posts, for a sandbox that is given no other."""

from datetime import UTC, datetime
from pathlib import Path

from sandbox.x import worlds
from sandbox.x.worlds import World

NAME = "built-in"

_POSTS = """\
created_at,user,text,retweets,replies,favorites,impressions
2026-02-02T07:58:00Z,mira_bakes,"Sourdough, day 4: it bubbles. I am far too proud of flour & water. #baking",3,5,61,1840
2026-02-02T12:21:00Z,tilda_maps,"A map is a promise: everything left out was left out on purpose. #maps #design",41,9,233,9120
2026-02-03T06:30:00Z,old_harbour,"Ferry delayed by fog. The gulls are on time.",12,4,180,5210
2026-02-03T17:05:00Z,jonas_codes,"Today's bug: a timeout of 30, in a field that counts milliseconds. Put the unit in the name. #python",88,31,640,22410
2026-02-04T09:12:00Z,quiet_birds,"First blackbird of the year, 06:41, on the neighbour's antenna. #birds",9,3,97,2650
2026-02-04T20:44:00Z,mira_bakes,"@jonas_codes does your oven timer count milliseconds too?",1,2,38,900
2026-02-05T08:00:00Z,prof_okafor,"Office hours moved to Thursday. Bring the proof you are least sure of. #mathematics",2,6,44,1730
2026-02-05T19:33:00Z,rosa_runs,"10 km in the rain, 52 minutes, one dog who disagreed with my route. #running",4,11,120,3300
2026-02-06T11:15:00Z,jonas_codes,"Wrote 40 lines, deleted 200. A good day. #python",57,14,702,18890
2026-02-07T10:02:00Z,tilda_maps,"RT @quiet_birds: First blackbird of the year, 06:41, on the neighbour's antenna. #birds",0,0,0,410
2026-02-07T15:47:00Z,old_harbour,"New bench at the pier. Somebody has already carved a heart into it.",18,7,260,6040
2026-02-08T08:25:00Z,quiet_birds,"A wren weighs as much as two sheets of paper and sings louder than my alarm clock. #birds",63,12,511,14020
2026-02-09T13:09:00Z,prof_okafor,"A student asked why we prove what everybody can see. Because we all see different things. #mathematics",120,28,1402,40110
2026-02-10T18:52:00Z,rosa_runs,"Training plan week 3: the hill has not become smaller. #running",5,8,83,2210
2026-02-11T07:40:00Z,mira_bakes,"The loaf rose. The cat noticed first. #baking https://example.com/loaf",22,17,340,8005
2026-02-12T16:20:00Z,lena_garden,"Tomato seeds are in. 22 pots on one windowsill; the curtain no longer closes. #garden",7,9,141,3920
2026-02-13T09:55:00Z,tilda_maps,"Four colours are enough for any map & for most arguments about maps. #maps #mathematics",77,19,684,19800
2026-02-14T12:00:00Z,lena_garden,"Asked for flowers, got a bag of compost. He knows me. #garden",31,22,905,24100
2026-02-15T21:11:00Z,jonas_codes,"If a test can't fail it is a comment that burns electricity. #python #testing",210,44,2011,61050
2026-02-16T06:58:00Z,old_harbour,"Low tide at 06:58. If x < y the boats sit on the mud; today they sit on the mud.",6,2,88,2480
2026-02-17T10:30:00Z,quiet_birds,"@lena_garden leave one corner wild, the goldfinches will pay you in song. #birds #garden",8,5,132,3090
2026-02-18T19:04:00Z,rosa_runs,"Rest day. I walked past the shoes four times. #running",3,6,74,1900
2026-02-19T14:14:00Z,prof_okafor,"Marking 60 exams: the commonest wrong answer is the one I explained best. #mathematics",45,33,798,20730
2026-02-20T08:08:00Z,mira_bakes,"Rye bread recipe is up. It takes two days; most of that is waiting. #baking",34,12,419,10900
"""


def load(*, taken: str) -> World:
    """The world; `taken` is the username of the sandbox's own account."""
    loaded = worlds.load(Path(NAME), _POSTS.encode(), taken=taken)
    if loaded.reports:
        raise AssertionError(loaded.reports)
    return loaded


def digest() -> str:
    """What tells this version of the world from another."""
    return worlds.digest(_POSTS.encode())


LATEST = datetime(2026, 2, 20, 8, 8, tzinfo=UTC)
