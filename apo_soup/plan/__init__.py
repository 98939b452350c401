"""What a recipe will do, told before it runs."""
