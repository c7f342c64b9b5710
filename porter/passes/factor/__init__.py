"""From the flat program back to modules: the tree of calls, lists and loops, and the classes that blocks share."""
