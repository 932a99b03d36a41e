"""The load benchmark. In order: command, scenarios, session, forms, arrivals, generator, figures, table, write."""
