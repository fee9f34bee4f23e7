"""kill -9 of writer, back-fill, exporter and database at random moments, and what must hold afterwards.

A trial is one kill: three processes work on a small database, one of them, or the server, or all of it is killed, what was
killed is started again, and everything is compared: stored rows with a plain statement of what each acknowledged batch adds,
features with those of a second database that nobody disturbed, data sets with the same export made in quiet. A few trials
are a test; ``make soak`` counts on towards a thousand. ``python -m tests.crash SEED`` repeats the trials of a seed.
"""
