"""The zoo: ports many models, each in a process of its own, and measures what comes out."""
