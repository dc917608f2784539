"""The interchangeable ingredients: plain tables of names, and the blocks that use them."""
