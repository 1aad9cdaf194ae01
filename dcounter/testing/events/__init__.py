"""
What may happen in a simulated world: what callers ask for, and what breaks.

An event is a function of a `World` and a row of `table.EVENTS`. To add one, write the function beside its
like and give it a row at the end of the table: the seeds tell other stories then. It draws all that is left
to chance from `World.random`, tells what it does (`World.fault`, `History.note`), and schedules what is to
happen later (`World.after`), its own end above all.
"""
