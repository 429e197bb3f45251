"""Golden cases: the reference implementations' numbers, reproduced here."""
