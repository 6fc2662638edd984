"""How the forward of a module is captured: a graph of what it does, and what must hold for that to be all."""
