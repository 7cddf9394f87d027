"""The command line: one file per verb, imported when the verb runs; errors become one line here."""
