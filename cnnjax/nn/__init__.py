"""The interchangeable ingredients: tables of levels by name, and the blocks that use them."""
