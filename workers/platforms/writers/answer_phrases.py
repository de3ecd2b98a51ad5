"""What the built-in answers say: every opener of a tone goes with every thought and every closer.

Nothing here claims a fact, takes a side or promises anything. Reports hold the score and the topic.
"""

from collections.abc import Mapping

GUESSES = 256
"""How many combinations are tried against the texts to avoid."""

OPENERS: Mapping[str, tuple[str, ...]] = {
    "how": (
        "Step by step, and with breaks.",
        "Start smaller than feels sensible.",
        "We'd begin with the plainest version that works.",
        "Slowly at first; it gets quicker by itself.",
        "By trying twice and writing down what changed.",
        "One thing at a time, as dull as that sounds.",
        "With more patience than plan, to be honest.",
        "Copy somebody you trust, then change one thing.",
    ),
    "choice": (
        "The one you'd still like on a bad day.",
        "Try both for a week, then keep the one you miss.",
        "Whichever is easier to stop again.",
        "We lean to the simpler of the two.",
        "Both have their days; start with what you have.",
        "The one that a friend can explain to you.",
        "Hard to choose; the cheaper one teaches just as much.",
    ),
    "what": (
        "Good question.",
        "There is more than one answer to that.",
        "We keep asking ourselves the same.",
        "It depends, and the parts it depends on are the fun.",
        "Short answer: less than most people think.",
        "We'd look at what you already do well.",
        "A fair thing to ask.",
        "Our guess, and it is one:",
    ),
    "question": (
        "Often, yes.",
        "In our experience, mostly.",
        "Sometimes, and it is worth finding out when.",
        "We think so.",
        "Good of you to ask.",
        "It can, with a little luck.",
        "Depends on the day, honestly.",
    ),
    "thanks": (
        "Thank you, that is kind.",
        "Glad it was of use.",
        "That made our day.",
        "Happy to hear it.",
        "Thanks for saying so.",
        "Much appreciated.",
    ),
    "remark": (
        "That rings true.",
        "Thanks for sharing that.",
        "Well observed.",
        "We hadn't looked at it like that.",
        "Good to know.",
        "That matches what others tell us.",
        "Interesting, thank you.",
        "A nice way to put it.",
    ),
}

REPORTS_WITH_SCORE: Mapping[str, tuple[str, ...]] = {
    "good": (
        "We had a look: {score} of 100 by our measure, closest to {topic}. Worth the time.",
        "Looked at it. {score} out of 100 here, mostly for {topic}. A good find.",
        "Read it, thanks. By our count {score} of 100, and it fits {topic} well.",
        "That one does well with us: {score} of 100, filed under {topic}.",
    ),
    "plain": (
        "We had a look: {score} of 100 by our measure, closest to {topic}.",
        "Looked at it. {score} out of 100 here, with {topic} as the nearest topic.",
        "Read it, thanks. By our count {score} of 100; {topic} is not quite its subject.",
        "Had a look: {score} of 100 with us, somewhere near {topic}.",
    ),
    "aside": (
        "We had a look: {score} of 100 by our measure; it is none of our subjects.",
        "Looked at it. {score} out of 100 here, a little off our path.",
        "Read it, thanks. By our count {score} of 100, and new ground to us.",
        "Had a look: {score} of 100 with us, since it is about something else.",
    ),
}

REPORTS_OF_NOTHING = (
    "We tried to look, but the post isn't there for us to see.",
    "That post didn't open for us; maybe it is gone.",
    "We'd have looked, but the post can't be found from here.",
    "No luck: the post isn't visible to us.",
)

THOUGHTS = (
    "The basics carry further than the tricks.",
    "Small steps add up.",
    "Writing it down helps more than it should.",
    "Asking why once more is rarely wasted.",
    "The second try teaches the most.",
    "A short list that gets done beats a long one.",
    "Doing less, with care, often turns out better.",
    "Listening first saves time.",
    "Most of it is showing up again.",
    "A clear example beats a page of theory.",
    "Fresh eyes find what hours of staring miss.",
    "Simple tools go surprisingly far.",
    "It gets easier to see after a month.",
    "Explaining it to a friend shows the gaps.",
    "Rest is part of it.",
    "The details change; the reasons hardly do.",
    "Good enough, decided early, saves a week.",
    "Curiosity outlasts motivation.",
)

CLOSERS = (
    "How has it been for you?",
    "Tell us how it goes.",
    "Curious what you find.",
    "Thanks for writing.",
    "What made you ask?",
    "Back to you.",
    "Let's see.",
    "Good luck with it.",
    "That's all we know.",
    "More when we know more.",
    "What would you try first?",
    "Glad you asked.",
    "We'd love to hear your way.",
    "Enjoy the rest of the day.",
)
