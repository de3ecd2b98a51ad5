"""The keeper: the process that every worker of this host is a child of, and that does nothing else.

It forks the manager process first, imports what workers need, and then forks, reaps and holds. It has one
thread and no connection, so nothing but a signal from outside can end it; and its end is everybody's.
"""
