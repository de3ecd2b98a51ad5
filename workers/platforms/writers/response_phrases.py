"""What the built-in responder says about another's post: every opener goes with every thought and closer.

An opener holds the topic once. It agrees to nothing in particular: nobody knows here what the post claims.
Thoughts and closers are `phrases`': they are true of any craft.
"""

REPLY_OPENERS = (
    "Glad to see somebody write about {topic}.",
    "More of {topic}, please.",
    "A nice look at {topic}.",
    "I keep coming back to {topic} too.",
    "Always happy to read about {topic}.",
    "This is why I follow people who care about {topic}.",
    "You don't see {topic} told like that every day.",
    "Thanks for sharing a bit of {topic}.",
    "There is a lot in {topic} that is easily missed.",
    "Good to hear from somebody close to {topic}.",
    "Something to think about on {topic}.",
    "That's a side of {topic} I'd like to know better.",
    "Reading along: {topic} never gets old.",
    "It's the small things about {topic}, isn't it?",
    "One more reason to spend time on {topic}.",
    "Saved for the next time I get to {topic}.",
)

QUOTE_OPENERS = (
    "Worth a read if you care about {topic}:",
    "On {topic}, from somebody who is at it:",
    "Passing this on to everyone into {topic}.",
    "A good find about {topic}.",
    "For those who follow {topic}:",
    "Today's pick on {topic}.",
    "This made me think about {topic} again.",
    "Bookmarked under {topic}.",
    "If {topic} is your thing, look below.",
    "{topic}, seen from another side:",
    "A voice on {topic} that deserves readers.",
    "Came across this while reading about {topic}.",
)
