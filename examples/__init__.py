"""Small working examples of what a project adds to ai-assets. The tests run all of them."""
