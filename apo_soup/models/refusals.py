"""How a model says that it does not take what it is called with."""

# What models, and code of their own that came with them, raise over arguments they do not take.
FORWARD_ERRORS = (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError, LookupError, AssertionError)
