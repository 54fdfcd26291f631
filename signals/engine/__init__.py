"""Always-valid evidence behind every verdict. Pure: plain Python and numpy, no Django, no clock.

`signals.guards` reads ledger rows and hands them over as blocks; `judge` reads them from files.
Both run this very code. Everything here works on *panels*: many guards side by side, so that one
numpy call serves them all. The methods and their sources stand with the functions.
"""
