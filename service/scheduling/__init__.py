"""Who is let in, who goes next, and when each will be done."""
