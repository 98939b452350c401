"""The making of preference pairs with a strong and a weak model."""
