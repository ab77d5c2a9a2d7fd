"""What a home no longer needs, and removing it: nothing grows for ever, and nothing that counts is removed."""
