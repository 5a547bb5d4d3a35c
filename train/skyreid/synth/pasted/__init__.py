"""Training pictures for a person detector: rendered people pasted onto what is no person.

Dwibedi et al., "Cut, Paste and Learn" (ICCV 2017, arXiv 1708.01642): a detector that sees an object
cut out and pasted anywhere learns the object and not its surroundings, if whatever else is pasted
the same way. Here the people are rendered, so that nobody has to be photographed or labelled.
"""
